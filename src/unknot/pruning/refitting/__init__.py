"""The weights that are left, mended in closed form.

`reconstruction` is the way in (`refit`). `original` samples what the model returned, `fitting` refits
the pruned one to it from the front, by the regression in `ridge`; `consumers` finds what comes between a
layer and those that take in its outputs.
"""

"""The weights that are left, mended in closed form.

`reconstruction` is the way in (`refit`), `ridge` the regression, `consumers` finds what comes between
a layer and those that take in its outputs.
"""

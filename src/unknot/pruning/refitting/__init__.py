"""The weights that are left, mended: in closed form, and by some steps of training.

`reconstruction` is the way in (`refit`). `original` samples what the model returned, `fitting` refits
the pruned one to it from the front, towards `targets`, by the regression in `ridge`; `consumers` finds
what comes between a layer and those that take in its outputs. What is still missing, `polishing` mends by
training towards the original's outputs (`polish`): `distillation` compares these, `views` shows more of
each image.
"""

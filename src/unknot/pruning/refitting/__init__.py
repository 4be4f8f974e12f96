"""The weights that are left, mended: in closed form, and by some steps of training.

`reconstruction` is the way in (`refit`), `ridge` the regression, `consumers` finds what comes between
a layer and those that take in its outputs. What is still missing, `polishing` mends by training towards
the original's outputs (`polish`): `distillation` compares these, `views` shows more of each image.
"""

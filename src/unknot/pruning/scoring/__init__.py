"""How much each filter matters.

`scores` is the way in (`score_filters`). `responses` runs the model, `observations` says what each
filter did on the samples; `elder`, `betti` and `surgeon` are the criteria that are more than a
formula; `thresholds` asks what a Betti threshold depends on.
"""

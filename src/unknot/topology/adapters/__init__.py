"""Where points come from, and where their topology goes, in the terms of other tools.

`point_files`: clouds from .npy, .npz, .csv and .tsv files. `estimators`: Betti numbers and islands of
many clouds as features, by the conventions of scikit-learn.
"""

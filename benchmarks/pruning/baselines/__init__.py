"""Other people's ways to make a trained net smaller, each from its paper's formulas, one a file.

All are given one `Task`: a net, 512 calibration images and a share of its MACs. All but the last of
GRAIL's selectors take the same share of every pool of channels. What each may set was chosen on
training seeds 0 and 1 of the ResNets of CIFAR-10 and of cats vs dogs, at three quarters of the MACs
(`benchmarks/pruning/baseline_settings.py`); each file says what was tried, and the points of accuracy
that were lost with it, mean over these four nets.
"""

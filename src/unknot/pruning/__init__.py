"""A trained model made smaller: score, plan, remove, refit, compare.

`pipeline` is the whole way (`shrink`). On it: which channels belong together (`structure`), which
filters matter (`scoring`), which go under a budget (`planning`), the smaller model (`removal`), the
next layers' weights mended (`refitting`), before and after (`outcome`), on disk (`artifact`),
for other programs (`exports`).
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

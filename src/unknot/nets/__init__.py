"""A neural network, the user's or ours: sampled, run, recorded, trained, timed.

`probe` draws samples from any loader, `running` calls a model and leaves it as it was, `follower`
sees the steps of a run, `recording` keeps what layers return. `data`, `images`, `models` and `training`
are for those who bring nothing; `accuracy`, `cost` and `timing` say what a model is worth and takes.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

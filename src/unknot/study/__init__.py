"""Epochs to a target, and how good after a budget: which activation is ahead, fairly.

`study` runs what its `options` ask for: a `task` is one activation on one data set, its nets trained at
once (`stack`, `stacked_training`), and `trials` is the file that they go to. `results` are epochs to
target; `survival` draws and compares times of which some never ended; `untangling` asks what
Betti numbers say about them; an `overview` has it all. `budget` has scores after epochs or seconds.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

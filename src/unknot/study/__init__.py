"""Epochs to a target: which activation gets there first, fairly.

`study` runs, chooses and reports (`Study`); a `task` is one activation on one data set, its nets
trained at once (`stack`, `stacked_training`); `trials` is the file they go to; `survival` compares
times of which some never ended; `untangling` asks what Betti numbers say about them.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

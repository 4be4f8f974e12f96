"""What the layers of a model return for many samples, in bounded memory.

`recorder` runs the model once a group of layers; where that would be too often, `lockstep` runs all
batches side by side, by a plan of `sweeps`, in the threads of `strands` and the `surroundings` that torch
holds for each; `products` turns wide layers into distances, `embedding` these into points. `outputs` has
the results.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

"""What the layers of a model do to the topology of its data: once, or while it trains.

`clouds` cuts a layer's output into clouds, `meter` counts them (`measure`), beside copies with random
weights (`nulls`), `monitor` does it every few epochs, and `options` is how. `profile` is the result, made
of `records`, shown by `frames` and `projection`; `journal` keeps it on disk, epoch by epoch.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

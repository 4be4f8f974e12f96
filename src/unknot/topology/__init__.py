"""Points in, Betti numbers out; without torch.

Points (`cloud`, `shapes`; from files in `adapters`, beside estimators) or `distances` become a neighbour
graph (`graph`) at a scale (`scale`, which holds one of two `rules`); the graph becomes Betti numbers
(`homology`; many clouds, and the subsamples of one, in `batch`). Which scale: `calibration`. What hangs
on no scale: `multiscale`.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

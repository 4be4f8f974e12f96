"""Activation functions that fold space, and how to put them into a model.

`functions` are the formulas (`fused` runs them in the engine), `folds` the modules, `baselines` their
published rivals. `gains` says how weights must be scaled before them; `replacement` puts them into
whole models, with `functional_calls` for those that a model calls as functions.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

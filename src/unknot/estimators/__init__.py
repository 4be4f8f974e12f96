"""Estimators of scikit-learn for tables: nets that fold, their activation chosen on held-out rows.

`classifier` and `regressor` are `base` with classes or numbers to learn (`problems`). A table goes
through `preparation`; the cells of a `grid` are tried, and the best ones train an ensemble; `descent`
trains many nets at once, and a `stream` goes on with them.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)

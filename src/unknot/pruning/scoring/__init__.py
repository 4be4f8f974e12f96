"""How much each filter matters.

`scores` is the way in (`score_filters`). `criteria` says what a criterion is and knows all by name;
`formulas`, `elder`, `surgeon` and `betti` are ours. `responses` runs the model, `observations` says
what each filter did on the samples; `thresholds` asks what a Betti threshold depends on.
"""

# On import they register themselves, so that whoever looks a name up finds ours.
from unknot.pruning.scoring import betti, elder, formulas, surgeon

__all__ = ["betti", "elder", "formulas", "surgeon"]

"""What became of a model: accuracy or closeness, cost, and other criteria at the same budgets.

`outcome` is what `shrink` tells, `comparison` prunes by other criteria, `closeness` compares outputs
where there are no labels.
"""

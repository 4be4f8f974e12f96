"""How results are shown: as frames and tables, and drawn.

`frames`: what a result says as columns, for pandas, notebooks and terminals. `drawing`: axes, colours
and the few kinds of charts that results of all rooms share. pandas and matplotlib load when asked for.
"""

"""How long a pruned model takes on this machine, without making it.

`calls` are the convolutions and matrix products that a model makes, `stopwatch` times them with fewer
channels, `surfaces` tells their time at any width, `latency_model` that of the whole pruned model.
`multiples` finds the widths that are fast here, `aiming` meets a limit on the pruned model itself.
"""

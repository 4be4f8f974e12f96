"""How much of each pool of channels may go, measured on the model's output.

`curves` cuts each pool alone, refits the rest and sees what the output loses; `prefix` spares it the
layers in front of the cut. `planning.widths` chooses widths by it.
"""

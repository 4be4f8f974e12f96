"""Which channels of a model belong together, and what proves it.

`channels` traces which layers share them, `pools` gathers those that can go only together, and
`masking` computes what a model returns without them, by no code that the rest uses. `layers` knows
which layers have filters, `linear_maps` which are matrices in disguise.
"""

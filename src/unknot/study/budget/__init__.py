"""How good after so many epochs or seconds, on held-out samples.

`options` say what is asked; `tuning` chooses a cell for each budget and runs what is missing, a `task` at
a time; `trials` is what is kept of each net; `results` are scores, differences and seconds to a target,
drawn by `charts`; `pairs` is the test behind a difference.
"""

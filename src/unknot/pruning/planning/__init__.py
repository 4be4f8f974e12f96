"""Which filters go under a budget, and why.

`plan` is the way in (`plan_pruning`), `ranking` puts channels in order, `budget` finds how many have
to go, `rounds` divides a budget over several rounds. `by_layer` is the table of a plan. How long the
pruned model takes on this machine is predicted in `speed`.
"""

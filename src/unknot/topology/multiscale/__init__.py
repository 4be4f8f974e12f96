"""What hangs on no single scale.

`density`: the islands of a cloud, over all levels of density. `spanning_tree`: how tangled classes are,
over all distances. `sweep`: Betti numbers over a grid of scales. `curve`: over a grid of radii.
"""

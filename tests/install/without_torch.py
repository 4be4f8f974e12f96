"""The topology of points where little is installed: run with the Python that unknot was installed into.

Without arguments: Betti numbers, calibration and the rest of the topology of points with nothing but
NumPy, SciPy and lazy_loader importable. With arguments: the command `unknot` with these, torch not
importable.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

ENOUGH = {"numpy", "scipy", "lazy_loader", "unknot"}
TORCH = {"torch", "safetensors", "lightning", "transformers", "accelerate"}


class Blocked(MetaPathFinder):
    """Finds nothing that a smaller environment would not have."""

    def __init__(self, torch_only: bool) -> None:
        self._torch_only = torch_only

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        top = name.partition(".")[0]
        if top in TORCH or not (self._torch_only or self._enough(top)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    @staticmethod
    def _enough(top: str) -> bool:
        return top in ENOUGH or top in sys.stdlib_module_names or top.startswith("_")


def topology() -> None:
    import unknot as uk

    assert "numpy" not in sys.modules, "import unknot imports numpy"
    shape = uk.make_shape("rings", pairs=2, n=600, seed=0)
    scale = uk.calibrate(shape.points, shape.labels)
    assert scale.determined, scale
    for label, truth in shape.betti.items():
        points = shape.points[shape.labels == label]
        graph = uk.knn_graph(points, k=scale.k, hops=scale.hops)
        assert uk.betti_numbers(graph).values == truth[:2], (label, scale)
    radius = uk.calibrate(shape.points, shape.labels, rule="radius").radius
    assert radius is not None
    batch = uk.betti_numbers_batch([shape.points[shape.labels == c] for c in (0, 1)], radius=radius)
    assert [b.values for b in batch] == [shape.betti[c][:2] for c in (0, 1)]
    first = shape.points[shape.labels == 0]
    low, high = uk.topology.betti_interval(first, scale, repeats=3)[0]
    assert low <= shape.betti[0][0] <= high
    assert uk.topology.sensitivity(shape.points, shape.labels, scale=scale)
    assert uk.topology.estimate_memory(len(first)) > 0
    try:
        uk.measure  # noqa: B018
    except ImportError as error:
        assert isinstance(error, uk.InputError)
        assert "pip install torch" in str(error), error
    else:
        raise AssertionError("uk.measure without torch")
    foreign = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - ENOUGH
    print("without torch: ok; unknot", uk.__version__, "from", uk.__file__, "imported", sorted(foreign))


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocked(torch_only=len(sys.argv) > 1))
    if len(sys.argv) > 1:
        from unknot.cli.app import main

        main(sys.argv[1:])
    else:
        topology()

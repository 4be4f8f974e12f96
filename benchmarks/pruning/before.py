"""The nets of half_the_loss.py pruned by an earlier version of unknot: what it did by default.

    UNKNOT_DATA=... PYTHONPATH=/path/to/earlier/src python benchmarks/pruning/before.py \\
        --folder benchmarks/raw/pruning-5000 --set cifar10 --net resnet --seed 100

The default criterion and the default spread of a budget over the layers, scored and refitted on 512
images without labels, as in docs/pruning.md; and `uk.shrink` as it comes, which used 400 images to
score and 256 to refit. Prints one JSON object: {share of the MACs: {"accuracy", "removed", "shrink"}}.
Half_the_loss.py runs this in a process of its own, because two versions do not go into one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nets import NETS, SETS, Size, split, test_accuracy, trained

import unknot as uk
from unknot.nets.training import one_thread

SHARES = (0.5, 0.75)
CALIBRATION = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the trained nets are")
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    with one_thread():
        found = accuracies(asked.folder, asked.set, asked.net, asked.seed)
    print(json.dumps({"unknot": uk.__file__, "version": uk.__version__, "shares": found}))


def accuracies(folder: Path, name: str, net: str, seed: int) -> dict[str, dict[str, float]]:
    size = Size()
    data = split(name, seed, size)
    model = trained(folder, name, net, seed, size, data)
    images, labels = data.images[:CALIBRATION], data.labels[:CALIBRATION]
    whole = uk.count_macs(model, images[:1])
    scores = uk.score_filters(model, [(images, labels)], max_points=CALIBRATION, seed=seed)
    found = {}
    for share in SHARES:
        plan = uk.plan_pruning(model, scores, images[:2], macs=share)
        slim = uk.prune(model, plan, refit=images, max_points=CALIBRATION, seed=seed)
        test = (data.test_images, data.test_labels)
        shrunk = uk.shrink(model, ((images, labels), test), macs=share, seed=seed, repeats=1)
        found[str(share)] = {
            "accuracy": test_accuracy(slim, data),
            "removed": 1 - uk.count_macs(slim, images[:1]) / whole,
            "shrink": test_accuracy(shrunk.model, data),
        }
    return found


if __name__ == "__main__":
    main()

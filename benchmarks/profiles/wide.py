"""All leaf layers of a ResNet-50 at 224 x 224, whose outputs are 32 million numbers a sample.

pip install --group zoo                        # torchvision
python benchmarks/profiles/wide.py [--images 1000] [--size 224] [--memory 4.85]

Random weights, images that are smooth noise around one of ten patterns. One forward pass of the same
images is timed first, in batches of 64, then `uk.measure(layers="*", by="layer")`: Betti numbers,
islands and tangle with their intervals. ``--memory`` is what the measurement may take, in GB; the peak
is that of the process, with torch and the images. Writes benchmarks/results/wide.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.insert(0, str(Path(__file__).parents[1] / "pruning"))
from zoo_nets import torchvision_models

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "wide.json"
CLASSES, BATCH = 10, 64


class Images(Dataset[tuple[Tensor, int]]):
    """Made when they are asked for, so that they are in memory once."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        if number >= self.count:
            raise IndexError(number)
        label = number % CLASSES
        pattern = torch.randn(3, 14, 14, generator=torch.Generator().manual_seed(label))
        noise = torch.randn(3, 14, 14, generator=torch.Generator().manual_seed(CLASSES + number))
        return F.interpolate((pattern + noise)[None], self.size, mode="bilinear")[0], label


def make_model(images: Images) -> nn.Module:
    """A ResNet-50 with random weights whose batch normalisation has seen a batch."""
    torch.manual_seed(0)
    model: nn.Module = torchvision_models().resnet50(weights=None)
    with torch.no_grad():
        model.train()(next(iter(DataLoader(images, batch_size=32)))[0])
    return model.eval()


def forward_seconds(model: nn.Module, images: Images) -> float:
    """Of one pass of all images, without their making."""
    seconds = 0.0
    with torch.no_grad():
        for batch, _ in DataLoader(images, batch_size=BATCH):
            start = time.perf_counter()
            model(batch)
            seconds += time.perf_counter() - start
    return seconds


def resident_gb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--memory", type=float, default=4.85)
    given = parser.parse_args()
    os.environ["UNKNOT_MEMORY_GB"] = str(given.memory)
    images = Images(given.images, given.size)
    model = make_model(images)
    forward = forward_seconds(model, images)
    before = resident_gb()
    start = time.perf_counter()
    profile = uk.measure(
        model, images, layers="*", by="layer", max_points=given.images, progress=True,
        scale=uk.Scale(k=14, hops=2),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    record = {
        **provenance(
            f"python benchmarks/profiles/wide.py --images {given.images} --size {given.size} "
            f"--memory {given.memory:g}"
        ),
        "threads": torch.get_num_threads(),
        "images": given.images,
        "layer_outputs": len(profile.rows),
        "as_distances": sum("read as distances" in row.note for row in profile.rows),
        "forward_seconds": forward,
        "measure_seconds": seconds,
        "ratio": seconds / forward,
        "before_gb": before,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "passes": [note for note in profile.notes if "in step" in note],
    }
    print_table(
        f"All leaf layers of a ResNet-50, {given.images} images of {given.size} x {given.size}",
        ["", ""],
        [
            ("layer outputs", record["layer_outputs"]),
            ("of these read as distances", record["as_distances"]),
            ("one forward pass, s", forward),
            ("the measurement, s", seconds),
            ("in forward passes", record["ratio"]),
            ("memory before, GB", before),
            ("peak of memory, GB", record["peak_gb"]),
        ],
    )
    print("\n".join(profile.notes))
    write_text(RESULTS, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

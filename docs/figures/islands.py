"""The picture of docs/howto/measure.md: islands and tangle of a small CNN on Fashion-MNIST.

    UNKNOT_DATA=FOLDER python docs/figures/islands.py [FOLDER]

Writes islands.png into FOLDER (docs/assets) and prints the two sentences of the report. A minute or two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import torch
from PIL import Image

import unknot as uk
from unknot.nets import cnn, load_images, train

EPOCHS = 5
LAYERS = ["pool*", "act3", "mean", "out"]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    seen = load_images("fashion_mnist", limit=10_000)
    unseen = load_images("fashion_mnist", split="test", limit=1000)
    torch.manual_seed(0)
    net = cnn(1, 10, widths=(16, 32, 64), batch_norm=True)
    names = [unseen.classes[label] for label in unseen.labels.tolist()]
    with uk.Monitor(
        net, (unseen.images, names), by="layer", layers=LAYERS, repeats=10, nulls=3
    ) as monitor:
        train(net, seen.images, seen.labels, epochs=EPOCHS, learning_rate=2e-3, seed=0)
        monitor.record(EPOCHS)
    monitor.profile.plot()[0].figure.savefig(folder / "islands.png", dpi=100)
    with Image.open(folder / "islands.png") as drawn:
        drawn.convert("RGB").quantize(64).save(folder / "islands.png", optimize=True)
    print(uk.profiles.headline(monitor.profile))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets")

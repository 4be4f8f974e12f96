"""The pictures of README.md: the digits of its first example before and after training, and its report.

    python docs/figures/front_page.py [FOLDER]

Writes digits.png and, where Chromium is installed, report.png into FOLDER (docs/assets). A minute.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image

import unknot as uk

EPOCHS = 12
LAYERS = ["act*", "out"]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    digits = uk.nets.load_images("digits")
    seen = digits.images[:800], digits.labels[:800]
    unseen = digits.images[800:], digits.labels[800:]
    torch.manual_seed(0)
    net = uk.nets.cnn(1, 10, widths=(64, 128, 128), batch_norm=True)
    with uk.Monitor(net, unseen, by="layer", layers=LAYERS) as monitor:
        uk.nets.train(net, *seen, epochs=EPOCHS, learning_rate=3e-3)
        monitor.record(EPOCHS)
    draw(monitor.profile, folder / "digits.png")
    photograph(uk.measure(net, unseen, by="layer", layers=LAYERS), folder / "report.png")


def draw(profile: uk.profiles.TopologyProfile, path: Path) -> None:
    figure, (before, after) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, epoch, when in ((before, 0, "before training"), (after, EPOCHS, "after training")):
        profile.plot(ax, epoch=epoch, kind="islands")
        ax.set_title(when)
        ax.set_ylabel("a block is an island of images" if ax is before else "")
    if before.get_legend() is not None:
        before.get_legend().remove()
    figure.savefig(path, dpi=100)
    smaller(path)


def photograph(profile: uk.profiles.TopologyProfile, path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium: report.png stays as it is")
        return
    with tempfile.TemporaryDirectory() as name:
        page = uk.write_report(Path(name) / "report.html", profile)
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={name}/profile", "--virtual-time-budget=8000", "--window-size=1100,1010",
             f"--screenshot={path}", page.as_uri()],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    smaller(path)


def smaller(path: Path) -> None:
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets")

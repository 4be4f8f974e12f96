"""A pruned model on disk: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import nn

from unknot.errors import InputError
from unknot.pruning import PruningPlan, prune

WEIGHTS, PLAN, CARD = "weights.safetensors", "plan.json", "model.json"
FORMAT = 1


def save_pruned(model: nn.Module, plan: PruningPlan, folder: str | Path) -> None:
    """Write ``weights.safetensors``, ``plan.json`` and ``model.json`` (versions, tensor shapes).

    The folder appears complete or not at all. One that holds a saved model is replaced; one that
    holds anything else is refused.

    Args:
        model: what `prune` returned for ``plan``, fine-tuned or not.
    """
    folder = Path(folder)
    if folder.exists() and {p.name for p in folder.iterdir()} - {WEIGHTS, PLAN, CARD}:
        raise InputError(
            f"folder {folder} with other files in it", "a new or empty folder", "choose another"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    temporary.chmod(0o755)
    try:
        save_model(model, str(temporary / WEIGHTS))
        plan.to_json(temporary / PLAN)
        card = {
            "unknot": "model",
            "format": FORMAT,
            "versions": {"unknot": version("unknot"), "torch": torch.__version__},
            "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
        }
        (temporary / CARD).write_text(json.dumps(card, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_pruned(factory: Callable[[], nn.Module], folder: str | Path) -> nn.Module:
    """The saved model: ``factory()`` pruned by the saved plan, with the saved weights, in eval mode.

    Args:
        factory: builds the model as it was before pruning; its weights do not matter.

    Raises:
        InputError: a file is missing or damaged, or the factory builds another model.
    """
    folder = Path(folder)
    for name in (WEIGHTS, PLAN, CARD):
        if not (folder / name).is_file():
            raise InputError(
                f"folder {folder} without {name}", "what save_pruned wrote", "check the path"
            )
    model = prune(factory(), PruningPlan.from_json(folder / PLAN))
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise InputError(
            f"file {folder / WEIGHTS} ({error})", "a complete safetensors file", "save it again"
        ) from None
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    for name, tensor in weights.items():
        if shapes.get(name) != tuple(tensor.shape):
            raise InputError(
                f"saved tensor {name} of shape {tuple(tensor.shape)}",
                f"shape {shapes.get(name)} from the factory",
                "pass the factory of the model that was pruned",
            )
    # Tensors that share memory are saved once, so a name may be missing from the file and still be
    # loaded through its twin; anything else that is missing is a foreign file.
    missing, _ = model.load_state_dict(weights, strict=False)
    pointers = {t.data_ptr() for n, t in model.state_dict().items() if n in weights}
    lost = [n for n in missing if model.state_dict()[n].data_ptr() not in pointers]
    if lost:
        raise InputError(f"weights without {lost[0]}", "every tensor of the model", "save it again")
    return model.eval()

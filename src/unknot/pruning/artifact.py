"""A pruned model on disk: safetensors and JSON, no pickle, and a program for torch alone."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_model
from torch import Tensor, nn

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError, WrongPath, require_instance
from unknot.core.files import as_path, refused_places, replace_folder
from unknot.core.showing.frames import Tabular
from unknot.nets.running import unwrapped
from unknot.pruning.exports.program import ProgramReport, export_program
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.planning.example import make
from unknot.pruning.refitting.reconstruction import require_what_is_left
from unknot.pruning.removal import PruningPlan, prune

WEIGHTS, PLAN, CARD, README = "weights.safetensors", "plan.json", "model.json", "README.md"
PROGRAM = "program.pt2"
FORMAT = 1


@dataclass(frozen=True, repr=False)
class SavedModel(Tabular):
    """What `save_pruned` wrote.

    Attributes:
        folder: where.
        files: the size of each in bytes.
        program: how ``program.pt2`` compares with the model; None where there is none.
        note: why there is none; else empty.
    """

    folder: str
    files: dict[str, int]
    program: ProgramReport | None
    note: str = ""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    def _columns(self) -> dict[str, list[Any]]:
        return {"file": list(self.files), "bytes": list(self.files.values())}

    def _title(self) -> str:
        told = self.note if self.program is None else self.program.sentence
        return f"SavedModel: {self.folder}, {self.bytes:,} bytes\n{told}"


def save_pruned(
    model: nn.Module,
    plan: PruningPlan,
    folder: str | Path,
    *,
    outcome: PruningOutcome | None = None,
    program: bool = True,
    progress: ShowProgress = "auto",
) -> SavedModel:
    """Write ``weights.safetensors``, ``plan.json``, ``model.json`` (class, versions, tensor shapes),
    ``program.pt2``, which torch runs without unknot, and ``README.md``, a card for people: what was
    removed, what it cost, how to load it.

    The folder appears complete or not at all. One that holds a saved model is replaced; one that
    holds anything else is refused. A model that `export_program` refuses is saved without
    ``program.pt2``; the card and the result say why.

    Args:
        model: what `prune` returned for ``plan``, fine-tuned or not.
        plan: by which; of all rounds together where there were several.
        folder: a new one, or one that holds a saved model.
        outcome: accuracy and cost before and after, for the card.
        program: whether to write ``program.pt2``, which takes seconds: the model is traced, and what
            was written is checked against it at several batch sizes.
        progress: of writing the program, as of `export_program`.

    Returns:
        The files with their sizes, and how the program compares with the model.

    Raises:
        InputError: the folder holds other files, or the model is not what is left by the plan.
        OSError: it cannot be written, e.g. a full disk; what it held before stays.
    """
    model, folder = unwrapped(model), as_path(folder, "folder").resolve()
    require_instance("plan", plan, PruningPlan, "pass what plan_pruning gave")
    require_instance("program", program, bool, "pass program=False for none")
    if outcome is not None:
        require_instance("outcome", outcome, PruningOutcome, "pass shrunk.outcome")
    require_what_is_left(model, plan)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}, which is a file", "a new or empty folder", "choose another")
    ours = {WEIGHTS, PLAN, CARD, README, PROGRAM}
    if folder.exists() and {p.name for p in folder.iterdir()} - ours:
        raise InputError(
            f"folder {folder} with other files in it", "a new or empty folder", "choose another"
        )
    with refused_places(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    temporary.chmod(0o755)
    try:
        report, note = _write(model, plan, temporary, outcome, program, progress)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        replace_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return SavedModel(str(folder), sizes, report, note)


def load_pruned(factory: Callable[[], nn.Module], folder: str | Path) -> nn.Module:
    """The saved model: ``factory()`` pruned by the saved plan, with the saved weights, in eval mode.

    It is of the class that the factory makes; nothing is unpickled. Saved half-precision weights stay
    so, whatever the factory makes.

    Args:
        factory: builds the model as it was before pruning; its weights do not matter.
        folder: what `save_pruned` wrote.

    Raises:
        InputError: a file is missing, damaged or a link that leads out of the folder, or the factory
            builds another model.
    """
    if isinstance(factory, nn.Module) or not callable(factory):
        raise InputError(
            f"factory of type {type(factory).__name__}",
            "a function that builds the model as it was before pruning",
            "pass e.g. the class, or lambda: Net(10)",
        )
    folder = as_path(folder, "folder")
    for name in (WEIGHTS, PLAN, CARD):
        if not (folder / name).is_file():
            raise InputError(
                f"folder {folder} without {name}", "what save_pruned wrote", "check the path"
            )
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"file {folder / name}, a link to {(folder / name).resolve()}",
                "a file of the folder itself",
                "copy the folder with what its links lead to, if you trust them",
            )
    plan = PruningPlan.from_json(folder / PLAN)
    try:
        whole = factory()
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"factory {getattr(factory, '__name__', factory)} ({type(error).__name__}: {error})",
            "one that builds the model when it is called without arguments",
            "pass e.g. lambda: Net(10)",
        ) from error
    model = prune(whole, plan)
    try:
        weights = _read_weights(model, folder / WEIGHTS)
    except SafetensorError as error:
        raise InputError(
            f"file {folder / WEIGHTS} ({error})", "a complete safetensors file", "save it again"
        ) from None
    # Tensors that share memory are saved once, so a name may be missing from the file and still be
    # loaded through its twin; anything else that is missing is a foreign file.
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in weights:
            tensor.data = tensor.data.to(weights[name].dtype)
    weights._metadata = model.state_dict()._metadata  # type: ignore[attr-defined] # some read versions
    missing, _ = model.load_state_dict(weights, strict=False)
    pointers = {t.data_ptr() for n, t in model.state_dict().items() if n in weights}
    lost = [n for n in missing if model.state_dict()[n].data_ptr() not in pointers]
    if lost:
        raise InputError(f"weights without {lost[0]}", "every tensor of the model", "save it again")
    return model.eval()


def _write(
    model: nn.Module,
    plan: PruningPlan,
    folder: Path,
    outcome: PruningOutcome | None,
    program: bool,
    progress: ShowProgress,
) -> tuple[ProgramReport | None, str]:
    """All files; how the program compares with the model, or why there is none."""
    _save_weights(model, folder / WEIGHTS)
    plan.to_json(folder / PLAN)
    (folder / WEIGHTS).chmod((folder / PLAN).stat().st_mode)  # safetensors lets their owner alone read
    card = {
        "unknot": "model",
        "format": FORMAT,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "versions": {"unknot": version("unknot"), "torch": torch.__version__},
        "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
    }
    (folder / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
    report, reason = None, "it was not asked for"
    if program:
        report, reason = _save_program(model, plan, folder, progress)
    note = f"There is no {PROGRAM}: {reason}." if report is None else ""
    (folder / README).write_text(_readme(model, plan, outcome, report, note), encoding="utf-8")
    return report, note


def _save_weights(model: nn.Module, path: Path) -> None:
    try:
        save_model(model, str(path))
    except SafetensorError as error:
        if "I/O error" not in str(error) and "IoError" not in str(error):
            raise
        raise OSError(f"file {path} ({error})") from None  # a full disk


def _save_program(
    model: nn.Module, plan: PruningPlan, folder: Path, progress: ShowProgress
) -> tuple[ProgramReport | None, str]:
    """How the program compares with the model; or None, and why there is none."""
    first = {"name": None, "shape": list(plan.input_shape), "dtype": "float32"}  # of earlier plans
    try:
        # Of one sample: the size that a program has where it cannot be left free.
        example = make(plan.inputs or [first], 1)
        return export_program(model, example, folder / PROGRAM, progress=progress), ""
    except WrongPath:  # of the folder, not of the model
        raise
    except InputError as refusal:
        return None, str(refusal)


def _read_weights(model: nn.Module, path: Path) -> OrderedDict[str, Tensor]:
    """The tensors of the file, of which none is read before all fit the model."""
    expected = model.state_dict()
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            shape = tuple(file.get_slice(name).get_shape())
            if name not in expected or shape != tuple(expected[name].shape):
                raise InputError(
                    f"saved tensor {name} of shape {shape}",
                    f"shape {tuple(expected[name].shape) if name in expected else None} from the factory",
                    "pass the factory of the model that was pruned",
                )
        weights = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    for name, tensor in weights.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise InputError(
                f"saved tensor {name} of {tensor.dtype}",
                f"a type like {expected[name].dtype}",
                "save it again",
            )
    return weights


def _readme(
    model: nn.Module,
    plan: PruningPlan,
    outcome: PruningOutcome | None,
    program: ProgramReport | None,
    note: str,
) -> str:
    """The card in Markdown."""
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    gone = f"{plan.n_removed:,} of {plan.n_filters:,} filters removed by {plan.criterion}"
    lines = [
        f"# {type(model).__qualname__}, pruned",
        "",
        f"{gone}{f' ({plan.budget})' if plan.budget else ''}, with "
        f"unknot {version('unknot')} and torch {torch.__version__}.",
        "",
        "## Load it",
        "",
        "```python",
        "import unknot as uk",
        "",
        f"# factory() builds the {name} as it was before pruning; its weights do not matter",
        'model = uk.load_pruned(factory, "path/to/this/folder")',
        "```",
        "",
        f"`{WEIGHTS}` holds the weights (no pickle), `{PLAN}` every removed filter with its reason,",
        f"`{CARD}` the shape of each tensor. One sample has the shape {tuple(plan.input_shape)}.",
        "",
        *_use_of(program, note),
        "",
        "## What was removed",
        "",
        f"As pruned, before any refit or training, it computes {plan.judged_by}.",
        "",
        "| layer | filters before | left | note |",
        "|---|---:|---:|---|",
    ]
    for layer, size in plan.filters.items():
        remaining = size - len(plan.removed.get(layer, ()))
        with_ = [other for other in plan.shared.get(layer, ()) if other != layer]
        together = f"channels shared with {', '.join(with_)}" if with_ else ""
        note = plan.kept_layers.get(layer) or together
        lines.append(f"| {_cell(layer)} | {size} | {remaining} | {_cell(note)} |")
    return "\n".join([*lines, *_costs(outcome), ""])


def _use_of(program: ProgramReport | None, note: str) -> list[str]:
    """How to run the program; or why there is none."""
    if program is None:
        return [note]
    return [
        "Where there is torch, but neither unknot nor the model's code:",
        "",
        "```python",
        "import torch",
        "",
        "# by pickle, which can run code: only a file from those you trust",
        f'model = torch.export.load("path/to/this/folder/{PROGRAM}").module()',
        "with torch.no_grad():",
        "    outputs = model(inputs)  # on the CPU, in eval mode; as the model itself is called",
        "```",
        "",
        f"{program.sentence}.",
    ]


def _costs(outcome: PruningOutcome | None) -> list[str]:
    if outcome is None:
        return []
    rows = [f"| {_cell(what)} | {a} | {b} |" for what, a, b, _ in outcome.table()]
    return [
        "",
        "## What it costs",
        "",
        "| | before | after |",
        "|---|---:|---:|",
        *rows,
        "",
        f"{outcome.conditions} {outcome.verdict}".strip(),
    ]


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")

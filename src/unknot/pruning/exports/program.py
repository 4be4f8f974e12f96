"""torch.export: a model as a file that torch runs without unknot, written only where both agree."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError, require_count, require_positive
from unknot.core.files import require_suffix, write_file
from unknot.core.showing.frames import Tabular
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import as_example, call_model, caller, copied, n_samples, placed, unwrapped
from unknot.pruning.exports.parity import (
    CHANGE,
    PARITY_SIZES,
    TRACED,
    Parity,
    first_line,
    fresh,
    parity_of,
    quiet,
)

# Of the operations that torch itself brings; what registers others would have to be imported first.
OPERATIONS = {"aten", "prim", "prims", "higher_order", "quantized", "_operator", "math"}
LEAST_TOLERANCE = 1e-4
# What torch.export says in several lines, in words.
REASONS = {
    "specialized it to be a constant": "its forward makes the batch size a constant",
    "data-dependent": "its forward branches on values",
}


@dataclass(frozen=True, repr=False)
class ProgramReport(Tabular):
    """What was written, and how it compares with the model.

    Attributes:
        file: name of the file.
        bytes: of the file.
        batch_size: the only one that it takes; None: any.
        note: why it takes one batch size only, where that was not asked for.
        parity: at several batch sizes, or at the only one.
        versions: of torch, by which it was written; older versions may not read it.
    """

    file: str
    bytes: int
    batch_size: int | None
    note: str
    parity: tuple[Parity, ...]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if not self.parity:  # of a damaged file
            raise ValueError("no parity")

    def _columns(self) -> dict[str, list[Any]]:
        names = [field.name for field in fields(Parity)]
        return {name: [getattr(parity, name) for parity in self.parity] for name in names}

    def _title(self) -> str:
        return f"ProgramReport: {self.sentence}"

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max(parity.relative for parity in self.parity)

    @property
    def sentence(self) -> str:
        """All of it in a line."""
        sizes = ", ".join(str(parity.batch_size) for parity in self.parity)
        takes = "any batch size" if self.batch_size is None else f"batch {self.batch_size} only"
        found = f"differ from the model's by at most {self.worst:.2g} of the largest"
        return (
            f"{self.file}: {self.bytes:,} bytes, for torch alone (written by {self.versions['torch']}), "
            f"{takes}{f' ({self.note})' if self.note else ''}; outputs "
            f"{found if self.worst else 'are those of the model, bit for bit'}, at batch {sizes}"
        )


def export_program(
    model: nn.Module,
    example: Inputs,
    path: str | Path,
    *,
    batch_size: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> ProgramReport:
    """Write ``model`` as a program of torch's own operations, and prove it against the model.

    ``torch.export.load(path).module()`` runs it where only torch is installed, on the CPU or, after
    ``torch.export.passes.move_to_device_pass``, on a GPU. It takes what the model takes, and returns
    what that returns, named tuples as tuples, dataclasses and mappings of other kinds as dicts. The file
    is loaded and run on fresh random inputs with the mean and spread of the example, at batch sizes 1,
    2, 7 and 64. Only when all outputs agree is it put in place; else there is none. No sample of
    the example is in it.

    Args:
        model: exported in eval mode, from a copy on the CPU; pruned models and folds included.
        example: a batch that the model takes: a tensor ``[n, ...]``, a tuple of such, or a dict of
            keyword arguments.
        path: ends in ``.pt2``; its folder is made when missing.
        batch_size: the only one that the file shall take. None: any; where the model does not let
            torch.export leave it free, that of the example, and ``note`` says why.
        tolerance: largest relative difference that is let pass. None: 1e-4, or four units in the last
            place of half precision.
        seed: of the fresh inputs.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Returns:
        The size of the file, the batch sizes that it takes, and the differences.

    Raises:
        InputError: torch.export refuses the model (a forward that branches on values, or leaves torch),
            it needs operations that torch does not bring, or the outputs differ.
        OSError: the folder cannot be written.
    """
    model, path = unwrapped(model), require_suffix(path, "path", (".pt2",))
    if batch_size is not None:
        require_count("batch_size", batch_size)
    if tolerance is not None:
        require_positive("tolerance", tolerance, LEAST_TOLERANCE)
    generator = torch.Generator().manual_seed(require_count("seed", seed, minimum=0))
    bar = step_bar("exporting the program", 2, show=progress, timed=True)
    # What is compiled inside is exported as it is written.
    with torch.compiler.set_stance("force_eager"), bar as step:
        return _proved(_source(model, example), path, batch_size, tolerance, generator, step)


def _proved(
    source: _Source,
    path: Path,
    batch_size: int | None,
    tolerance: float | None,
    generator: torch.Generator,
    step: Callable[[str], None],
) -> ProgramReport:
    """Write the file that agrees with the model, for any batch size where there is one."""
    if tolerance is None:
        tolerance = max(LEAST_TOLERANCE, 4 * source.precision if source.precision > 1e-6 else 0.0)
    sizes = [batch_size] if batch_size else [None, n_samples(source.example)]
    note = ""
    for size in sizes:
        try:
            step("following the model")
            contents = _traced(source, size, generator)
            step("comparing outputs")
            parity = _parity(source, contents, size, tolerance, generator)
            break
        except InputError as refusal:
            if size == sizes[-1]:
                raise
            note = _reason(refusal.__cause__) if refusal.__cause__ else refusal.value
    write_file(path, lambda temporary: temporary.write_bytes(contents))
    return ProgramReport(path.name, len(contents), size, note, parity, {"torch": version("torch")})


@dataclass(frozen=True, eq=False)
class _Source:
    """What is exported.

    Attributes:
        model: a copy on the CPU, in eval mode, that returns tensors in plain containers.
        name: of the model's class.
        example: a batch, on the CPU.
        together: whether the model takes all tensors of a batch as one argument.
        precision: of its coarsest outputs, see `torch.finfo`.
    """

    model: nn.Module
    name: str
    example: Inputs
    together: bool
    precision: float

    def arguments(self, batch: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of the model."""
        if self.together or isinstance(batch, Tensor):
            return (batch,), {}
        return ((), batch) if isinstance(batch, dict) else (batch, {})


class _Plain(nn.Module):
    """A model that returns tuples, lists and dicts, which need no class to be loaded.

    Its ``forward`` names the inputs, which torch.export needs to keep a batch size free.
    """

    def __init__(self, model: nn.Module, names: list[str], keyword: bool) -> None:
        super().__init__()
        self.model = model

        def forward(*inputs: Any, **named: Any) -> Any:
            return _plain(self.model(*inputs, **named))

        kind = Parameter.KEYWORD_ONLY if keyword else Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = Signature([Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        self.forward = forward


def _source(model: nn.Module, example: Inputs) -> _Source:
    """A copy of the model and the example as it takes it."""
    name, example = type(model).__name__, as_example(example)
    model = copied(model).cpu().eval()
    example = placed(map_tensors(example, lambda t: t.detach().cpu()), model)
    together = not isinstance(example, Tensor) and caller(model, example) is model
    with torch.no_grad():
        output = call_model(model, example)
    tensors = [leaf for leaf in tree_leaves(_plain(output)) if isinstance(leaf, Tensor)]
    if not tensors:
        raise InputError(
            f"model {name}, which returns a {type(output).__name__} without tensors",
            "a model that returns tensors",
            "check the model",
        )
    if not _is_plain(output) or _takes_any_keyword(model):
        keyword = isinstance(example, dict) and not together
        count = len(example) if isinstance(example, tuple) and not together else 1
        names = list(example) if keyword else [f"input_{i}" for i in range(count)]
        model = _Plain(model, names, keyword).eval()
    precision = max((torch.finfo(t.dtype).eps for t in tensors if t.is_floating_point()), default=0.0)
    return _Source(model, name, example, together, precision)


def _takes_any_keyword(model: nn.Module) -> bool:
    try:
        takes = inspect.signature(model.forward).parameters.values()
    except ValueError:  # not of Python
        return False
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in takes)


def _plain(output: Any) -> Any:
    """Tensors and constants in tuples, lists and dicts alone."""
    if isinstance(output, (Tensor, int, float, bool, str, type(None))):
        return output
    if isinstance(output, Mapping):
        return {key: _plain(value) for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        parts = [_plain(value) for value in output]
        return parts if isinstance(output, list) else tuple(parts)
    if is_dataclass(output):
        return {field.name: _plain(getattr(output, field.name)) for field in fields(output)}
    raise InputError(
        f"an output of type {type(output).__name__}",
        "tensors in tuples, lists, dicts or dataclasses",
        "wrap it in a module that returns these",
    )


def _is_plain(output: Any) -> bool:
    parts = output.values() if type(output) is dict else output
    if type(output) in (tuple, list, dict):
        return all(map(_is_plain, parts))
    return not isinstance(output, (tuple, list, Mapping)) and not is_dataclass(output)


def _traced(source: _Source, batch_size: int | None, generator: torch.Generator) -> bytes:
    """The file: for batches of one size, or of any."""
    # Of fresh samples: torch keeps them in the program until they are taken out, and errors show them.
    args, named = source.arguments(fresh(source.example, batch_size or TRACED, generator))
    file = io.BytesIO()
    try:
        shapes = None
        if batch_size is None:
            given = inspect.signature(source.model.forward).bind(*args, **named).arguments
            shapes = tree_map(lambda _: {0: torch.export.Dim.DYNAMIC}, dict(given))
        with quiet(), torch.no_grad():
            program = torch.export.export(source.model, args, named, dynamic_shapes=shapes, strict=False)
            _require_torch_alone(program, source.name)
            program.example_inputs = None
            torch.export.save(program, file)
    except InputError:
        raise
    except Exception as error:  # the exporter's own types, none of them public
        raise InputError(
            f"model {source.name}, which torch.export does not take ({_reason(error)})",
            "a model that computes by the same operations of torch whatever the values",
            "see the traceback; such a forward must change",
        ) from error
    return file.getvalue()


def _reason(error: BaseException) -> str:
    return next((words for text, words in REASONS.items() if text in str(error)), first_line(error))


def _require_torch_alone(program: torch.export.ExportedProgram, name: str) -> None:
    """Refuse what another package registers; and take out where the user's files lie."""
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
            target = node.target
            space = getattr(target, "namespace", None) or getattr(target, "__module__", "") or ""
            if node.op == "call_function" and space.partition(".")[0] not in (*OPERATIONS, "torch"):
                raise InputError(
                    f"model {name} with the operation {target}",
                    "operations that torch itself brings",
                    f"write it in torch; a file with it would need what registers {space}",
                )
    for key, value in {**program.state_dict, **program.constants}.items():
        if type(value) not in (Tensor, nn.Parameter, nn.Buffer):
            raise InputError(
                f"model {name} whose {key} is a {type(value).__name__}",
                "plain tensors",
                "convert it; a file with it would need that class",
            )


def _parity(
    source: _Source,
    contents: bytes,
    batch_size: int | None,
    tolerance: float,
    generator: torch.Generator,
) -> tuple[Parity, ...]:
    """What the file computes against what the model computes."""
    with quiet():
        run = torch.export.load(io.BytesIO(contents)).module()
    parity = []
    for size in PARITY_SIZES if batch_size is None else (batch_size,):
        args, named = source.arguments(fresh(source.example, size, generator))
        try:
            with torch.no_grad():
                expected, outputs = source.model(*args, **named), run(*args, **named)
        except Exception as error:  # of the user's code, or of what torch.export made of it
            raise InputError(
                f"an export that fails at batch {size} ({first_line(error)})",
                "one that runs at every batch size",
                CHANGE,
            ) from error
        if (one := _spec(expected)) != (other := _spec(outputs)):
            raise InputError(f"an export that returns {other}", f"{one} as the model", CHANGE)
        parity.append(parity_of(size, _tensors(expected), _tensors(outputs), tolerance))
    return tuple(parity)


def _spec(output: Any) -> Any:
    """What is no tensor in an output, and the containers."""
    return tree_map(lambda leaf: "tensor" if isinstance(leaf, Tensor) else leaf, output)


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]

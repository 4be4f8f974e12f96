"""ONNX: a model as a file for other runtimes, written only where ONNX Runtime agrees with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError, import_package, require_count, require_positive
from unknot.core.files import require_suffix, write_file
from unknot.core.showing.frames import Tabular
from unknot.nets.cost import BATCH_SIZES, batch_of
from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import (
    as_example,
    call_model,
    caller,
    copied,
    float_tensors,
    n_samples,
    placed,
    unwrapped,
)
from unknot.nets.timing import Latency, latency_of, time_in_turns
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

Run: TypeAlias = Callable[[Inputs], list[NDArray[Any]]]
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2_000_000_000  # bytes of one ONNX file


@dataclass(frozen=True, repr=False)
class ExportReport(Tabular):
    """What was written, and how it compares.

    Attributes:
        file: name of the file.
        bytes: of the file.
        opset: version of ONNX's operators.
        parity: at several batch sizes.
        torch, onnx: latency of both on the CPU at batch 1 and 64, of one after the other: in turns, the
            threads of each would wait for work on the cores that the other one needs.
        threads: of each of them.
        versions: of torch, onnx and onnxruntime.
    """

    file: str
    bytes: int
    opset: int
    parity: tuple[Parity, ...]
    torch: tuple[Latency, ...]
    onnx: tuple[Latency, ...]
    threads: int
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if not self.parity or len(self.torch) != len(self.onnx):  # of a damaged file
            raise ValueError(
                f"{len(self.torch)} and {len(self.onnx)} latencies, {len(self.parity)} parities"
            )

    def _columns(self) -> dict[str, list[Any]]:
        times = ({time.batch_size: time.median_ms for time in of} for of in (self.torch, self.onnx))
        sizes = [parity.batch_size for parity in self.parity]
        columns = [[of.get(size) for size in sizes] for of in times]
        return {
            "batch_size": sizes,
            "difference": [parity.difference for parity in self.parity],
            "relative": [parity.relative for parity in self.parity],
            "torch_ms": columns[0],
            "onnx_ms": columns[1],
        }

    def _title(self) -> str:
        return f"ExportReport: {self.file}, {self.bytes:,} bytes, opset {self.opset}"

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max(p.relative for p in self.parity)


def export_onnx(
    model: nn.Module,
    example: Inputs,
    path: str | Path,
    *,
    tolerance: float = 1e-4,
    repeats: int = 50,
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> ExportReport:
    """Write ``model`` as an ONNX file with a free batch size, and prove it against torch.

    ONNX Runtime runs the file on the CPU on fresh random inputs with the mean and spread of the
    example, at batch sizes 1, 2, 7 and 64. Only when all its outputs agree with torch's is the file put
    in place; else there is none. The weights are in the file.

    Args:
        model: exported in eval mode, from a copy on the CPU; pruned models and folds included.
        example: a batch that the model takes: a tensor ``[n, ...]``, which the file calls "input"; or a
            tuple of such, "input_0" and so on; or a dict of keyword arguments, which keep their names.
        path: ends in ``.onnx``; its folder is made when missing.
        tolerance: largest relative difference that is let pass.
        repeats: timed passes of each.
        seed: of the fresh inputs.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: ONNX is not installed, the exporter refuses the model, the batch size is not free,
            or the outputs differ.
        OSError: the folder cannot be written.
    """
    require_onnx()
    model = unwrapped(model)
    path = require_suffix(path, "path", (".onnx",))
    require_positive("tolerance", tolerance, 1e-4)
    require_count("repeats", repeats)
    model, example = _on_cpu(model, example)
    reports: list[ExportReport] = []
    with step_bar("exporting to ONNX", 4, show=progress, timed=True) as step:
        step("following the model")
        program = _export(model, example)

        def write(temporary: Path) -> None:
            with quiet():
                program.save(temporary, external_data=False)
            how = _Proof(tolerance, repeats, seed, step)
            reports.append(_proved(model, example, temporary, path.name, how))

        write_file(path, write)
    return reports[0]


def require_onnx() -> None:
    """Refuse to go on without the packages of the extra ``onnx``."""
    for name in PACKAGES:
        with quiet():
            import_package(name, extra="onnx")


class _Tensors(nn.Module):
    """A model of one tensor after the other, by name or not, that returns a tuple of tensors."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        batch = dict(zip(self.names, inputs, strict=True)) if self.names else inputs
        return tuple(float_tensors(caller(self.model, batch)(batch)))


def _on_cpu(model: nn.Module, example: Inputs) -> tuple[nn.Module, Inputs]:
    """A copy of the model, returning tensors, and the example as it takes them."""
    example = as_example(example)
    model = copied(model).cpu().eval()
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if first is None else first.dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"a model of type {dtype}", "float32", "export model.float()")
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if size > LARGEST:
        raise InputError(f"a model of {size / 1e9:.2g} GB", "at most 2 GB in one file", "prune more")
    example = placed(map_tensors(example, Tensor.detach), model)
    with torch.no_grad():
        output = call_model(model, batch_of(example, 2))
    if isinstance(example, Tensor) and isinstance(output, Tensor):
        return model, example
    names = tuple(example) if isinstance(example, dict) else ()
    return _Tensors(model, names).eval(), example


def _export(model: nn.Module, example: Inputs) -> Any:
    free: Any = {0: torch.export.Dim.DYNAMIC}
    tensors = tensors_of(batch_of(example, TRACED))
    shapes: Any = (free,) * len(tensors)
    try:
        with quiet(), torch.no_grad():
            return torch.onnx.export(
                model,
                tensors,
                input_names=_names(example),
                dynamic_shapes=(shapes,) if isinstance(model, _Tensors) else shapes,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's own types, none of them public
        raise InputError(
            f"a {type(model).__name__} that torch.onnx does not export ({first_line(error)})",
            "a model that torch.export can trace with a free batch size",
            "see the traceback; a forward that branches on values or fixes the batch size must change",
        ) from error


def _names(example: Inputs) -> list[str]:
    """What the file calls its inputs."""
    if isinstance(example, dict):
        return list(example)
    return [f"input_{i}" for i in range(len(example))] if isinstance(example, tuple) else ["input"]


@dataclass(frozen=True)
class _Proof:
    """How a file is compared with the model; ``step`` is told what is done next."""

    tolerance: float
    repeats: int
    seed: int
    step: Callable[[str], None]


def _proved(model: nn.Module, example: Inputs, file: Path, name: str, how: _Proof) -> ExportReport:
    """Run the file; refuse it unless it computes what the model computes."""
    import onnx

    threads = torch.get_num_threads()
    generator = torch.Generator().manual_seed(how.seed)
    how.step("comparing outputs")
    run = _runner(file, threads)
    parity = tuple(
        _compared(model, run, fresh(example, size, generator), how.tolerance) for size in PARITY_SIZES
    )
    batches = [batch_of(example, size) for size in BATCH_SIZES]
    del run  # idle threads of a session still take the cores from torch for a while
    how.step("timing torch")
    with torch.no_grad():
        ours = [
            _timed(partial(model, *tensors_of(batch)), n_samples(batch), how.repeats) for batch in batches
        ]
    how.step("timing ONNX Runtime")
    run = _runner(file, threads)
    theirs = [_timed(partial(run, batch), n_samples(batch), how.repeats) for batch in batches]
    opsets = {o.domain: o.version for o in onnx.load(file, load_external_data=False).opset_import}
    return ExportReport(
        file=name,
        bytes=file.stat().st_size,
        opset=opsets[""],
        parity=parity,
        torch=tuple(ours),
        onnx=tuple(theirs),
        threads=threads,
        versions={name: version(name) for name in ("torch", "onnx", "onnxruntime")},
    )


def _runner(file: Path, threads: int) -> Run:
    """A function that runs the file in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    entries = {entry.name for entry in session.get_inputs()}  # inputs that nothing uses are none

    def run(inputs: Inputs) -> list[NDArray[Any]]:
        tensors = zip(_names(inputs), tensors_of(inputs), strict=True)
        given = {name: tensor.numpy() for name, tensor in tensors if name in entries}
        return session.run(None, given)  # type: ignore[no-any-return]

    return run


def _timed(call: Callable[[], object], batch_size: int, repeats: int) -> Latency:
    return latency_of(batch_size, time_in_turns([call], repeats=repeats)[0])


def _compared(model: nn.Module, run: Run, inputs: Inputs, tolerance: float) -> Parity:
    n = n_samples(inputs)
    with torch.no_grad():
        expected = list(float_tensors(model(*tensors_of(inputs))))
    try:
        outputs = run(inputs)
    except Exception as error:  # of ONNX Runtime, which names no public type
        raise InputError(
            f"an export that fails at batch {n} ({first_line(error)})",
            "one that runs at every batch size",
            CHANGE,
        ) from error
    return parity_of(n, expected, [torch.from_numpy(values) for values in outputs], tolerance)

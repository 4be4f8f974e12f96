"""What is seen in a run: first on few samples, where those are in each output, and then each step.

`run_trial` finds the axis of the samples in whatever a module returns. A `Follower` sees which calls a
tensor goes through that hand its channels on one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from unknot.nets.probe import Inputs, Probe, map_tensors
from unknot.nets.running import (
    as_it_was,
    call_model,
    float_tensors,
    hooked,
    hooked_before,
    named_scores,
    placed,
)

Kind = Literal["activation", "pooling", "passing"]
After = Literal["module", "activation", "pooling"]
Key: TypeAlias = tuple[str, int]  # layer, call
_ACTIVATIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "selu", "selu_",
    "celu", "celu_", "gelu", "silu", "mish", "tanh", "tanh_", "sigmoid", "sigmoid_", "hardtanh",
    "hardtanh_", "hardswish", "hardsigmoid", "softplus", "softsign", "sin",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Step:
    """One call that a followed tensor went into.

    Attributes:
        kind: "passing" is normalisation, dropout or nothing.
        module: the leaf module that was called; None for a function such as ``F.relu``.
        before, after: what went in and what came out, live, with equal numbers of samples and channels.
    """

    kind: Kind
    module: nn.Module | None
    before: Tensor
    after: Tensor


class Follower:
    """Follows tensors through the calls of leaf modules, and of functions outside of them.

    A tensor that was added to another, or whose channels changed in number, is followed no further.

    Args:
        see: gets the key of a followed tensor and each step that it takes, as it is taken; returns
            whether to follow what came out.
    """

    def __init__(self, see: Callable[[Key, Step], bool]) -> None:
        self._see = see
        # The tensors themselves are kept, so that no number is given to a second one.
        self._followed: dict[int, tuple[Key, Tensor]] = {}
        self._depth = 0  # of leaf modules that are running: their inner functions are their own

    def follow(self, key: Key, tensor: Tensor) -> None:
        """Follow ``tensor``, by the name ``key``."""
        self._followed[_identity(tensor)] = (key, tensor)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch the calls that ``model`` makes while the context lasts."""
        leaves = {n: m for n, m in model.named_modules() if next(m.children(), None) is None}
        with hooked_before(leaves, self._enter), hooked(leaves, self._leave), _Functions(self._call):
            yield
        self._followed.clear()

    def _enter(self, _name: str, _module: nn.Module, _inputs: Any) -> None:
        self._depth += 1

    def _leave(self, _name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if not isinstance(module, (_ConvNd, nn.Linear)):
            self._step(_kind_of_module(module), module, inputs, output)

    def _call(self, name: str, inputs: Any, output: Any) -> None:
        if self._depth:
            return
        kind = _kind_of_function(name)
        if kind is not None:
            self._step(kind, None, inputs, output)
        elif _in_place(name) and isinstance(output, Tensor):  # x += shortcut
            self._followed.pop(_identity(output), None)

    def _step(self, kind: Kind, module: nn.Module | None, inputs: Any, output: Any) -> None:
        before = inputs[0] if inputs else None
        if not (isinstance(before, Tensor) and isinstance(output, Tensor)):
            return
        key, _ = self._followed.get(_identity(before), (None, None))
        if key is None or output.shape[:2] != before.shape[:2]:
            return
        if self._see(key, Step(kind, module, before, output)):
            self.follow(key, output)


class _Functions(TorchFunctionMode):
    def __init__(self, see: Callable[[str, Any, Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._see(getattr(func, "__name__", ""), args, result)
        return result


def _kind_of_function(name: str) -> Kind | None:
    if name in _ACTIVATIONS:
        return "activation"
    if "pool" in name:
        return "pooling"
    return "passing" if name.endswith("_norm") or "dropout" in name else None


def _kind_of_module(module: nn.Module) -> Kind:
    name = type(module).__name__.lower()
    if "pool" in name:
        return "pooling"
    if "norm" in name or "dropout" in name or isinstance(module, nn.Identity):
        return "passing"
    return "activation"


def _in_place(name: str) -> bool:
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _identity(tensor: Tensor) -> int:
    """One number for a tensor and its detached views."""
    return tensor.data_ptr()


OUTPUT = "output of the model"  # "output" may be a layer's name
NO_TENSOR = "returned no floating-point tensor with one row a sample"
FIXED = "returned a tensor without an axis of samples"
FOLDED = "returned a tensor of which a sample has several rows"
AMBIGUOUS = "returned a tensor with two axes of the number of samples"
REORDERED = "returned its rows in another order than the samples"
MIXED = "a sample's output depends on the others of its batch"
RANDOM = "its output is random: it differs from run to run"
# Between runs on other numbers of samples, of the largest output; half precision and long sums differ.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Place:
    """Where the rows of the samples are in what a module returns.

    Attributes:
        number: of the tensor among the floating-point ones in it.
        axis: of the samples.
        note: what a reader of the numbers has to know; often empty.
    """

    number: int
    axis: int
    note: str = ""

    def rows(self, output: Any, size: int) -> Tensor | None:
        """``[size, ...]``, detached, the axis of the samples first; None where it has no such tensor."""
        tensors = list(float_tensors(output))
        if len(tensors) <= self.number or tensors[self.number].ndim <= self.axis:
            return None
        tensor = tensors[self.number].detach().movedim(self.axis, 0)
        return tensor if len(tensor) == size else None


@dataclass
class Trial:
    """What the first runs have shown.

    Attributes:
        ran: the names of the modules that ran.
        places: of each call that returned samples, in the order of the calls, with what it returned for
            two of them, ``[2, ...]``.
        refused: of each other call, why it cannot be recorded.
    """

    ran: set[str] = field(default_factory=set)
    places: dict[Key, tuple[Place, Tensor]] = field(default_factory=dict)
    refused: dict[Key, str] = field(default_factory=dict)


def run_trial(model: nn.Module, probe: Probe, modules: Mapping[str, nn.Module]) -> Trial:
    """Run ``model`` on two samples and on three, and take for the axis of the samples what follows.

    An axis is that of the samples if it is 2 long, then 3, and no other is. Sizes alone could deceive:
    the samples of the second run come in another order, and where the rows do not follow them further
    runs tell whether the output depends on the batch, is random, or is in another order.

    Args:
        model: in any mode; it comes back as it was.
        modules: by name, whose calls are watched; the model itself is `OUTPUT`.
    """
    a, b, c = 0, len(probe) // 2, len(probe) - 1
    two, three, swapped = (_chosen(probe.inputs, rows) for rows in ([a, b], [c, b, a], [b, a]))
    first = _outputs(model, two, modules)
    second = _outputs(model, three, modules)
    trial = Trial({name for name, _ in first if name != OUTPUT})
    doubtful: dict[Key, Place] = {}
    for key, tensors in first.items():
        place = _place(tensors, second.get(key, []))
        if isinstance(place, str):
            trial.refused[key] = place
            continue
        rows = tensors[place.number].movedim(place.axis, 0)
        again = second[key][place.number].movedim(place.axis, 0)
        trial.places[key] = place, rows
        if not _alike(rows, again[[2, 1]]):
            doubtful[key] = place
    if doubtful:
        turned = _outputs(model, swapped, modules)
        other = _outputs(model, two, modules, seed=1)
        for key, place in doubtful.items():
            rows = trial.places[key][1]
            note = _doubt(rows, *(place.rows(run.get(key, []), 2) for run in (turned, other)))
            if note == REORDERED:
                del trial.places[key]
                trial.refused[key] = note
            else:
                trial.places[key] = Place(place.number, place.axis, note), rows
    return trial


def run_seen(
    model: nn.Module,
    batch: Inputs,
    modules: Mapping[str, nn.Module],
    see: Callable[[Key, nn.Module, Any], None],
    *,
    seed: int | None = None,
) -> None:
    """One run; ``see`` gets the key, the module and the output of each call, the model's own last."""
    calls: Counter[str] = Counter()

    def hook(name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        key = name, calls[name]
        calls[name] += 1
        see(key, module, output)

    batch = placed(batch, model)
    with as_it_was(model), hooked(modules, hook):
        if seed is not None:
            torch.manual_seed(seed)
        see((OUTPUT, 0), model, named_scores(call_model(model, batch)))


def in_company(batch: Inputs) -> Inputs:
    """A sample that would run alone, twice: a model may squeeze the axis of one sample away."""
    return map_tensors(batch, lambda t: torch.cat([t, t]) if len(t) == 1 else t)


def _chosen(inputs: Inputs, rows: list[int]) -> Inputs:
    return map_tensors(inputs, lambda tensor: tensor[rows])


def _outputs(
    model: nn.Module, batch: Inputs, modules: Mapping[str, nn.Module], seed: int | None = None
) -> dict[Key, list[Tensor]]:
    outputs: dict[Key, list[Tensor]] = {}

    def see(key: Key, _module: nn.Module, output: Any) -> None:
        # Copied: what follows may change them in place.
        outputs[key] = [tensor.detach().clone() for tensor in float_tensors(output)]

    run_seen(model, batch, modules, see, seed=seed)
    return outputs


def _place(two: list[Tensor], three: list[Tensor]) -> Place | str:
    """Of the first tensor that has one axis of the samples; or why there is none."""
    why = NO_TENSOR
    for number, (a, b) in enumerate(zip(two, three, strict=False)):
        if a.ndim != b.ndim:
            continue
        sizes = list(enumerate(zip(a.shape, b.shape, strict=True)))
        growing = [axis for axis, (m, n) in sizes if m != n]
        axes = [axis for axis, pair in sizes if pair == (2, 3)]
        if axes == growing and len(axes) == 1:
            return Place(number, axes[0])
        if why == NO_TENSOR:
            why = AMBIGUOUS if len(axes) > 1 else FOLDED if growing else FIXED
    return why


def _alike(one: Tensor, other: Tensor) -> bool:
    one, other = one.double().cpu(), other.double().cpu()
    largest = one.nan_to_num().abs().max() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * float(largest), equal_nan=True)


def _doubt(rows: Tensor, turned: Tensor | None, other: Tensor | None) -> str:
    """Why the rows of a sample are not the same in two batches."""
    if turned is not None and _alike(rows, turned[[1, 0]]):
        return MIXED
    return REORDERED if other is not None and _alike(rows, other) else RANDOM

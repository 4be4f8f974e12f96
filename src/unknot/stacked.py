"""Many nets of one architecture trained at once, each with its own seed, learning rate and weights.

The parameters of the nets are the rows of one matrix. The loss of a stack is the sum of the losses of its
nets and Adam works on each number by itself, so every net takes the steps that it would take alone; what
is shared is the work of Python and of the dispatcher, which in small nets is most of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from unknot.activations import (
    CentredAbs,
    CentredReLU,
    HeldFlat,
    QFold,
    Sine,
    SmoothZFold,
    TriangleWave,
    ZFold,
)
from unknot.errors import InputError, require_count
from unknot.training import LabelledData, accuracy, predicted

# Nets that go through one operation together: more would leave the cache, fewer leave work to Python.
TOGETHER = 16
# Samples in one pass of evaluation: more would leave the cache.
EVALUATED, EVALUATED_PLAIN = 512, 256
# Modules that work on each number by itself.
ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Hardtanh, CentredAbs, CentredReLU, HeldFlat, QFold, Sine, SmoothZFold, TriangleWave, ZFold,
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The accuracies of one net while it trained.

    Attributes:
        epochs: when they were read, in epochs, fractions among them; rising.
        train_accuracy, test_accuracy: shares of the samples classified rightly, in eval mode; the latter
            is empty where there are no test samples.
        ended: "done": it had what it was trained for; "cap": the epochs were used up; "diverged": a
            parameter was no longer finite; "given up": others of its stack had already decided.
    """

    epochs: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    ended: str

    def epochs_to(self, target: float, split: str = "train") -> float | None:
        """When accuracy was first seen to be at least ``target``; None where it never was."""
        accuracies = self.train_accuracy if split == "train" else self.test_accuracy
        return reached_at(self.epochs, accuracies, target)


def reached_at(epochs: Sequence[float], accuracies: Sequence[float], target: float) -> float | None:
    """The first of the epochs whose accuracy is at least ``target``; None where there is none."""
    return next((e for e, a in zip(epochs, accuracies, strict=False) if a >= target), None)


@dataclass
class Progress:
    """What a stack's nets have come to so far, for those who decide or look on.

    Attributes:
        step: of the optimiser, the same for all.
        epoch: the same in epochs.
        epochs, train_accuracy, test_accuracy: one list a net, as in `Curve`.
        running: numbers of the nets that still train.
        parameters: ``[nets, p]`` of all nets; those that ended hold their last ones.
    """

    step: int
    epoch: float
    epochs: list[list[float]]
    train_accuracy: list[list[float]]
    test_accuracy: list[list[float]]
    running: list[int]
    parameters: Tensor = field(repr=False)


def checkpoints(steps_an_epoch: int, epochs: int, *, resolution: float = 0.05) -> tuple[int, ...]:
    """The steps after which accuracy is read.

    From an eighth of an epoch on, each at most ``resolution`` (a share) later than the one before, but
    no closer than an eighth of an epoch; the last is the end of the last epoch. So a time to a target
    is known to 5 % or to an eighth of an epoch, and reading costs less than training.
    """
    require_count("epochs", epochs)
    least = max(1, round(require_count("steps_an_epoch", steps_an_epoch) / 8))
    last, step, found = steps_an_epoch * epochs, 0, []
    while step < last:
        step = min(last, max(step + least, math.floor(step * (1 + resolution))))
        found.append(step)
    return tuple(found)


def batches_an_epoch(n: int, batch_size: int) -> int:
    """Batches of an epoch; a last one of a single sample is dropped where there are others.

    Batch normalisation has no variance of one sample; `train` leaves it out too.
    """
    return max(1, math.ceil(n / batch_size) - (n > 1 and n % batch_size == 1))


def train_stack(
    models: Sequence[nn.Module],
    data: LabelledData,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch_size: int = 128,
    is_done: Callable[[float, float], bool] = lambda train, test: False,
    give_up: Callable[[Progress], Sequence[int]] = lambda progress: (),
    on_checkpoint: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Curve, ...]:
    """Train nets with Adam and cross entropy, all at once, as each would be alone.

    Args:
        models: of one architecture without buffers, already initialised; left with the weights that
            they ended with, in eval mode.
        data: float inputs, int64 labels, and a test split.
        learning_rates, seeds: one a model; a seed decides the order of the samples.
        epochs: the cap.
        is_done: (train accuracy, test accuracy or NaN) -> whether a net needs no more training.
        give_up: at each checkpoint, the numbers of running nets whose further training no longer
            matters; such a net ends as "given up".
        on_checkpoint: called at each checkpoint, before nets leave, with the progress.

    Returns:
        one curve a model, in order.

    Raises:
        InputError: architectures that differ, buffers, or no samples.
    """
    stack = _Stack(models, learning_rates)
    order = _Order(len(data.inputs), batch_size, seeds)
    nets = range(len(models))
    progress = Progress(
        0, 0.0, [[] for _ in nets], [[] for _ in nets], [[] for _ in nets], list(nets),
        stack.parameters.clone(),
    )  # fmt: skip
    ended = ["cap" for _ in nets]
    for step in checkpoints(order.batches, epochs):
        for batch in order.take(step - progress.step, progress.running):
            stack.step(data.inputs[batch], data.labels[batch])
        progress.step, progress.epoch = step, step / order.batches
        _read(progress, stack, data)
        finite = stack.finite()
        on_checkpoint(progress)
        dropped = set(give_up(progress))
        left = []
        for place, net in enumerate(progress.running):
            if not finite[place]:
                ended[net] = "diverged"
            elif is_done(progress.train_accuracy[net][-1], _last(progress.test_accuracy[net])):
                ended[net] = "done"
            elif net in dropped:
                ended[net] = "given up"
            else:
                left.append(place)
        if len(left) < len(progress.running):
            stack.keep(left)
            progress.running = [progress.running[place] for place in left]
        if not left:
            break
    with torch.no_grad():
        for model, row in zip(models, progress.parameters, strict=True):
            nn.utils.vector_to_parameters(row.clone(), model.parameters())
            model.eval()
    rows = zip(progress.epochs, progress.train_accuracy, progress.test_accuracy, ended, strict=True)
    return tuple(Curve(tuple(e), tuple(a), tuple(t), end) for e, a, t, end in rows)


def train_alone(
    model: nn.Module,
    data: LabelledData,
    *,
    learning_rate: float,
    seed: int,
    epochs: int,
    batch_size: int = 128,
    is_done: Callable[[float, float], bool] = lambda train, test: False,
    on_checkpoint: Callable[[float], None] = lambda epoch: None,
) -> Curve:
    """What `train_stack` does, for one net of any kind, e.g. with batch normalisation.

    ``on_checkpoint`` is called with the epochs so far.
    """
    order = _Order(len(data.inputs), batch_size, [seed])
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    times: list[float] = []
    on_train: list[float] = []
    on_test: list[float] = []
    done, ended = 0, "cap"
    for step in checkpoints(order.batches, epochs):
        model.train()
        for batch in order.take(step - done, [0]):
            loss = F.cross_entropy(model(data.inputs[batch[0]]), data.labels[batch[0]])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        done = step
        times.append(round(step / order.batches, 6))
        on_train.append(accuracy(model, data.inputs, data.labels))
        if len(data.test_inputs):
            on_test.append(accuracy(model, data.test_inputs, data.test_labels))
        if not all(bool(p.isfinite().all()) for p in model.parameters()):
            ended = "diverged"
            break
        on_checkpoint(times[-1])
        if is_done(on_train[-1], _last(on_test)):
            ended = "done"
            break
    model.eval()
    return Curve(tuple(times), tuple(on_train), tuple(on_test), ended)


def _last(accuracies: list[float]) -> float:
    return accuracies[-1] if accuracies else math.nan


def _read(progress: Progress, stack: _Stack, data: LabelledData) -> None:
    on_train = stack.accuracies(data.inputs, data.labels)
    on_test = stack.accuracies(data.test_inputs, data.test_labels)
    for place, net in enumerate(progress.running):
        progress.epochs[net].append(round(progress.epoch, 6))
        progress.train_accuracy[net].append(on_train[place])
        if len(data.test_inputs):
            progress.test_accuracy[net].append(on_test[place])
        progress.parameters[net] = stack.parameters[place]


class _Order:
    """The batches of each net, from its own seed."""

    def __init__(self, n: int, batch_size: int, seeds: Sequence[int]) -> None:
        if n == 0:
            raise InputError("0 training samples", "at least one", "check the data")
        self.n, self.batch_size = n, require_count("batch_size", batch_size)
        self.batches = batches_an_epoch(n, batch_size)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._queue: list[Tensor] = []  # [nets, samples] of what is left of the epoch
        self._of: list[int] = []

    def take(self, steps: int, nets: list[int]) -> Iterator[Tensor]:
        """So many batches ``[nets, samples]`` of sample numbers; nets only ever leave."""
        for _ in range(steps):
            if not self._queue:
                drawn = [torch.randperm(self.n, generator=self._generators[net]) for net in nets]
                split = torch.split(torch.stack(drawn), self.batch_size, dim=1)
                self._queue = list(split[: self.batches])
                self._of = list(nets)
            batch = self._queue.pop(0)
            yield batch if self._of == nets else batch[[self._of.index(net) for net in nets]]


class _Stack:
    """The parameters of the running nets ``[nets, p]`` and their Adam (Kingma and Ba, 2015)."""

    def __init__(self, models: Sequence[nn.Module], rates: Sequence[float]) -> None:
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in models]
        if not models or any(shape != shapes[0] for shape in shapes):
            raise InputError(
                f"{len(models)} models of different parameters",
                "one architecture",
                "make them by one factory",
            )
        if next(models[0].buffers(), None) is not None:
            raise InputError(
                "a model with buffers, e.g. batch normalisation", "parameters alone", "train it alone"
            )
        self._net, self._shapes = models[0], shapes[0]
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        vectors = [nn.utils.parameters_to_vector(model.parameters()).detach() for model in models]
        self.parameters = torch.stack(vectors)
        self.rates = torch.tensor(rates, device=self.parameters.device).unsqueeze(1)
        self.mean, self.square = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.steps = 0
        self._plain = _plain_layers(self._net)

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One step of Adam, inputs ``[nets, samples, ...]`` and labels ``[nets, samples]``."""
        self.steps += 1
        self._net.train()
        for part in self._parts():
            leaf = self.parameters[part].detach().requires_grad_()
            logits = self._forward(leaf, inputs[part])
            loss = F.cross_entropy(logits.flatten(0, 1), labels[part].flatten(), reduction="sum")
            gradient = torch.autograd.grad(loss / labels.shape[1], leaf)[0]
            mean = self.mean[part].lerp_(gradient, 0.1)
            square = self.square[part].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            spread = square.sqrt().div_(math.sqrt(1 - 0.999**self.steps)).add_(1e-8)
            way = mean * (self.rates[part] / (1 - 0.9**self.steps))
            self.parameters[part].addcdiv_(way, spread, value=-1)

    def accuracies(self, inputs: Tensor, labels: Tensor) -> list[float]:
        """Share of the samples that each net classifies rightly, in eval mode."""
        self._net.eval()
        hits = torch.zeros(len(self.parameters), device=inputs.device)
        size = EVALUATED if self._plain is None else EVALUATED_PLAIN
        with torch.no_grad():
            for part in self._parts():
                parameters = self.parameters[part]
                for x, y in zip(torch.split(inputs, size), torch.split(labels, size), strict=True):
                    logits = self._forward(parameters, x.expand(len(parameters), *x.shape))
                    hits[part] += (predicted(logits) == y).sum(1)
        return [hit / max(len(inputs), 1) for hit in hits.tolist()]

    def finite(self) -> list[bool]:
        return self.parameters.isfinite().all(1).tolist()

    def keep(self, places: list[int]) -> None:
        for name in ("parameters", "rates", "mean", "square"):
            setattr(self, name, getattr(self, name)[places])

    def _parts(self) -> list[slice]:
        return [slice(i, i + TOGETHER) for i in range(0, len(self.parameters), TOGETHER)]

    def _forward(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """``[nets, p]`` and ``[nets, samples, ...]`` -> ``[nets, samples, classes]``."""
        if self._plain is None:
            stacked: Tensor = vmap(self._alone, randomness="different")(parameters, inputs)
            return stacked
        # Samples last: the matrix product is a fifth faster than with narrow layers last.
        left, x = iter(torch.split(parameters, self._sizes, dim=1)), inputs.flatten(2).transpose(1, 2)
        for module in self._plain[1:]:
            if isinstance(module, nn.Linear):
                weight = next(left).view(len(parameters), *module.weight.shape)
                if module.bias is None:
                    x = torch.bmm(weight, x)
                else:
                    x = torch.baddbmm(next(left).unsqueeze(2), weight, x)
            else:
                x = module(x)
        return x.transpose(1, 2)

    def _alone(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        pieces = torch.split(parameters, self._sizes)
        shaped = zip(self._shapes.items(), pieces, strict=True)
        named = {name: piece.view(shape) for (name, shape), piece in shaped}
        out: Tensor = functional_call(self._net, named, (inputs,))
        return out


def _plain_layers(net: nn.Module) -> list[nn.Module] | None:
    """The layers of a multilayer perceptron of which each acts on a stack as on one net; else None.

    Such a stack needs no ``vmap``, whose work in Python is as much as that of a small layer.
    """
    if type(net) is not nn.Sequential or _hooked(net):
        return None
    layers = list(net)
    first = layers[0] if layers else None
    if type(first) is not nn.Flatten or (first.start_dim, first.end_dim) != (1, -1):
        return None
    if not all(type(layer) in (nn.Linear, *ELEMENTWISE) for layer in layers[1:]):
        return None
    owners = [layer for layer in layers if next(layer.parameters(), None) is not None]
    each = {id(p) for layer in owners for p in layer.parameters()}
    learning = any(type(layer) is not nn.Linear for layer in owners)
    shared = len(each) < sum(len(list(layer.parameters())) for layer in owners)
    return None if learning or shared else layers


def _hooked(net: nn.Module) -> bool:
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in net.modules()
    )

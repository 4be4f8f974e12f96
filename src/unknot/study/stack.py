"""Stack: nets of one architecture as one, which step together; and what nets are trained for.

The parameters of the nets are the rows of one matrix. The loss of a stack is the sum of the losses of its
nets, and Adam treats each parameter by itself: every net takes the steps that it would take alone. Shared
is the work of Python and of the dispatcher, which in small nets is most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.adam import adam

from unknot.activations.folds import ACTIVATIONS
from unknot.core.errors import InputError
from unknot.nets.accuracy import class_loss, class_scores, model_scores, predicted, squared_loss
from unknot.nets.data import LabelledData
from unknot.nets.training import batches_an_epoch, descend

# Nets that go through one operation together: more would leave the cache, fewer leave work to Python.
TOGETHER = 16
# Samples in one pass of evaluation: more would leave the cache.
EVALUATED, EVALUATED_PLAIN = 512, 256
# Samples that a single net answers at once.
PART = 4096
# Modules that work on each number by itself, as every built-in activation does.
ELEMENTWISE = {nn.Identity, nn.Sigmoid, *(type(new()) for new in ACTIVATIONS.values())}


class Loss(Protocol):
    """What nets are trained to make small, e.g. `class_loss` or `squared_loss`."""

    def __call__(
        self, outputs: Tensor, targets: Tensor, /, *, reduction: Literal["sum", "none"]
    ) -> Tensor:
        """Of outputs ``[n, k]`` and targets ``[n, ...]``: one a sample, ``[n]``, or their sum."""


# Outputs [..., n, k] and targets [n] -> [..., n]: what each sample takes from the score.
Errors: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Goal:
    """What nets are trained for, and how they are judged.

    Attributes:
        metric: name of the score, which is at most 1: 1 - (sum of the errors) / ``worst``.
        loss_metric: name of what is the better the smaller.
        loss: that they are trained on.
        errors: see `Errors`.
        worst: targets ``[n]`` -> the sum of the errors of a net whose score is 0.
    """

    metric: str
    loss_metric: str
    loss: Loss
    errors: Errors
    worst: Callable[[Tensor], float]


def goal_of(targets: Tensor) -> Goal:
    """Classes where the targets ``[n]`` are whole numbers, squared errors where they are floats."""
    return NUMBERS if targets.is_floating_point() else CLASSES


def _wrong(outputs: Tensor, labels: Tensor) -> Tensor:
    return predicted(outputs) != labels


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[..., 0] - targets).double().square()


def _spread(targets: Tensor) -> float:
    return float((targets.double() - targets.double().mean()).square().sum())


CLASSES = Goal("accuracy", "cross entropy", class_loss, _wrong, len)
NUMBERS = Goal("R^2", "RMSE", squared_loss, _squares, _spread)


class Stack:
    """The parameters of the running nets ``[nets, p]`` and their Adam (Kingma and Ba, 2015).

    Args:
        models: of one architecture without buffers, already initialised; they stay as they are.
        rates: learning rates, one a model.
        loss: of a step.

    Raises:
        InputError: no models, architectures that differ, or buffers.
    """

    def __init__(
        self, models: Sequence[nn.Module], rates: Sequence[float], loss: Loss = class_loss
    ) -> None:
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
        self.rates = rates
        self._loss = loss
        self.mean, self.square = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        # Kept: a fresh megabyte at every step is given back to the system, and costs more than its use.
        self._update = torch.empty_like(self.parameters[:TOGETHER])
        self.steps = 0
        self._plain = plain_layers(self._net)

    @property
    def rates(self) -> Tensor:
        """Learning rates ``[nets]``; may be set between steps, as one for all or one a net."""
        return self._rates[:, 0]

    @rates.setter
    def rates(self, rates: Tensor | Sequence[float] | float) -> None:
        given = torch.as_tensor(rates, dtype=self.parameters.dtype, device=self.parameters.device)
        self._rates = given.expand(len(self.parameters)).clone().unsqueeze(1)

    def step(self, inputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> None:
        """One step of Adam on the mean loss of a batch.

        Args:
            inputs: ``[nets, samples, ...]``.
            targets: ``[nets, samples, ...]``, classes or numbers, as the loss takes them.
            weights: of the samples, ``[nets, samples]``: each multiplies the loss of its sample, and the
                sum is divided by the number of samples, so that weights of 1 change nothing.
        """
        self._net.train()
        for part in _parts(len(self.parameters)):
            leaf = self.parameters[part].detach().requires_grad_()
            outputs, aims = self._forward(leaf, inputs[part]).flatten(0, 1), targets[part].flatten(0, 1)
            if weights is None:
                loss = self._loss(outputs, aims, reduction="sum")
            else:
                loss = self._loss(outputs, aims, reduction="none") @ weights[part].flatten()
            gradient = torch.autograd.grad(loss / targets.shape[1], leaf)[0]
            # Torch's Adam has one learning rate: it steps from zero at rate 1, and each row is scaled.
            update = self._update[: len(leaf)].zero_()
            adam(
                [update], [gradient], [self.mean[part]], [self.square[part]], [],
                [torch.full((), float(self.steps), device=update.device)], fused=True, lr=1.0,
                beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
            )  # fmt: skip
            self.parameters[part].addcmul_(update, self._rates[part])
        self.steps += 1

    @torch.no_grad()
    def outputs(self, inputs: Tensor, nets: Sequence[int] | None = None) -> Tensor:
        """What nets return for the same samples, in eval mode.

        Args:
            inputs: ``[samples, ...]``.
            nets: places in the stack; None: all.

        Returns:
            ``[nets, samples, outputs]``.
        """
        nets = range(len(self.parameters)) if nets is None else nets
        parts: dict[int, list[Tensor]] = {}
        for part, _, outputs in self._evaluated(inputs, nets):
            parts.setdefault(part.start, []).append(outputs)
        return torch.cat([torch.cat(of_nets, dim=1) for of_nets in parts.values()])

    @torch.no_grad()
    def sum_errors(
        self, inputs: Tensor, targets: Tensor, nets: Sequence[int], errors: Errors
    ) -> list[float]:
        """The errors that each of these nets makes on the samples, summed, in eval mode."""
        sums = torch.zeros(len(nets), dtype=torch.float64, device=inputs.device)
        for part, samples, outputs in self._evaluated(inputs, nets):
            sums[part] += errors(outputs, targets[samples]).sum(1)
        found: list[float] = sums.tolist()
        return found

    def finite(self) -> list[bool]:
        return self.parameters.isfinite().all(1).tolist()

    def keep(self, places: list[int]) -> None:
        for name in ("parameters", "_rates", "mean", "square"):
            setattr(self, name, getattr(self, name)[places])

    def _evaluated(self, inputs: Tensor, nets: Sequence[int]) -> Iterator[tuple[slice, slice, Tensor]]:
        """(places among ``nets``, places among the samples, outputs), part by part, in eval mode."""
        self._net.eval()
        parameters = self.parameters[list(nets)] if len(nets) < len(self.parameters) else self.parameters
        size = EVALUATED if self._plain is None else EVALUATED_PLAIN
        for part in _parts(len(nets)):
            of_part = parameters[part]
            for start in range(0, len(inputs), size):
                samples = slice(start, start + size)
                x = inputs[samples]
                yield part, samples, self._forward(of_part, x.expand(len(of_part), *x.shape))

    def _forward(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """``[nets, p]`` and ``[nets, samples, ...]`` -> ``[nets, samples, outputs]``."""
        if self._plain is None:
            stacked: Tensor = vmap(self._alone, randomness="different")(parameters, inputs)
            return stacked
        # Samples last: the matrix product is a fifth faster than with narrow layers last.
        tensors = iter(torch.split(parameters, self._sizes, dim=1))
        x = inputs.flatten(2).transpose(1, 2)
        for module in self._plain[1:]:
            if isinstance(module, nn.Linear):
                weight = next(tensors).view(len(parameters), *module.weight.shape)
                if module.bias is None:
                    x = torch.bmm(weight, x)
                else:
                    x = torch.baddbmm(next(tensors).unsqueeze(2), weight, x)
            else:
                x = module(x)
        return x.transpose(1, 2)

    def _alone(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        pieces = torch.split(parameters, self._sizes)
        shaped = zip(self._shapes.items(), pieces, strict=True)
        named = {name: piece.view(shape) for (name, shape), piece in shaped}
        return class_scores(functional_call(self._net, named, (inputs,)), len(inputs))


class NetsTogether:
    """Nets of one architecture that step as a stack, each with its own order of the samples.

    Args:
        models: as of `Stack`.
        data: to train on.
        rates, seeds: one a model; a seed is of the order.
        batch_size: samples a step.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        data: LabelledData,
        rates: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
    ) -> None:
        self._goal = goal_of(data.labels)
        self.stack = Stack(models, rates, self._goal.loss)
        self.batches = _require_batches(data, batch_size)
        self._data, self._rates, self._factor = data, self.stack.rates, 1.0
        self._orders = [_sample_orders(len(data.inputs), batch_size, seed) for seed in seeds]

    def step(self, factor: float = 1.0) -> None:
        """One step of every net, at its learning rate times ``factor``."""
        if factor != self._factor:
            self.stack.rates, self._factor = self._rates * factor, factor
        batch = torch.stack([next(order) for order in self._orders])
        self.stack.step(self._data.inputs[batch], self._data.labels[batch])

    def outputs(self, inputs: Tensor) -> Tensor:
        """``[nets, samples, outputs]`` for inputs ``[samples, ...]``, in eval mode."""
        return self.stack.outputs(inputs)

    def sum_errors(self, inputs: Tensor, targets: Tensor, nets: list[int]) -> list[float]:
        """Of each of these nets, in eval mode."""
        return self.stack.sum_errors(inputs, targets, nets, self._goal.errors)

    def finite(self) -> list[bool]:
        """Whether the parameters of each net are numbers."""
        return self.stack.finite()

    def keep(self, places: list[int]) -> None:
        """Go on with the nets at these places alone."""
        self.stack.keep(places)
        self._rates, self._orders = self._rates[places], [self._orders[place] for place in places]


class NetAlone:
    """What `NetsTogether` does, for one net of any kind, in place."""

    def __init__(
        self, model: nn.Module, data: LabelledData, rate: float, seed: int, batch_size: int
    ) -> None:
        self._model, self._goal, self._factor = model, goal_of(data.labels), 1.0
        self.batches = _require_batches(data, batch_size)
        self._steps = descend(
            model, data, learning_rate=rate, batch_size=batch_size, seed=seed,
            loss_of=self._mean_loss, factor=lambda: self._factor,
        )  # fmt: skip

    def _mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._goal.loss(outputs, targets, reduction="sum") / len(targets)

    def step(self, factor: float = 1.0) -> None:
        self._factor = factor
        self._model.train()
        next(self._steps)

    def outputs(self, inputs: Tensor) -> Tensor:
        self._model.eval()
        with torch.no_grad():
            return model_scores(self._model, inputs)[None]

    def sum_errors(self, inputs: Tensor, targets: Tensor, _: list[int]) -> list[float]:
        parts = zip(torch.split(inputs, PART), torch.split(targets, PART), strict=True)
        return [sum(float(self._goal.errors(self.outputs(x), y).sum()) for x, y in parts)]

    def finite(self) -> list[bool]:
        return [all(bool(p.isfinite().all()) for p in self._model.parameters())]


def _require_batches(data: LabelledData, batch_size: int) -> int:
    if len(data.inputs) == 0:
        raise InputError("0 training samples", "at least one", "check the data")
    return batches_an_epoch(len(data.inputs), batch_size)


def _sample_orders(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Numbers of the samples of each batch, without end; the order is drawn anew each epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        batches = torch.split(torch.randperm(n, generator=generator), batch_size)
        yield from batches[: batches_an_epoch(n, batch_size)]


@torch.no_grad()
def fill_models(models: Iterable[nn.Module], parameters: Tensor) -> None:
    """Put rows of parameters ``[nets, p]`` into models like those of their stack, left in eval mode."""
    for model, row in zip(models, parameters, strict=True):
        nn.utils.vector_to_parameters(row.clone(), model.parameters())
        model.eval()


def _parts(nets: int) -> list[slice]:
    return [slice(i, i + TOGETHER) for i in range(0, nets, TOGETHER)]


def plain_layers(net: nn.Module) -> list[nn.Module] | None:
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
    learning = any(type(layer) is not nn.Linear and list(layer.parameters()) for layer in layers)
    parameters = [id(p) for layer in layers for p in layer.parameters()]
    shared = len(set(parameters)) < len(parameters)
    return None if learning or shared else layers


def _hooked(net: nn.Module) -> bool:
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in net.modules()
    )

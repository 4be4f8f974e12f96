"""Stack: nets of one architecture as one, which step together.

The parameters of the nets are the rows of one matrix. The loss of a stack is the sum of the losses of its
nets, and Adam treats each parameter by itself: every net takes the steps that it would take alone. Shared
is the work of Python and of the dispatcher, which in small nets is most of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.adam import adam

from unknot.activations.folds import ACTIVATIONS
from unknot.core.errors import InputError
from unknot.nets.accuracy import class_loss, class_scores, predicted

# Nets that go through one operation together: more would leave the cache, fewer leave work to Python.
TOGETHER = 16
# Samples in one pass of evaluation: more would leave the cache.
EVALUATED, EVALUATED_PLAIN = 512, 256
# Modules that work on each number by itself, as every built-in activation does.
ELEMENTWISE = {nn.Identity, nn.Sigmoid, *(type(new()) for new in ACTIVATIONS.values())}


class Loss(Protocol):
    """What nets are trained to make small, e.g. `class_loss` or `squared_loss`."""

    def __call__(
        self, outputs: Tensor, targets: Tensor, /, *, reduction: Literal["sum", "none"]
    ) -> Tensor:
        """Of outputs ``[n, k]`` and targets ``[n, ...]``: one a sample, ``[n]``, or their sum."""


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
    def count_right(self, inputs: Tensor, labels: Tensor, nets: list[int]) -> list[int]:
        """How many of the samples each of these nets classifies rightly, in eval mode."""
        right = torch.zeros(len(nets), dtype=torch.int64, device=inputs.device)
        for part, samples, outputs in self._evaluated(inputs, nets):
            right[part] += (predicted(outputs) == labels[samples]).sum(1)
        counts: list[int] = right.tolist()
        return counts

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

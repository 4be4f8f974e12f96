"""What each convolution hands on to the layers that use it, batch by batch, with its gate gradients.

Apart from ``capture``, because gradients need the live tensors, and running sums need no record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unknot.core.errors import InputError
from unknot.nets.accuracy import class_loss, class_scores, fit_labels
from unknot.nets.follower import Follower, _identity
from unknot.nets.probe import Inputs, Probe
from unknot.nets.recording import PASS_BYTES, Key, LayerOutput
from unknot.nets.running import as_it_was, call_model, placed
from unknot.profiles.clouds import require_finite

MOST_AT_ONCE = 32
# Kept for the backward pass, copied and reduced: so many times what the convolutions hand on.
_COPIES = 6
_IN_PLACE = frozenset({"relu", "leaky_relu", "elu", "selu", "celu", "tanh", "hardtanh"})


@dataclass(frozen=True, eq=False)
class Response:
    """What one call of a convolution handed on for one batch.

    Attributes:
        layer: dotted module name.
        call: 0 for its first call in a forward pass, 1 for the second, ...
        values: ``[b, c, ...]``: after normalisation, the activation function and pooling, as far as
            they follow channel by channel.
        gradients: ``[b, c]``: the derivative of each sample's loss by a factor on the channel, at
            factor 1; None where no labels were given.
    """

    layer: str
    call: int
    values: Tensor
    gradients: Tensor | None


class Responses:
    """Runs a model in eval mode on a probe; it comes back as it was.

    Args:
        convolutions: by name; linear layers among them are watched as 1 x 1 convolutions.
        labels: int64 ``[n]`` for gradients of the cross entropy, or None.

    Attributes:
        norms: the batch normalisation that follows a convolution, by the convolution's name; complete
            once a batch has run.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        convolutions: Mapping[str, nn.Module],
        labels: Tensor | None = None,
    ) -> None:
        self.model, self.probe, self.convolutions, self.labels = model, probe, convolutions, labels
        self.norms: dict[str, _BatchNorm] = {}

    def batches(self) -> Iterator[list[Response]]:
        """The responses of every batch, in the order in which the convolutions ran.

        Raises:
            InputError: NaN (the layer is named), samples or labels that do not fit the model.
        """
        trial = next(self.probe.batches(2))
        found = self._run(trial, None)
        one = sum(r.values[:1].numel() * r.values.element_size() for r in found)
        size = min(MOST_AT_ONCE, max(1, PASS_BYTES // max(1, _COPIES * one)))
        start = 0
        for batch in self.probe.batches(size):
            labels = None if self.labels is None else self.labels[start : start + size]
            yield self._run(batch, labels)
            start += size

    def _run(self, batch: Inputs, labels: Tensor | None) -> list[Response]:
        batch = placed(batch, self.model)
        chain = _Chain(gradients=labels is not None)
        calls: Counter[str] = Counter()

        def hook(name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
            chain.start((name, calls[name]), module, output)
            calls[name] += 1

        with ExitStack() as stack:
            stack.enter_context(as_it_was(self.model))
            if labels is not None:
                stack.enter_context(_differentiable(self.model))
            for name, module in self.convolutions.items():
                stack.callback(module.register_forward_hook(partial(hook, name)).remove)
            stack.enter_context(chain.watching(self.model))
            output = call_model(self.model, batch)
            self.norms.update({key[0]: norm for key, norm in chain.norms.items()})
            for (layer, call), values in chain.values.items():
                require_finite(LayerOutput(layer, call, values), None)
            gradients = {} if labels is None else chain.gradients(_loss(output, labels))
        return [Response(*key, values, gradients.get(key)) for key, values in chain.values.items()]


class _Chain(Follower):
    """Follows each convolution to its activation function, and on to a pooling right behind it.

    Values are copied when they are seen: what follows may change the tensor in place. The gate stands
    behind the activation function, or behind the normalisation where there is none, for there other
    branches may leave (a skip connection before the pooling).
    """

    def __init__(self, *, gradients: bool) -> None:
        super().__init__("activation")
        self.values: dict[Key, Tensor] = {}
        self.norms: dict[Key, _BatchNorm] = {}
        self._with_gradients = gradients
        self._gates: dict[Key, tuple[Any, Tensor]] = {}  # gradient edge, values
        self._head: dict[Key, tuple[Any, ...]] = {}  # the latest tensor of the chain
        self._activated: set[Key] = set()
        self._last: set[Key] = set()  # those whose channels are the last dimension

    def start(self, key: Key, module: nn.Module, output: Tensor) -> None:
        self._begin(key, output)
        if isinstance(module, nn.Linear):
            self._last.add(key)
        self._advance(key, output)

    def gradients(self, loss: Tensor) -> dict[Key, Tensor]:
        """``[b, c]`` for every gate: sum over positions of gradient x value; 0 where unused."""
        keys = list(self._gates)
        if not loss.requires_grad:
            raise _not_differentiable("an output")
        found = torch.autograd.grad(loss, [self._gates[k][0] for k in keys], allow_unused=True)
        return {
            key: torch.zeros(self._channels_second(key, values).shape[:2])
            if gradient is None
            else self._channels_second(key, gradient * values).flatten(2).sum(2).cpu()
            for key, gradient in zip(keys, found, strict=True)
            for values in [self._gates[key][1]]
        }

    def _advance(self, key: Key, output: Tensor) -> None:
        self._head[key] = _layout(output)
        values = output.detach().clone()
        self.values[key] = self._channels_second(key, values)
        if self._with_gradients and key not in self._activated:
            if not output.requires_grad:
                raise _not_differentiable(f"layer {key[0]}")
            self._gates[key] = (torch.autograd.graph.get_gradient_edge(output), values)

    def _channels_second(self, key: Key, values: Tensor) -> Tensor:
        """``[b, c, ...]``, from ``[b, ..., c]`` or ``[b, c]`` of a linear layer."""
        if key not in self._last:
            return values
        return values.movedim(-1, 1) if values.ndim > 2 else values[..., None]

    def _step(self, before: Any, output: Any, kind: str) -> None:
        if not (isinstance(before, Tensor) and isinstance(output, Tensor)):
            return
        key = self._key(before)
        if key is None:
            return
        ends = key in self._activated and (kind != "pooling" or key in self._last)
        if ends or output.ndim != before.ndim or output.shape[:2] != before.shape[:2]:
            return
        self._followed[_identity(output)] = (key, output)
        self._advance(key, output)
        if kind == "activation":
            self._activated.add(key)

    def _key(self, tensor: Tensor) -> Key | None:
        """The chain whose latest tensor this is."""
        key, _ = self._followed.get(_identity(tensor), (None, None))
        return key if key is not None and self._head[key] == _layout(tensor) else None

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, _BatchNorm) and inputs and isinstance(inputs[0], Tensor):
            key = self._key(inputs[0])
            if key is not None:
                self.norms.setdefault(key, module)
        super()._leave(module, inputs, output)

    def _call(self, name: str, inputs: Any, output: Any) -> None:
        super()._call(name, inputs, output)
        in_place = name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
        known = name.rstrip("_") in _IN_PLACE or self._depth
        if in_place and not known and isinstance(output, Tensor):  # x += shortcut
            self._followed.pop(_identity(output), None)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    """One value for a tensor and its detached views; another for a permuted one (channels last)."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _not_differentiable(what: str) -> InputError:
    return InputError(
        f"{what} that is computed without gradients",
        "a loss that can be differentiated by every convolution",
        "take torch.no_grad and detach out of the model, or a criterion without 'taylor'",
    )


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Gradients, through frozen layers too."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _loss(output: Any, labels: Tensor) -> Tensor:
    scores = class_scores(output, len(labels))
    return class_loss(scores, fit_labels(labels, scores), reduction="sum")

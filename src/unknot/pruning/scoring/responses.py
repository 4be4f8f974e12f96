"""What each convolution hands on to the layers that use it, batch by batch, with its gate gradients.

Apart from `Recording`, because gradients need the live tensors, and running sums need no record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unknot.core.errors import InputError
from unknot.nets.accuracy import class_loss, class_scores, ends_in_sigmoid, fit_labels
from unknot.nets.follower import Follower, Key, Step
from unknot.nets.probe import Inputs, Probe
from unknot.nets.recording import PASS_BYTES, LayerOutput
from unknot.nets.running import as_it_was, call_model, copied, hooked, hooked_before, n_samples, placed
from unknot.profiles.clouds import require_finite
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import is_attention, is_linear, width_of
from unknot.pruning.structure.linear_maps import LinearMap, by_sample
from unknot.pruning.structure.map_calls import watching_maps

MOST_AT_ONCE = 32
# Kept for the backward pass, copied and reduced: so many times what the convolutions hand on.
_COPIES = 6


@dataclass(frozen=True, eq=False)
class Response:
    """What one call of a convolution handed on for one batch.

    Attributes:
        layer, call: dotted module name; 0 for its first call in a forward pass, 1 for the second, ...
        values: ``[b, c, ...]``, see `by_sample`: after normalisation, the activation function and
            pooling, as far as they follow channel by channel.
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
        convolutions: by name; linear layers among them are watched as 1 x 1 convolutions, attention by
            what enters its projection out.
        labels: int64 ``[n]`` for gradients of the cross entropy, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        convolutions: Mapping[str, nn.Module],
        labels: Tensor | None = None,
    ) -> None:
        if any(map(is_attention, convolutions.values())):  # one that calls its projection out
            model = narrow_all(copied(model))
            convolutions = {name: model.get_submodule(name) for name in convolutions}
        self.model, self.probe, self.convolutions, self.labels = model, probe, convolutions, labels
        self.attention = {name: m for name, m in convolutions.items() if is_attention(m)}
        # By the name of the convolution, once a batch has run: what is behind it, what it weighs by.
        self.norms: dict[str, _BatchNorm] = {}
        self.weights: dict[str, Tensor] = {}
        self.ends_in_sigmoid = labels is not None and ends_in_sigmoid(model, probe.inputs)

    def batches(self) -> Iterator[list[Response]]:
        """The responses of every batch, in the order in which the convolutions ran.

        Raises:
            InputError: NaN (the layer is named), samples or labels that do not fit the model.
        """
        trial = self._run(next(self.probe.batches(2)), None)
        one = sum(r.values.nbytes for r in trial) // 2
        size = min(MOST_AT_ONCE, max(1, PASS_BYTES // max(1, _COPIES * one)))
        start = 0
        for batch in self.probe.batches(size):
            labels = None if self.labels is None else self.labels[start : start + size]
            yield self._run(batch, labels)
            start += size

    def _run(self, batch: Inputs, labels: Tensor | None) -> list[Response]:
        batch = placed(batch, self.model)
        n = n_samples(batch)
        chain = _Chain(self.convolutions, n, gradients=labels is not None)
        calls: Counter[str] = Counter()

        def start(name: str, output: Tensor, layer: LinearMap | None = None) -> None:
            chain.start((name, calls[name]), output, layer)
            calls[name] += 1

        made: dict[str, Tensor] = {}  # by the layers that are running

        def hook(name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
            found = _with_channels(module, output, made.pop(name, None), n)
            if found is not None:
                start(name, found)

        def project(name: str, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            chain.hold((name, calls[name]), inputs[0])
            calls[name] += 1

        def see(name: str, layer: LinearMap, output: Tensor) -> None:
            if name in self.attention:
                return
            if name not in self.weights:
                self.weights[name] = layer.filters.flatten(1)
            if name in maps.running:
                made[name] = output
            else:  # another module uses its weights
                start(name, output, layer)

        differentiable = nullcontext() if labels is None else _differentiable(self.model)
        watching = chain.follower.watching(self.model)
        with (
            as_it_was(self.model),
            differentiable,
            hooked(self.convolutions, hook),
            hooked_before({n: m.get_submodule("out_proj") for n, m in self.attention.items()}, project),
            watching,
            watching_maps(self.convolutions, see) as maps,
        ):
            output = call_model(self.model, batch)
            self.norms.update({key[0]: norm for key, norm in chain.norms.items()})
            for (layer, call), values in chain.values.items():
                require_finite(LayerOutput(layer, call, values), None)
            gradients = {}
            if labels is not None:
                scores = class_scores(output, len(labels))
                if self.ends_in_sigmoid:
                    scores = scores.logit(1e-6)
                loss = class_loss(scores, fit_labels(labels, scores), reduction="sum")
                gradients = chain.gradients(loss)
        return [Response(*key, values, gradients.get(key)) for key, values in chain.values.items()]


class _Chain:
    """Follows each convolution to its activation function, and on to a pooling right behind it.

    Values are copied when they are seen: what follows may change the tensor in place. The gate stands
    behind the activation function, or behind the normalisation where there is none, for there other
    branches may leave (a skip connection before the pooling).
    """

    def __init__(self, layers: Mapping[str, nn.Module], n: int, *, gradients: bool) -> None:
        self.layers, self.n = layers, n
        self.follower = Follower(self._see)
        self.values: dict[Key, Tensor] = {}
        self.norms: dict[Key, _BatchNorm] = {}
        self._with_gradients = gradients
        self._gates: dict[Key, tuple[Any, Tensor]] = {}  # gradient edge, values
        self._head: dict[Key, tuple[Any, ...]] = {}  # the latest tensor of the chain
        self._folded: dict[Key, LinearMap] = {}
        self._activated: set[Key] = set()

    def start(self, key: Key, output: Tensor, layer: LinearMap | None) -> None:
        if layer and layer.folded:
            self._folded[key] = layer
        self.follower.follow(key, output)
        self.hold(key, output)

    def gradients(self, loss: Tensor) -> dict[Key, Tensor]:
        """``[b, c]`` for every gate: sum over positions of gradient x value; 0 where unused."""
        if not loss.requires_grad:
            raise _not_differentiable("an output")
        edges = [edge for edge, _ in self._gates.values()]
        gradients = torch.autograd.grad(loss, edges, allow_unused=True)
        return {
            key: torch.zeros(self._by_sample(key, values).shape[:2])
            if gradient is None
            else self._by_sample(key, gradient * values).flatten(2).sum(2).cpu()
            for (key, (_, values)), gradient in zip(self._gates.items(), gradients, strict=True)
        }

    def _by_sample(self, key: Key, values: Tensor) -> Tensor:
        folded = self._folded.get(key)
        return by_sample(self.layers[key[0]], folded.entries(values) if folded else values, self.n)

    def hold(self, key: Key, output: Tensor) -> None:
        self._head[key] = _layout(output)
        values = output.detach().clone()
        self.values[key] = self._by_sample(key, values)
        if self._with_gradients and key not in self._activated:
            if not output.requires_grad:
                raise _not_differentiable(f"layer {key[0]}")
            self._gates[key] = (torch.autograd.graph.get_gradient_edge(output), values)

    def _see(self, key: Key, step: Step) -> bool:
        if self._head[key] != _layout(step.before):
            return False
        if isinstance(step.module, _BatchNorm):
            self.norms.setdefault(key, step.module)
        pooled = step.kind == "pooling" and not is_linear(self.layers[key[0]])
        ends = key in self._activated and not pooled
        if ends or step.after.ndim != step.before.ndim:
            return False
        shapes = [self._by_sample(key, t).shape[:2] for t in (step.before, step.after)]
        if shapes[0] != shapes[1]:  # e.g. a gated linear unit, which takes two channels for one
            return False
        self.hold(key, step.after)
        if step.kind == "activation":
            self._activated.add(key)
        return True


def _with_channels(layer: nn.Module, output: Any, made: Tensor | None, n: int) -> Tensor | None:
    """What a layer returned for ``n`` samples, where `by_sample` finds its channels in that.

    Else, where its own forward squeezed or moved them, the convolution or product that it made last.
    """
    whole = None if made is None or is_linear(layer) else made.ndim
    found = [t for t in (output, made) if isinstance(t, Tensor) and t.ndim and whole in (None, t.ndim)]
    return next((t for t in found if by_sample(layer, t, n).shape[1] == width_of(layer)), None)


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

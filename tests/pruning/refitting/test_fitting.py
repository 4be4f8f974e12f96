"""Refitting while the pruned model runs: sums fitted as one, what nothing changed passed over."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unknot.nets.models import resnet
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.refitting import original as originals
from unknot.pruning.refitting.consumers import Consumers, find_consumers
from unknot.pruning.refitting.fitting import Fitting
from unknot.pruning.refitting.original import Original, outputs_of
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters

pytestmark = pytest.mark.numeric


def images(n: int, channels: int = 4, size: int = 8) -> Tensor:
    noise = torch.randn(n, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, size=size, mode="bilinear")


class Block(nn.Module):
    """A stem, a branch and a projection of it, their sum behind a ReLU, and a linear layer."""

    def __init__(
        self, *, bias: bool, norms: tuple[bool, bool], shortcut_first: bool, changed: bool = False
    ) -> None:
        super().__init__()
        self.shortcut_first, self.changed = shortcut_first, changed
        self.stem = nn.Conv2d(4, 16, 3, padding=1)
        self.inner = nn.Conv2d(16, 16, 3, padding=1)
        self.branch = nn.Conv2d(16, 12, 3, padding=1, stride=2, bias=bias)
        self.short = nn.Conv2d(16, 12, 1, stride=2, bias=bias)
        self.norms = nn.ModuleList(nn.BatchNorm2d(12) if norm else nn.Identity() for norm in norms)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        short = self.norms[1](self.short(x)) if self.shortcut_first else None
        inner = self.inner(x)
        inner = inner.relu_() if not self.changed else x.copy_(inner).relu_()
        branch = self.norms[0](self.branch(inner))
        total = branch + (self.norms[1](self.short(x)) if short is None else short)
        return self.out(total.relu().mean((2, 3)))  # type: ignore[no-any-return]


def pruned(
    model: nn.Module, inputs: Tensor, ignored: tuple[str, ...] = ("branch", "short")
) -> PruningPlan:
    scores = score_filters(model, criterion="random")
    return plan_pruning(model, scores, inputs[:2], ratio=0.5, ignored=ignored)


def settled(model: nn.Module, inputs: Tensor) -> nn.Module:
    with torch.no_grad():
        for _ in range(30):
            model.train()(inputs)
    return model.eval()


def fitted(model: nn.Module, plan: PruningPlan, inputs: Tensor) -> tuple[nn.Module, Tensor, Fitting]:
    original = Original(model, inputs, seed=0)
    slim = prune(model, plan)
    fitting = Fitting(original, slim, plan.removed)
    return slim, fitting.front_to_back(inputs), fitting


@pytest.mark.parametrize("shortcut_first", [False, True])
@pytest.mark.parametrize(
    ("bias", "norms"),
    [(True, (False, False)), (False, (True, True)), (False, (True, False)), (False, (False, True))],
)
def test_two_summands_are_fitted_as_one(
    bias: bool, norms: tuple[bool, bool], shortcut_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    inputs = images(120)
    model = settled(Block(bias=bias, norms=norms, shortcut_first=shortcut_first), inputs)
    plan = pruned(model, inputs)
    pair = ("branch", "short") if shortcut_first else ("short", "branch")
    assert find_consumers(model, inputs[:2]).pairs == {pair[0]: pair[1]}
    slim, returned, fitting = fitted(model, plan, inputs)
    # The running pass goes on with what the first layer returns by its new weights.
    torch.testing.assert_close(returned, outputs_of(slim, inputs), atol=1e-4, rtol=1e-4)
    for name in pair:
        raw = prune(model, plan).get_parameter(f"{name}.weight")
        assert not torch.allclose(slim.get_parameter(f"{name}.weight"), raw)

    def apart(*given: object) -> Consumers:
        found = find_consumers(*given)  # type: ignore[arg-type]
        return Consumers(found.norms, found.sums, found.activations)

    monkeypatch.setattr(originals, "find_consumers", apart)
    _, _, one_by_one = fitted(model, plan, inputs)
    of = {name: {row.layer: row.after for row in f.report} for name, f in
          (("one", fitting), ("apart", one_by_one))}  # fmt: skip
    assert of["one"][pair[0]] < 0.95 * of["apart"][pair[0]]


def test_a_summand_whose_input_was_written_over_stays() -> None:
    torch.manual_seed(0)
    inputs = images(80)
    kind: Callable[..., Block] = Block
    model = kind(bias=True, norms=(False, False), shortcut_first=True, changed=True).eval()
    plan = pruned(model, inputs, ("branch", "short", "stem", "inner"))
    plan = pruned(model, inputs) if not plan.n_removed else plan
    slim, returned, fitting = fitted(model, plan, inputs)
    torch.testing.assert_close(returned, outputs_of(slim, inputs), atol=1e-4, rtol=1e-4)
    assert {row.layer for row in fitting.report} >= {"branch", "short"}


def test_what_nothing_in_front_of_changed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = images(60, channels=2, size=12)
    model = settled(resnet(2, 5, widths=(8, 12), blocks=1), inputs)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    ignored = tuple(name for name in layers if name != "block2.conv1")
    plan = pruned(model, inputs, ignored)
    assert set(plan.removed) == {"block2.conv1"}
    looked_at: list[int] = []
    drawn = originals.Rows.of_input
    monkeypatch.setattr(
        originals.Rows, "of_input", lambda rows, layer: (looked_at.append(0), drawn(rows, layer))[1]
    )
    slim, _, fitting = fitted(model, plan, inputs)
    rows = {row.layer: row for row in fitting.report}
    in_front = ("conv1", "block1.conv1", "block1.conv2", "block2.conv1")
    assert all(rows[layer].before == rows[layer].after == 0 for layer in in_front)
    assert rows["block2.conv2"].before > rows["block2.conv2"].after > 0
    assert len(looked_at) <= 4  # the second convolution, the shortcut, both again together, the last
    for layer in in_front[:-1]:
        assert torch.equal(slim.get_parameter(f"{layer}.weight"), model.get_parameter(f"{layer}.weight"))


def test_a_pruned_model_with_other_weights_is_refitted_from_there_on() -> None:
    torch.manual_seed(0)
    inputs = images(60, channels=2, size=12)
    model = settled(resnet(2, 5, widths=(8, 12), blocks=1), inputs)
    slim = copy.deepcopy(model)
    with torch.no_grad():
        slim.get_parameter("block1.conv1.weight").mul_(1.3)
    fitting = Fitting(Original(model, inputs, seed=0), slim, {})
    fitting.front_to_back(inputs)
    rows = {row.layer: row for row in fitting.report}
    assert rows["conv1"].before == 0 and rows["block1.conv1"].before > 0
    torch.testing.assert_close(outputs_of(slim, inputs), outputs_of(model, inputs), atol=1e-2, rtol=1e-2)


def test_one_original_serves_many_pruned_models() -> None:
    torch.manual_seed(0)
    inputs = images(60, channels=2, size=12)
    model = settled(resnet(2, 5, widths=(8, 12), blocks=1), inputs)
    plan = pruned(model, inputs, ())
    original = Original(model, inputs, seed=0)
    slims = [prune(model, plan) for _ in range(2)]
    outputs = [Fitting(original, slim, plan.removed).front_to_back(inputs) for slim in slims]
    assert torch.equal(*outputs)

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from unknot.activations.folds import ACTIVATIONS, ZFold
from unknot.activations.gains import init_by_gain
from unknot.core.errors import InputError
from unknot.nets.accuracy import squared_loss
from unknot.nets.data import LabelledData
from unknot.nets.models import cnn, mlp
from unknot.nets.training import batches_an_epoch
from unknot.study.stack import CLASSES, EVALUATED, TOGETHER, Stack, plain_layers
from unknot.study.stacked_training import (
    Progress,
    checkpoints,
    train_alone,
    train_stack,
)
from unknot.study.trials import Curve

pytestmark = pytest.mark.numeric


def discs(n: int = 300, test: int = 60) -> LabelledData:
    x = torch.randn(n + test, 2, generator=torch.Generator().manual_seed(0))
    y = (x.norm(dim=1) > 1.1).long()
    return LabelledData("discs", x[:n], y[:n], x[n:], y[n:])


def nets(activation: str, seeds: range, gain: float = 1.0) -> list[nn.Module]:
    new = ACTIVATIONS[activation]
    models = [mlp(2, 2, width=12, depth=3, activation=new) for _ in seeds]
    return [
        init_by_gain(net, new(), multiplier=gain, seed=seed)
        for net, seed in zip(models, seeds, strict=True)
    ]


@pytest.mark.parametrize(
    "activation", ["relu", "gelu", "tanh", "sine", "zfold", "qfold2", "smooth_zfold"]
)
def test_a_stack_trains_each_net_as_alone(activation: str) -> None:
    data, seeds = discs(), range(TOGETHER + 3)  # more than go together
    rates = [1e-3 * (1 + seed % 4) for seed in seeds]
    together = nets(activation, seeds)
    curves = train_stack(together, data, learning_rates=rates, seeds=list(seeds), epochs=3, batch_size=32)
    for seed in (0, 5, TOGETHER, TOGETHER + 2):
        (alone,) = nets(activation, range(seed, seed + 1))
        curve = train_alone(alone, data, learning_rate=rates[seed], seed=seed, epochs=3, batch_size=32)
        assert curve.epochs == curves[seed].epochs
        torch.testing.assert_close(curve.train_accuracy, curves[seed].train_accuracy, atol=0.02, rtol=0)
        for a, b in zip(alone.parameters(), together[seed].parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def test_accuracies_below_what_matters_may_be_of_some_samples() -> None:
    data, seeds, exact = discs(1500, 700), list(range(6)), 0.9
    rates = [1e-4, 1e-2, 1e-3, 1e-2, 3e-3, 1e30]

    def run(exact_from: float) -> tuple[Curve, ...]:
        return train_stack(
            nets("relu", range(6)), data, learning_rates=rates, seeds=seeds, epochs=4, batch_size=64,
            exact_from=exact_from,
        )  # fmt: skip

    whole, some = run(0.0), run(exact)
    alone = [
        train_alone(net, data, learning_rate=rate, seed=seed, epochs=4, batch_size=64, exact_from=exact)
        for net, rate, seed in zip(nets("relu", range(6)), rates, seeds, strict=True)
    ]
    other = 0
    for a, b, c in zip(whole, some, alone, strict=True):
        assert a.epochs == b.epochs == c.epochs
        for split in ("train", "test"):
            assert a.epochs_to(exact, split) == b.epochs_to(exact, split)
        for full, part, single in (
            (a.train_accuracy, b.train_accuracy, c.train_accuracy),
            (a.test_accuracy, b.test_accuracy, c.test_accuracy),
        ):
            assert full[-1] == part[-1]
            assert all(x == y or max(x, y) < exact for x, y in zip(full, part, strict=True))
            other += sum(x != y for x, y in zip(full, part, strict=True))
            torch.testing.assert_close(part, single, atol=0.02, rtol=0)
    assert [c.ended for c in some] == ["cap"] * 5 + ["diverged"]
    assert other > 20 and any(c.epochs_to(exact) for c in whole)


@pytest.mark.parametrize("activation", ["relu", "zfold", "qfold2", "sine"])
def test_a_plain_net_goes_through_matrix_products_as_through_vmap(activation: str) -> None:
    stack = Stack(nets(activation, range(4)), [1e-3] * 4)
    inputs = torch.randn(4, 30, 2, generator=torch.Generator().manual_seed(0))
    assert stack._plain is not None
    plain = stack._forward(stack.parameters, inputs)
    stack._plain = None
    torch.testing.assert_close(plain, stack._forward(stack.parameters, inputs))


def squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[:, 0] - targets) ** 2


@pytest.mark.parametrize("net", [nets, lambda *_: [cnn(1, 1, widths=(3,)) for _ in range(3)]])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stack_takes_any_loss_weights_and_rates(
    net: Callable[..., list[nn.Module]], weighted: bool
) -> None:
    """Against torch's own Adam, net by net, with a rate that falls."""
    models = [*net("tanh", range(3))]
    plain = plain_layers(models[0]) is not None
    if plain:
        models = [mlp(2, 1, width=5, depth=1) for _ in models]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 20, *((2,) if plain else (1, 8, 8)), generator=generator)
    y, weights = torch.randn(3, 20, generator=generator), torch.rand(3, 20, generator=generator) * 2
    weights[:, :4] = 0
    rates = torch.tensor([1e-2, 1e-3, 3e-2])
    stack = Stack(models, rates.tolist(), loss=squared_loss)
    assert stack.rates.tolist() == rates.tolist()
    optimizers = [torch.optim.Adam(model.parameters()) for model in models]
    for factor in (1.0, 0.5, 0.25, 0.1, 0.05):
        stack.rates = rates * factor
        stack.step(x, y, weights if weighted else None)
        for i, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            optimizer.param_groups[0]["lr"] = float(rates[i]) * factor
            losses = squares(model(x[i]), y[i])
            loss = (losses * weights[i] if weighted else losses).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for row, model in zip(stack.parameters, models, strict=True):
        alone = nn.utils.parameters_to_vector(model.parameters())
        torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-3)
    stack.rates = 0.0
    before = stack.parameters.clone()
    stack.step(x, y)
    assert torch.equal(before, stack.parameters)


def test_weights_of_one_change_nothing_and_of_classes_count_too() -> None:
    data, seeds = discs(64), range(TOGETHER + 1)
    plain, ones, doubled = (Stack(nets("relu", seeds), [1e-2] * len(seeds)) for _ in range(3))
    x, y = data.inputs.expand(len(seeds), *data.inputs.shape), data.labels.expand(len(seeds), -1)
    for _ in range(3):
        plain.step(x, y)
        ones.step(x, y, torch.ones(y.shape))
        doubled.step(x, y, 1.0 + (y == 0))
    torch.testing.assert_close(plain.parameters, ones.parameters, atol=1e-5, rtol=1e-3)
    share = [(s.outputs(data.inputs).argmax(2) == 0).float().mean() for s in (plain, doubled)]
    assert share[1] > share[0]


@pytest.mark.parametrize("vmapped", [False, True])
def test_outputs_are_those_of_each_net(vmapped: bool) -> None:
    models = nets("tanh", range(TOGETHER + 3))
    for model in models:
        model.append(nn.Dropout(0.5))  # eval mode has none
    stack = Stack(models, [1e-3] * len(models))
    assert stack._plain is None
    if not vmapped:
        models = nets("tanh", range(TOGETHER + 3))
        stack = Stack(models, [1e-3] * len(models))
        assert stack._plain is not None
    x = torch.randn(EVALUATED + 9, 2, generator=torch.Generator().manual_seed(0))
    found = stack.outputs(x)
    assert found.shape == (len(models), len(x), 2) and not found.requires_grad
    some = stack.outputs(x, [TOGETHER, 2])
    with torch.no_grad():
        alone = torch.stack([model.eval()(x) for model in models])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(some, alone[[TOGETHER, 2]], atol=1e-5, rtol=1e-4)
    stack.keep([2, 5])
    assert stack.rates.shape == (2,)
    torch.testing.assert_close(stack.outputs(x), alone[[2, 5]], atol=1e-5, rtol=1e-4)


def test_scores_with_nan_are_never_right() -> None:
    stack = Stack(nets("relu", range(2)), [1e-3] * 2)
    inputs, labels = torch.randn(30, 2), torch.zeros(30, dtype=torch.int64)
    stack.parameters[1] = torch.nan
    zeros, ones = (stack.sum_errors(inputs, labels + c, [0, 1], CLASSES.errors) for c in (0, 1))
    assert (zeros[1], ones[1]) == (30, 30) and zeros[0] + ones[0] == 30
    assert stack.sum_errors(inputs, labels, [1], CLASSES.errors) == [30]


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def hooked() -> nn.Sequential:
    net = mlp(2, 2)
    net[1].register_forward_hook(lambda module, inputs, output: output + 1)
    return net


def shared() -> nn.Sequential:
    layer = nn.Linear(2, 2)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    "net",
    [
        hooked(),
        shared(),
        mlp(2, 2, activation=lambda: ZFold(learnable=True)),
        nn.Sequential(nn.Flatten(), Doubled(2, 2)),
        nn.Sequential(nn.Linear(2, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        cnn(1, 2),
    ],
    ids=["hook", "shared", "learnable", "subclass", "unflattened", "norm", "convolution"],
)
def test_any_other_net_goes_through_vmap(net: nn.Module) -> None:
    assert plain_layers(net) is None


def test_a_stack_trains_convolution_nets() -> None:
    x = torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = LabelledData("noise", x, (x.mean((1, 2, 3)) > 0).long(), x[:8], torch.zeros(8).long())

    def one(seed: int) -> nn.Module:
        return init_by_gain(cnn(1, 2, widths=(4, 6)), nn.ReLU(), seed=seed)

    together = [one(seed) for seed in range(3)]
    train_stack(together, data, learning_rates=[1e-2] * 3, seeds=[0, 1, 2], epochs=2, batch_size=16)
    alone = one(1)
    train_alone(alone, data, learning_rate=1e-2, seed=1, epochs=2, batch_size=16)
    for a, b in zip(alone.parameters(), together[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def test_a_net_that_leaves_changes_nothing_for_the_others() -> None:
    data = discs()

    def drop(progress: Progress) -> list[int]:
        return [1] if progress.epoch > 0.9 else []

    rates, seeds = [1e-3, 1e-3, 3e-3], [0, 1, 2]
    whole, thinned = nets("tanh", range(3)), nets("tanh", range(3))
    full = train_stack(whole, data, learning_rates=rates, seeds=seeds, epochs=3, batch_size=32)
    part = train_stack(
        thinned, data, learning_rates=rates, seeds=seeds, epochs=3, batch_size=32, give_up=drop
    )
    assert [curve.ended for curve in part] == ["cap", "given up", "cap"]
    assert part[1].epochs == tuple(e for e in full[1].epochs if e <= part[1].epochs[-1])
    assert part[1].epochs[-1] < 1.2
    for net in (0, 2):
        assert part[net] == full[net]
        for a, b in zip(whole[net].parameters(), thinned[net].parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_nets_end_when_they_are_done_or_diverge() -> None:
    data = discs()
    curves = train_stack(
        nets("relu", range(2)), data, learning_rates=[1e-2, 1e30], seeds=[0, 1], epochs=30,
        batch_size=32, is_done=lambda train, test: train >= 0.9 and test >= 0.8,
    )  # fmt: skip
    assert [curve.ended for curve in curves] == ["done", "diverged"]
    assert curves[0].train_accuracy[-1] >= 0.9 and curves[0].test_accuracy[-1] >= 0.8
    assert all(a < 0.9 or t < 0.8 for a, t in zip(
        curves[0].train_accuracy[:-1], curves[0].test_accuracy[:-1], strict=True))  # fmt: skip
    assert curves[0].epochs_to(0.9) is not None
    assert curves[0].epochs_to(0.8, "test") is not None
    assert curves[1].epochs_to(1.1) is None


def test_data_without_test_samples_has_no_test_curve() -> None:
    x = discs()
    data = LabelledData("d", x.inputs, x.labels, x.inputs[:0], x.labels[:0])
    (curve,) = train_stack(nets("relu", range(1)), data, learning_rates=[1e-3], seeds=[0], epochs=1)
    assert curve.test_accuracy == () and len(curve.train_accuracy) == len(curve.epochs)
    assert curve.epochs_to(0.0, "test") is None


def test_accuracies_are_read_where_one_asks() -> None:
    (curve,) = train_stack(
        nets("relu", range(1)), discs(), learning_rates=[1e-3], seeds=[0], epochs=2, batch_size=32,
        read_at=lambda batches, epochs: [1, batches, batches * epochs],
    )  # fmt: skip
    assert curve.epochs == (0.1, 1.0, 2.0) and curve.ended == "cap"


@pytest.mark.parametrize(("batches", "epochs"), [(1, 3), (29, 60), (63, 2), (1000, 1)])
def test_checkpoints_are_close_and_end_with_the_last_epoch(batches: int, epochs: int) -> None:
    steps = checkpoints(batches, epochs)
    least = max(1, round(batches / 8))
    assert steps[-1] == batches * epochs and list(steps) == sorted(set(steps))
    for before, after in zip((0, *steps), steps, strict=False):
        assert after - before <= max(least, 0.05 * before + 1)


def test_batches_an_epoch_drop_a_single_left_over() -> None:
    assert [batches_an_epoch(n, 32) for n in (1, 31, 32, 33, 34, 65)] == [1, 1, 1, 1, 2, 2]
    data = discs(33)
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    curve = train_alone(net, data, learning_rate=1e-3, seed=0, epochs=1, batch_size=32)
    assert curve.ended == "cap"


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (lambda: [], "0 models"),
        (lambda: [mlp(2, 2, width=3), mlp(2, 2, width=4)], "one architecture"),
        (lambda: [nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))], "buffers"),
    ],
)
def test_bad_stacks(models: Callable[[], list[nn.Module]], says: str) -> None:
    stack = models()
    with pytest.raises(InputError, match=says):
        train_stack(
            stack, discs(), learning_rates=[1e-3] * len(stack), seeds=list(range(len(stack))), epochs=1
        )


class OneLogit(nn.Module):
    """A net whose logit is ``[n]``, ``[n, 1]``, or the second of two scores of which the first is 0."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.hidden, self.out, self.head = nn.Linear(3, 8), nn.Linear(8, 1), head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.out(self.hidden(x).tanh())
        return {"[n]": z[:, 0], "[n, 1]": z, "[n, 2]": torch.cat([torch.zeros_like(z), z], 1)}[self.head]


def test_nets_of_one_logit_take_the_steps_of_the_same_nets_with_two_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    x, test = torch.randn(96, 3, generator=generator), torch.randn(40, 3, generator=generator)
    data = LabelledData("d", x, (x[:, 0] > 0).long(), test, (test[:, 0] > 0).long())
    curves = {}
    for head in ("[n]", "[n, 1]", "[n, 2]"):
        nets = []
        for seed in (0, 1, 2):
            torch.manual_seed(seed)
            nets.append(OneLogit(head))
        alone = [
            train_alone(net, data, learning_rate=0.05, seed=seed, epochs=4, batch_size=32)
            for seed, net in enumerate(copy.deepcopy(nets[:2]))
        ]
        stacked = train_stack(
            nets, data, learning_rates=[0.05] * 3, seeds=range(3), epochs=4, batch_size=32
        )
        assert list(stacked[:2]) == alone
        curves[head] = stacked
    assert curves["[n]"] == curves["[n, 1]"] == curves["[n, 2]"]
    assert all(curve.test_accuracy[-1] > 0.8 for curve in curves["[n]"])
    with pytest.raises(InputError, match="labels from 0 to 2 with 2 classes"):
        train_stack(nets, replace(data, test_labels=data.test_labels * 2),
                    learning_rates=[0.05] * 3, seeds=range(3), epochs=1)  # fmt: skip


def test_a_net_that_ends_in_a_sigmoid_is_refused() -> None:
    data, says = discs(), "^a model that ends in a sigmoid: expected a logit"
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.Sigmoid())
    with pytest.raises(InputError, match=says):
        train_alone(net, data, learning_rate=0.1, seed=0, epochs=1)
    with pytest.raises(InputError, match=says):
        train_stack([net], data, learning_rates=[0.1], seeds=[0], epochs=1)

"""The benchmark of Betti numbers per layer: its stacked training, its resuming and its statistics."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import needs_checkout

from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData
from unknot.nets.training import one_thread, train
from unknot.topology.shapes import make_shape

pytestmark = [needs_checkout, pytest.mark.numeric]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable() -> None:
    sys.path.insert(0, str(BENCHMARKS / "profiles"))


@pytest.fixture(scope="module")
def jmlr(importable: None) -> ModuleType:
    import jmlr

    return jmlr


@pytest.fixture(scope="module")
def quick(jmlr: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jmlr")
    jmlr.main(["--quick", "--runs", str(folder), "--out", str(folder / "jmlr.json")])
    return folder


def labelled(inputs: torch.Tensor, labels: torch.Tensor) -> LabelledData:
    return LabelledData("points", inputs, labels, inputs[:0], labels[:0])


@pytest.mark.parametrize("activation", ["tanh", "zfold"])
def test_a_stack_trains_as_its_nets_would_alone(jmlr: ModuleType, activation: str) -> None:
    shape = make_shape("rings", pairs=2, n=200, seed=0)
    inputs, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
    net, seeds, rates = jmlr.Net(3, 7, 3, activation), [4, 5], [1e-3, 1e-2]
    with one_thread():
        stack = jmlr.train_to_best(
            net, seeds, rates, labelled(inputs, labels), epochs=3, batch_size=64, stop=False
        )
        alone = []
        for seed, rate in zip(seeds, rates, strict=True):
            model = net.draw(seed)
            curve = train(model, inputs, labels, epochs=3, learning_rate=rate, batch_size=64, seed=seed)
            alone.append((model, curve.train_accuracy))
    for i, (model, accuracies) in enumerate(alone):
        best = max(accuracies)
        assert stack.accuracies[i] == pytest.approx(best)
        assert stack.epochs[i] == 3 - accuracies[::-1].index(best)
        if stack.epochs[i] == 3:
            with torch.no_grad():
                out = jmlr.layers(stack.models[i], inputs)[-1]
                torch.testing.assert_close(out, model(inputs), rtol=1e-3, atol=1e-4)
    assert any(stack.epochs[i] == 3 for i in range(2))


def test_layers_are_those_of_the_module(jmlr: ModuleType) -> None:
    net, inputs = (
        jmlr.Net(2, 5, 2, "relu"),
        torch.randn(30, 2, generator=torch.Generator().manual_seed(0)),
    )
    model = net.draw(9)
    with torch.no_grad():
        expected = [model[:3](inputs), model[:5](inputs), model(inputs)]
    for output, alone in zip(jmlr.layers(net.draw(9), inputs), expected, strict=True):
        torch.testing.assert_close(output, alone)


def test_a_net_that_is_right_leaves_the_stack_and_keeps_its_parameters(jmlr: ModuleType) -> None:
    inputs = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    labels, net = (inputs[:, 0] > 0).long(), jmlr.Net(1, 4, 1, "tanh")
    data = labelled(inputs, labels)
    stack = jmlr.train_to_best(net, [0, 1, 2], [1e-1, 1e-1, 1e-9], data, epochs=30, batch_size=8)
    assert stack.accuracies[:2] == (1.0, 1.0)
    shares = [measure_accuracy(model, inputs, labels) for model in stack.models]
    assert shares == list(stack.accuracies)


def test_a_net_is_kept_as_it_was_after_its_best_epoch(jmlr: ModuleType) -> None:
    inputs = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    labels, net = (inputs.prod(1) > 0).long(), jmlr.Net(2, 6, 1, "tanh")
    data = labelled(inputs, labels)
    stack = jmlr.train_to_best(net, [0, 1, 2, 3], [0.3] * 4, data, epochs=12, batch_size=8)
    assert any(epoch < 12 for epoch in stack.epochs)  # so large a rate goes up and down
    shares = [measure_accuracy(model, inputs, labels) for model in stack.models]
    assert shares == pytest.approx(list(stack.accuracies))


def test_a_stack_without_hope_is_given_up_after_a_third_of_the_epochs(jmlr: ModuleType) -> None:
    inputs, net = torch.linspace(-1, 1, 16).unsqueeze(1), jmlr.Net(1, 4, 1, "tanh")
    data = labelled(inputs, torch.arange(16) % 2)
    for hope, last in ((0.95, 3), (0.0, 9)):
        stack = jmlr.train_to_best(net, [0], [1e-9], data, epochs=9, stop=False, hope=hope)
        assert stack.epochs == (last,)


def test_quick_run_has_every_configuration_layer_and_true_input(jmlr: ModuleType, quick: Path) -> None:
    record = json.loads((quick / "jmlr.json").read_text())
    rows = record["configurations"]
    assert len(rows) == len(jmlr.configurations(jmlr.QUICK)) == 8
    truth = {"discs": [[3, 0], [1, 3]], "rings": [[2, 2], [2, 2]]}
    for row in rows:
        assert set(row["input"]) == {"7", "14", "28"}
        assert row["input"]["14"] == row["input"]["7"] == truth[row["set"]]
        assert len(row["nets"]) == min(row["reached"], jmlr.QUICK.nets)
        for net in row["nets"]:
            assert net["accuracy"] >= jmlr.QUICK.target
            assert len(net["trained"]["14"]) == row["depth"] + 1
            assert all(betti[0] >= 1 for layer in net["trained"]["14"] for betti in layer)
    assert any(row["nets"] for row in rows)
    assert {r["way"] for r in record["findings"]["faster"]} >= {"k = 14", "k = 7", "before training"}
    assert {"command", "date", "machine", "versions", "settings"} <= set(record)


def test_what_is_done_is_not_done_again(
    jmlr: ModuleType, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((quick / "jmlr.json").read_text())
    (quick / "rings-relu-15x2.json").unlink()
    redone: list[str] = []
    run = jmlr.run
    monkeypatch.setattr(
        jmlr, "run", lambda cell, settings: redone.append(cell.name) or run(cell, settings)
    )
    jmlr.main(["--quick", "--runs", str(quick), "--out", str(quick / "again.json")])
    again = json.loads((quick / "again.json").read_text())
    assert redone == ["rings-relu-15x2"]
    assert again["findings"] == before["findings"]


def test_betti_of_coincident_points(jmlr: ModuleType) -> None:
    one = np.zeros((40, 3), dtype=np.float32)
    assert jmlr.betti_of(one, 14, False) == [1, 0]
    assert jmlr.betti_of(one, 14, True) == [1, 0, 0]
    one[0] = 1
    assert jmlr.betti_of(one, 14, False) == [1, 0]
    one[1] = -0.0
    assert jmlr.betti_of(one, 14, True) == [1, 0, 0]


def test_where_a_curve_is_at_half(jmlr: ModuleType) -> None:
    from findings import MAIN, Way, half_share, late_share

    line = np.array([18.0, 14, 10, 6, 2])
    assert half_share(line, MAIN) == pytest.approx(0.5)
    assert late_share(line) == pytest.approx(1 / 3)
    bumpy = np.array([18.0, 2, math.inf, 2, 2])
    assert half_share(bumpy, MAIN) == pytest.approx(0.75)
    assert half_share(bumpy, Way("first", lasting=False)) == pytest.approx(0.125)
    assert half_share(np.array([18.0, 18, 18]), MAIN) == 1.0
    assert math.isnan(late_share(np.array([18.0, 18, 18])))
    assert late_share(np.array([18.0, 18, 18, 2])) == pytest.approx(1.0)


def test_compare_finds_a_shift_and_holm_is_monotone(jmlr: ModuleType) -> None:
    from findings import compare, holm

    rng = np.random.default_rng(0)
    strata = {
        (s,): {"a": list(rng.normal(0.4, 0.05, 10)), "b": list(rng.normal(0.6, 0.05, 10))}
        for s in range(4)
    }
    found = compare(strata, "a", "b", "k = 14")
    assert found["strata"] == found["surely_lower"] == 4
    assert -0.26 < found["low"] < found["difference"] < found["high"] < -0.14
    assert compare(strata, "a", "c", "k = 14") == {"way": "k = 14", "one": "a", "other": "c", "strata": 0}
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_what_is_quoted_is_small_and_agrees_with_every_net(jmlr: ModuleType, quick: Path) -> None:
    import findings

    record = json.loads((quick / "jmlr.json").read_text())
    slim = findings.quoted(record)
    assert "configurations" not in slim
    nets = [net for row in record["configurations"] for net in row["nets"]]
    assert slim["measured"]["nets"] == len(nets) > 0
    assert slim["measured"]["clouds"] == 2 * sum(len(net["trained"]["14"]) for net in nets)
    row = next(row for row in record["configurations"] if row["set"] == "discs" and len(row["nets"]) > 1)
    layers = findings.layers(row)
    logits = [sum(betti[0] for betti in net["trained"]["14"][-1]) for net in row["nets"]]
    assert layers["betti"][0][0]["mean"] == 4.0  # three discs of one class, one piece of the other
    assert layers["betti"][0][-1]["mean"] == pytest.approx(np.mean(logits))
    assert layers["quartiles"][1][0] == 7.0
    assert findings.over_nets([[1, 2], [3, 4]]) == {"nets": 2, "mean": 5.0, "sd": pytest.approx(8**0.5)}
    assert findings.over_nets([[1, None], [3, 4]]) == {"nets": 2, "too_costly": 1}

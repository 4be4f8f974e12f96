"""What the benchmarks call, and what some of them track of their trials."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import needs_checkout

pytestmark = needs_checkout
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NET = {"set": "cifar10", "net": "cnn"}
STAGES = ("raw", "recalibrated", "refit", "tuned_1", "tuned_3")


def names_of_unknot(code: str) -> set[str]:
    """Dotted: what is imported of unknot, and what is taken from it by a dot, in code within code too."""
    found: set[str] = set()
    short = {"uk": "unknot"}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            short |= {name.asname: name.name for name in node.names if name.asname}
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            found.add(".".join([short.get(parts[0], parts[0]), *parts[1:]]))
    return {name for name in found if name.split(".")[0] == "unknot"}


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_call_what_others_can_call(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "_native" not in text  # also in the programs that are passed on as text
    for name in names_of_unknot(text):
        _, *steps = name.split(".")
        assert not any(step.startswith("_") and not step.endswith("__") for step in steps), name


def test_private_names_are_found() -> None:
    code = (
        "import unknot as uk\nfrom unknot import _native\nimport unknot._native as n\nuk._x.y()\nn.rows()"
    )
    names = names_of_unknot(code)
    assert names == {
        "unknot", "unknot._native", "unknot._x", "unknot._x.y", "unknot._native.rows",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_what_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "unknot":
            module = importlib.import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module}.{name.name}"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS / "pruning"))
    import tables

    return tables


@pytest.fixture(scope="module")
def real_data() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS / "profiles"))
    import real_data

    return real_data


@pytest.fixture(scope="module")
def real_data_docs(real_data: ModuleType) -> ModuleType:
    import real_data_docs

    return real_data_docs


@pytest.fixture(scope="module")
def activations() -> Path:
    sys.path.insert(0, str(BENCHMARKS / "activations"))
    return BENCHMARKS / "activations"


def trials(seed: int) -> list[dict[str, Any]]:
    """One net: Taylor loses 2 and 4 points at the two seeds, L1 1 point more, the surgeon nothing."""
    here, base = {**NET, "seed": seed}, 0.8 + seed / 100
    lost = {"taylor": 0.02 + 0.02 * seed, "l1": 0.03 + 0.02 * seed, "elder-surgeon": 0.0}
    tuned = {"tuned_1": base, "tuned_3": base}
    records = [{"kind": "original", **here, "accuracy": base, "macs": 100, **tuned}]
    for share in (0.5, 0.75):
        for criterion, points in lost.items():
            what = {"kind": "pruned", **here, "share": share, "criterion": criterion, "removed": share}
            records.append(what | dict.fromkeys(STAGES, base - points))
    for layers in ("all", "last"):
        what = {"kind": "variant", **here, "layers": layers, "criterion": "elder-surgeon"}
        records.append(what | {"raw": base - 0.1, "refit": base - 0.05})
    return records


def test_tables_are_the_same_from_what_is_tracked(tables: ModuleType) -> None:
    rows = tables.summary([record for seed in (0, 1) for record in trials(seed)])
    quoted = tables.quoted(rows)
    again = tables.rows_of({"nets": quoted})
    (row,) = tables.of_cell(again, "pruned", share=0.75, criterion="taylor")
    # Student's t at one degree of freedom: 12.706 standard errors of 1 point.
    assert row["raw"] == pytest.approx([-3.0, -3.0 - 12.706, -3.0 + 12.706], abs=1e-3)
    assert row["against_l1"]["refit"] == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)
    for share, stage in ((0.5, "refit"), (0.5, "tuned_3"), (0.75, "raw"), (0.75, "tuned_1")):
        table = tables.stage_table(rows, share, stage)
        assert tables.stage_table(again, share, stage) == table and len(table) >= 3
    for layers in ("all", "last"):
        assert tables.variant_table(again, layers) == tables.variant_table(rows, layers) != []
    over = tables.baseline_table(again, 0.75, "l1", "refit")
    assert over == [("taylor", "+1.0 [+1.0, +1.0]"), ("elder-surgeon", "+4.0 [-8.7, +16.7]")]


def test_a_net_that_is_not_done_stays_out(tables: ModuleType) -> None:
    assert tables.summary(trials(0)[:-1]) == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1 / 3, 0.333),
        (0.78312, 0.783),
        (-0.25000000000000133, -0.25000000000000133),  # -0.3, where -0.25 would print as -0.2
        (0.7851, 0.7851),  # 79 %, where 0.785 would print as 78 %
    ],
)
def test_numbers_are_cut_only_where_the_pages_print_the_same(
    tables: ModuleType, value: float, kept: float
) -> None:
    assert tables.short(value) == kept


def test_two_far_classes_are_two_islands_without_noise(real_data: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    points = (rng.normal(size=(400, 5)) + 100 * labels[:, None]).astype(np.float32)
    found, row = real_data.with_noise(points, labels, seed=0)
    assert (row["islands"], row["islands_sd"], row["islands_interval"]) == (2, 0, [2, 2])
    assert (row["tangle"], row["tangle_interval"], row["purity"], row["purity_sd"]) == (0, [0, 0], 1, 0)
    table = real_data.by_class(found.members, labels)
    assert sorted(table) == [[0, 200], [200, 0]] and real_data.groups(table) == [[0], [1]]
    assert real_data.groups([[6, 4], [5, 5], [1, 9], [3, 3], [4, 0]]) == [[0, 1, 3, 4], [2]]


def test_halves_of_a_sample_spread_like_whole_ones(real_data: ModuleType) -> None:
    """Purity of 100 separate samples against the halves of each."""
    rng = np.random.default_rng(1)
    samples = [
        (rng.normal(size=(120, 2)).astype(np.float32), rng.integers(0, 2, 120)) for _ in range(100)
    ]
    for points, labels in samples:
        points[:, 0] += 2 * labels
    rows = [real_data.with_noise(*sample, seed=i)[1] for i, sample in enumerate(samples)]
    separate = np.std([row["purity"] for row in rows], ddof=1)
    assert np.sqrt(np.mean([row["purity_sd"] ** 2 for row in rows])) == pytest.approx(separate, rel=0.3)


def test_a_difference_is_told_in_sd_and_by_its_intervals(real_data_docs: ModuleType) -> None:
    def row(islands: int, sd: float, interval: tuple[int, int]) -> dict[str, Any]:
        return {"islands": islands, "islands_sd": sd, "islands_interval": interval}

    one, other, sure = row(8, 0.6, (7, 9)), row(3, 0.8, (2, 4)), row(1, 0, (1, 1))
    assert real_data_docs.in_sd("islands", one, other) == pytest.approx(5 / 0.5**0.5)
    assert real_data_docs.in_sd("islands", sure, sure) == 0
    assert real_data_docs.side("islands", one, other) == "above"
    assert real_data_docs.side("islands", other, one) == "below"
    assert real_data_docs.side("islands", other, row(2, 0, (1, 2))) == ""


def test_a_run_of_some_sets_keeps_the_others_with_their_settings(activations: Path) -> None:
    import activation

    whole = json.loads((BENCHMARKS / "results/activation.json").read_text())
    whole = {k: v for k, v in whole.items() if k != "earlier"} | {"prediction": {}}
    name, *others = whole["total_betti"]
    one, rest = activation.without(whole, others), activation.without(whole, [name])
    assert list(one["total_betti"]) == [name] and list(rest["total_betti"]) == others
    assert activation.joined(one, rest) == whole == activation.joined(rest, one)
    again = activation.without(whole, others) | {"settings": {"learning_rates": (0.03,)}}
    mixed = activation.joined(again, whole)
    assert mixed.pop("earlier") == [activation.without(whole, [name])] and mixed == again
    assert activation.joined(again, mixed | {"earlier": [rest]})["earlier"] == [rest]


def test_rows_of_other_settings_say_by_which_they_were_made(activations: Path, tmp_path: Path) -> None:
    from image_trials import write_result

    def run(settings: int, **sets: float) -> list[dict[str, Any]]:
        rows = [{"set": name, "net": "cnn", "ratio": ratio} for name, ratio in sets.items()]
        write_result(tmp_path / "images.json", {"command": "x"}, {"rates": (settings,)}, rows)
        return list(json.loads((tmp_path / "images.json").read_text())["rows"])

    rows = run(1, a=1.0, b=2.0)
    assert run(1, b=3.0) == [rows[0], rows[1] | {"ratio": 3.0}]
    old = {"settings": {"rates": [1]}}
    assert run(2, b=4.0) == [rows[0] | old, rows[1] | {"ratio": 4.0}]
    assert run(2, c=5.0)[:2] == [rows[0] | old, rows[1] | {"ratio": 4.0}]
    assert [row["ratio"] for row in run(2, a=6.0) if "settings" not in row] == [4.0, 5.0, 6.0]


def test_epochs_to_a_target_are_the_first_budget_whose_median_has_it(activations: Path) -> None:
    import table_epochs

    scores = np.zeros((7, 3, 6))
    scores[3] = [[0.5], [0.7], [0.8]]  # ReLU
    scores[0] = [[0.6], [0.9], [0.7]]
    scores[1, 0], scores[2] = [0.9, 0.9, 0.9, 0.9, 0.1, -np.inf], -np.inf
    found = table_epochs.compared(scores, (4, 8, 16))
    assert [found["epochs"][name] for name in ("qfold", "qfold_centred", "zfold", "relu")] == [
        8,
        4,
        None,
        16,
    ]
    assert found["rival"] == "relu" and found["of_relu"]["qfold"] == [0.5, 0.5, 0.5]
    assert found["of_rival"]["zfold"] == [None, None, None]
    value, low, high = found["of_rival"]["qfold_centred"]
    assert value == low == 0.25 and high is None  # where three or more of the two bad seeds are drawn

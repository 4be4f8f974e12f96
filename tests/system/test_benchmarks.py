"""What the benchmarks call, and what those of pruning and of activations track of their trials."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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

"""What the page shows of a pruning: budget, groups, rounds, baselines, refit, thresholds, ONNX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.browser import Browser, Tab, address, assert_quiet
from helpers.page import Page, page
from helpers.results import HOSTILE, full_outcome, outcome, plan, scores

from unknot.pruning.outcomes.outcome import Round
from unknot.report.results import load_result


def text_of(shown: Page) -> str:
    return " ".join(shown.text.split())


def test_the_plans_budget_and_its_groups_are_told(tmp_path: Path) -> None:
    together = ["conv1", "conv2"]
    shared = replace(
        plan(), budget="50.2% of 9 MACs, 50.0% asked", shared=dict.fromkeys(together, together)
    )
    text = text_of(page(tmp_path, scores(), shared))
    assert "Budget: 50.2% of 9 MACs, 50.0% asked." in text
    assert "go together: conv1 + conv2." in text
    assert "Budget" not in text_of(page(tmp_path, scores(), plan()))


def test_every_part_of_an_outcome_is_shown(tmp_path: Path) -> None:
    text = text_of(page(tmp_path, full_outcome()))
    for part in (
        "peak activation memory, bytes7,0003,5000.50",
        "latency at batch 64 in ms, median [IQR]4 [0.2]",
        "where no other batch is named, on cpu",
        "Against the original it is not faster.",
        "99.44 % before pruning",
        "31.00 %90.00 %93.00 %5 epochs, the weights of epoch 2 are the best on 40 samples kept apart",
        "41.00 %92.00 %92.50 %KL from 0.5 to 0.25, on samples kept aside, by the weights of step 40, 7 s",
        "no views: the inputs have not",
        "elder51.0 %85.00 %",
        "conv20.250.03",
        "what the model returns0.50.04",
        "200 samples, last round",
        "out is called",
        "What the threshold 300 says",
        "12,345 bytes, opset 20",
        "by at most 3e-07 of the largest output, at batch 1, 64.",
        "10.5 [0.1]0.25 [0.1]0.50",
    ):
        assert part in text, part


def test_the_data_of_the_plots(tmp_path: Path) -> None:
    (plot,) = page(tmp_path, full_outcome()).plots["outcomes"]
    found = plot["baselines"]
    assert isinstance(found, dict)
    assert found["lines"][0]["name"] == "elder"
    assert found["lines"][0]["left"] == pytest.approx([0.49, 0.24])
    assert found["lines"][0]["accuracy"] == pytest.approx([0.85, 0.825])
    assert (found["before"], found["stages"]) == (0.9944, [["refitted", 0.92], ["polished", 0.925]])
    assert found["left"] == 10048128 / 29532160
    assert plot["refit"] == {"layers": ["conv1", "conv2"], "before": [0.0, 0.25], "after": [0.0, 0.03]}
    grid = plot["thresholds"]
    assert isinstance(grid, dict)
    assert (grid["sizes"], grid["scales"]) == ([100, 200], ["2 %", "10 %"])
    assert grid["exceeding"] == [[[5, 6], [10, 10]]] * 2


def test_what_was_not_measured_is_not_there(tmp_path: Path) -> None:
    shown = page(tmp_path, outcome())
    assert shown.plots["outcomes"] == [{"baselines": None, "refit": None, "thresholds": None}]
    text = text_of(shown)
    for part in (
        "Accuracy against MACs",
        "Error of each layer",
        "threshold",
        "onnx",
        "by stage",
        "polish",
    ):
        assert part not in text
    bare = replace(full_outcome(), rounds=(Round(3, 0.4),))
    (plot,) = page(tmp_path, bare).plots["outcomes"]
    assert plot["baselines"]["stages"] == [["as pruned", 0.4]]  # type: ignore[index]


def test_a_saved_outcome_gives_the_same_page(tmp_path: Path) -> None:
    full_outcome().to_json(tmp_path / "outcome.json")
    assert load_result(tmp_path / "outcome.json") == full_outcome()


def test_names_stay_text(tmp_path: Path) -> None:
    shown = page(tmp_path, full_outcome(HOSTILE, HOSTILE))
    assert "img" not in shown.tags and shown.tags.count("script") == 4
    assert shown.text.count(HOSTILE) >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_plots_are_drawn_in_a_browser(tmp_path: Path, webgl: Browser, theme: str, width: int) -> None:
    results = (scores(), plan(), full_outcome(HOSTILE))
    tab = Tab(webgl, address(tmp_path, *results, theme=theme), width=width, height=800)
    drawn = tab.run("""[...document.querySelectorAll('.plot')]
        .map(p => [p.dataset.kind, p.querySelectorAll('.main-svg').length > 0])""")
    assert sorted(drawn) == [
        ["baselines", True], ["filters", True], ["refit", True],
        ["thresholds", True], ["thresholds", True],
    ]  # fmt: skip
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("document.querySelectorAll('img').length") == 0
    cells = "document.querySelector('[data-kind=thresholds]').data[0]"
    assert tab.run(f"{cells}.text") == [["50 %", "60 %"], ["100 %", "100 %"]]
    assert "10 of 20 filters exceed it" in tab.run(f"{cells}.hovertext[0][0]")
    refit = "document.querySelector('[data-kind=refit]').data.at(-1)"
    assert tab.run(f"{refit}.x") == [0.25 / 1e4, 0.03]  # no place for 0 on a logarithm
    assert_quiet(tab)
    tab.close()

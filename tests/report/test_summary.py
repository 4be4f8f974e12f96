"""What stands first on the page: what was run, what was found, and what the names mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import Browser, Tab, address, assert_quiet
from helpers.page import Page, page
from helpers.results import (
    HOSTILE,
    UNDETERMINED,
    filter_profile,
    outcome,
    plan,
    profile,
    scores,
)

import unknot as uk
from unknot.pruning.scoring.observations import DEAD
from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.study.results import StudyRow


def text_of(shown: Page) -> str:
    return " ".join(shown.text.split())


def summary_of(path: Path, *results: object, **texts: Any) -> str:
    """Between the heading of the summary and the first section."""
    text = text_of(page(path, *results, **texts))
    return text[text.index("In short") : text.index("What the numbers mean")]


def study(cap: int | None = 60) -> tuple[StudyRow, ...]:
    def row(
        name: str, activation: str, epochs: tuple[float | None, ...], middle: float | None
    ) -> StudyRow:
        reached = sum(e is not None for e in epochs)
        return StudyRow(name, activation, 1e-3, 1.0, 0.99, 3, reached, epochs, middle, "train", cap)

    return (
        row("rings", "relu", (12.0, 13.0, 14.0), 13.0),
        row("rings", "zfold", (4.0, 5.0, 6.0), 5.0),
        row("checker", "relu", (None, 900.0, None), None),
        row("checker", "zfold", (1.0, 1.0, 1.0), 1.0),
    )


def test_findings_are_computed_from_the_results(tmp_path: Path) -> None:
    small = ("rings, zfold", profile(("input", "out"))), ("rings, relu", profile(("input", "act", "out")))
    determined = [(n, replace(p, rows=p.rows[:-1])) for n, p in small]
    text = summary_of(tmp_path, *determined, study(), scores(), plan(), outcome())
    # Of both classes 8 pieces at the end and 0 and 60 loops; the last row is left out.
    assert "rings, zfold: 76 → 8 in out; rings, relu: 76 → 8 in out." in text
    assert (
        "99 % train accuracy (medians of 3 seeds): on rings zfold after 5 epochs, relu after 13 epochs; "
        "on checker zfold after 1 epoch, relu not reached in 60 epochs."
    ) in text
    assert "34 % of the MACs per sample and 40 % of the parameters are left" in text
    assert "accuracy on test samples from 99.4 % to 92.5 %." in text
    assert "nets trained on rings and checker with relu and zfold, 3 seeds of each" in text
    assert "1 pruning by betti" in text


def test_the_finding_of_one_profile_stands_once(tmp_path: Path) -> None:
    given = replace(profile(), rows=profile().rows[:-1])
    text = text_of(page(tmp_path, given))
    said = uk.profiles.headline(given)
    assert said and text.count(said) == 1 and text.index(said) < text.index("See")


def test_an_undetermined_scale_gives_no_bare_sum(tmp_path: Path) -> None:
    doubtful = replace(profile(), rows=tuple(replace(r, scale=UNDETERMINED) for r in profile().rows))
    text = summary_of(tmp_path, ("a", doubtful), ("b", doubtful))
    assert "→" not in text and "undetermined" in text and "1 other net below" in text


def test_names_are_explained(tmp_path: Path) -> None:
    glossary = {"rings": "linked rings in space", "zfold": "mine"}
    text = summary_of(tmp_path, profile(), study(), scores(), about="Two nets.", glossary=glossary)
    for said in (
        "Two nets.",
        "linked rings in space",
        "max(0, x)",
        "mine",
        "b0, b1",
        "the rule of arXiv",
    ):
        assert said in text
    assert "folds the line" not in text  # the caller's own words stand


def test_texts_stay_text_and_bad_ones_are_refused(tmp_path: Path) -> None:
    shown = page(tmp_path, profile(), about=HOSTILE, glossary={HOSTILE: HOSTILE})
    assert "img" not in shown.tags and shown.text.count(HOSTILE) == 3
    for texts in ({"about": 3}, {"glossary": ["rings"]}, {"glossary": {"rings": 3}}):
        with pytest.raises(uk.InputError, match=r"^[^\n]+: expected [^\n]+; [^\n]+$"):
            page(tmp_path, profile(), **texts)


def test_links_lead_out_only_where_the_package_names_them(tmp_path: Path) -> None:
    shown = page(tmp_path, profile())
    assert "https://arxiv.org/abs/2109.01572" in shown.links
    assert all(link.startswith("https://") for link in shown.links)


def test_what_remains_at_the_end_is_explained(tmp_path: Path) -> None:
    assert "In out class 0 has b0 = 8, b1 = 0 and class 1 has b0 = 8, b1 = 60" in text_of(
        page(tmp_path, profile())
    )
    rows = tuple(replace(r, b0=1, b1=0) if r.layer == "out" else r for r in profile().rows)
    assert "free of loops" not in text_of(page(tmp_path, replace(profile(), rows=rows)))
    assert "free of loops" not in text_of(page(tmp_path, filter_profile()))


def with_dead() -> FilterScores:
    rows = [FilterScore("conv", i, score, "l1") for i, score in enumerate((0.5, 0.1, 0.9))]
    rows.append(FilterScore("conv", 3, -2.0, "l1", note=DEAD))
    return FilterScores(tuple(rows), "l1", remove_high=False)


def test_a_dead_filter_has_no_score(tmp_path: Path) -> None:
    shown = page(tmp_path, with_dead())
    (plot,) = shown.plots["filters_of"]
    assert plot["layers"][0] == {  # type: ignore[index]
        "name": "conv", "filters": [1, 3, 0, 2], "scores": [0.1, 0.1, 0.5, 0.9],
        "notes": ["", DEAD, "", ""], "reasons": [None] * 4,
    }  # fmt: skip
    assert "0.1 to 0.9" in text_of(shown) and "1 dead or duplicate" in text_of(shown)
    assert "-2 to" not in text_of(shown)


def test_small_scores_are_told_apart(tmp_path: Path, no_webgl: Browser) -> None:
    rows = tuple(FilterScore("conv", i, 10.0 ** -(i + 1), "l1") for i in range(5))
    tab = Tab(no_webgl, address(tmp_path, FilterScores(rows, "l1", remove_high=False)))
    heights = tab.run("document.querySelector('[data-kind=filters]').data[0].y")
    assert heights == pytest.approx([-5, -4, -3, -2, -1])
    title = tab.run("document.querySelector('[data-kind=filters]').layout.yaxis.title.text")
    assert title == "l1 (log scale)"
    assert_quiet(tab)
    tab.close()


def test_marks_differ_without_colour_and_curves_share_their_axis(
    tmp_path: Path, no_webgl: Browser
) -> None:
    gone = uk.pruning.PruningPlan({"conv": [3, 1]}, {"conv": ["", ""]}, {}, {"conv": 4}, "l1", (1, 8, 8))
    tab = Tab(no_webgl, address(tmp_path, study(), with_dead(), gone), width=420, height=800)
    symbols = tab.run("document.querySelector('[data-kind=filters]').data.map(t => t.marker?.symbol)")
    assert len(set(symbols)) == 3
    # rings alone spans 4 to 60, checker 1 to 900: both are drawn over a logarithm.
    titles = tab.run(
        "[...document.querySelectorAll('[data-kind=survival]')].map(p => p.layout.xaxis.title.text)"
    )
    assert titles == ["epochs (log scale)"] * 2
    assert "not reached in 60 epochs" in tab.run(
        "document.querySelector('[data-kind=study]').textContent"
    )
    wide = tab.run(
        "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth).length"
    )
    assert wide == 0
    assert tab.run("document.documentElement.scrollWidth") == 420
    assert_quiet(tab)
    tab.close()


def test_twenty_layers_all_have_their_names_on_a_phone(tmp_path: Path, no_webgl: Browser) -> None:
    layers = ("input", *(f"act{i}" for i in range(1, 20)), "out")
    for width in (1300, 420):
        tab = Tab(no_webgl, address(tmp_path, profile(layers)), width=width, height=800)
        names = tab.run(
            "[...document.querySelectorAll('[data-part=b0] .xtick text')].map(t => t.textContent)"
        )
        assert names == list(layers)
        tab.close()

"""Islands and tangle on the page: the data of the plots, and what a reader sees first."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers.browser import Browser, Tab, address, assert_quiet
from helpers.page import page
from helpers.results import KNN, profile
from helpers.untangled import LABELS, row, untangled_profile

from unknot.profiles.picture.palette import PALETTE
from unknot.profiles.picture.sentences import headline
from unknot.report.islands import MOST_BYTES
from unknot.report.page import write_report

N = len(LABELS)


def untangling_of(path: Path, *results: object) -> dict[str, Any]:
    found = page(path, *results).plots["profiles"][0]["untangling"]
    assert isinstance(found, dict)
    return found


def unpacked(text: str, wide: bool = False) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2" if wide else "u1")


def test_the_page_knows_where_every_sample_stands(tmp_path: Path) -> None:
    picture = untangling_of(tmp_path, untangled_profile())["picture"]
    assert picture["layers"] == ["input", "act1", "out"] and picture["of"] == 3 and picture["n"] == N
    assert picture["classes"] == ["cat", "<b>fox</b>", "dog"]  # from the bottom
    assert picture["numbers"] == [0, 2, 1] and picture["colours"] is None
    ranks = unpacked(picture["ranks"])
    assert [picture["classes"][r] for r in ranks[[0, 40, 70]]] == ["cat", "dog", "<b>fox</b>"]
    first, last = picture["members"]
    assert all(not unpacked(packed).any() for packed in first)
    assert last[0] is None  # the input is as it was
    assert (unpacked(last[1]) == (np.asarray(LABELS) == 1)).all()
    assert picture["counts"] == [["1", "1", "1"], ["1", "2", "2"]]


def test_curves_have_their_intervals_and_the_null(tmp_path: Path) -> None:
    curves = untangling_of(tmp_path, untangled_profile())["curves"]
    assert list(curves["measures"]) == ["tangle", "islands", "purity", "total"]
    tangle = curves["measures"]["tangle"]
    assert tangle["values"][0] == [0.9] * 3 and tangle["values"][1] == [0.9, 0.567, 0.533]
    assert tangle["low"][1][1] == 0.537 and tangle["high"][1][1] == 0.597
    assert tangle["null"] == [[0.9, 0.95]] * 3
    assert tangle["shuffled"] == [[0.97, 1.03]] * 3  # measured once, before the training
    assert curves["measures"]["islands"]["low"] == [[1, 1, 1], [1, 2, 2]]


def test_the_table_has_the_first_and_the_last_epoch(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, untangled_profile(epochs=3)).text.split())
    assert "Islands and tangle by layer, first and last epoch" in text
    assert "0.900 [0.870, 0.930]1 [1, 1]0.5001.50" in text and "0.567 [0.537, 0.597]2 [2, 2]" in text


def test_what_was_found_stands_first_where_the_scale_is_undetermined(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, untangled_profile()).text.split())
    found = headline(untangled_profile())
    places = [
        text.index(part)
        for part in (found, "Islands of 100 samples", "Scale undetermined", "b0 connected")
    ]
    assert places == sorted(places)
    assert (
        "Dashed: before training. Blue bands: intervals over half-samples. Grey bands: the same net"
        in text
    )


def test_betti_numbers_stand_first_where_the_scale_is_determined(tmp_path: Path) -> None:
    settled = replace(
        untangled_profile(), scale=KNN, rows=tuple(replace(r, scale=KNN) for r in profile().rows)
    )
    text = " ".join(page(tmp_path, settled).text.split())
    places = [text.index(part) for part in (headline(settled), "b0 connected", "Islands of 100 samples")]
    assert places == sorted(places) and "Scale undetermined" not in text


def test_a_profile_without_islands_is_as_before(tmp_path: Path) -> None:
    shown = page(tmp_path, replace(untangled_profile(), untangling=()))
    assert shown.plots["profiles"][0]["untangling"] is None
    assert "Islands" not in shown.text and "islands and tangle were not measured" in shown.text


def test_reasons_and_gaps_are_shown(tmp_path: Path) -> None:
    rows = [
        replace(r, islands=None, members=(), tangle=None, tangle_interval=None, note="it is constant")
        if r.layer == "act1" else r
        for r in untangled_profile().untangling
    ]  # fmt: skip
    shown = page(tmp_path, replace(untangled_profile(), untangling=tuple(rows)))
    picture = shown.plots["profiles"][0]["untangling"]["picture"]  # type: ignore[index]
    assert picture["counts"][0] == ["1", "?", "1"] and picture["members"][0][1] == ""
    assert "it is constant (act1)" in " ".join(shown.text.split())


def test_numbers_that_are_none_are_gaps(tmp_path: Path) -> None:
    """A page whose data are no JSON would draw nothing at all."""
    odd = {"tangle": float("nan"), "tangle_interval": (float("-inf"), 0.5)}
    rows = tuple(replace(r, **odd) if r.layer == "out" else r for r in untangled_profile().untangling)
    tangle = untangling_of(tmp_path, replace(untangled_profile(), untangling=rows))["curves"]["measures"][
        "tangle"
    ]
    assert tangle["values"] == [[0.9, 0.9, None], [0.9, 0.567, None]]
    assert tangle["low"][0][2] is None and tangle["null"][2] is None


def test_without_members_curves_are_left(tmp_path: Path) -> None:
    rows = tuple(replace(r, members=()) for r in untangled_profile().untangling)
    shown = page(tmp_path, replace(untangled_profile(), untangling=rows))
    found = shown.plots["profiles"][0]["untangling"]
    assert isinstance(found, dict)
    assert found["picture"] is None and found["curves"]["measures"]["islands"]["values"][1] == [1, 2, 2]


def test_a_long_training_stays_small_and_keeps_the_ends(tmp_path: Path) -> None:
    """Twelve layers of 1,000 samples over 30 epochs, and 400 epochs, of which not all are kept."""
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 10, 1000).tolist())
    for epochs, most in ((30, 1.2e6), (400, 1.5 * MOST_BYTES)):
        rows = [
            row(epoch, f"layer{i}", rng.integers(0, 9, 1000).tolist(), 0.5)
            for epoch in range(epochs)
            for i in range(12)
        ]
        long = replace(untangled_profile(), untangling=tuple(rows), labels=labels, names=())
        bare = write_report(tmp_path / "bare.html", replace(long, untangling=()))
        whole = write_report(tmp_path / "whole.html", long)
        assert whole.stat().st_size - bare.stat().st_size < most
    kept = untangling_of(tmp_path, long)["picture"]["kept"]
    assert kept[0] == 0 and kept[-1] == 399 and len(kept) == MOST_BYTES // 12_000


def test_many_classes_share_hues_and_have_no_legend(tmp_path: Path) -> None:
    labels = tuple(range(N)) * 10
    rows = [row(None, "a", np.arange(10 * N) % 300, 0.5)]
    many = replace(untangled_profile(), untangling=tuple(rows), labels=labels, names=())
    shown = page(tmp_path, many)
    picture = shown.plots["profiles"][0]["untangling"]["picture"]  # type: ignore[index]
    assert len(picture["classes"]) == N and len(set(picture["colours"])) == 48
    assert picture["wide"] and unpacked(picture["members"][0][0], wide=True).max() == 299
    assert "100 classes: hues go once around" in shown.text


def test_the_palette_is_that_of_the_page() -> None:
    import unknot.report.page as module

    css = (Path(module.__file__).parent / "templates" / "report.css").read_text()
    light = dict(re.findall(r"--c(\d+): (#[0-9a-f]{6});", css.split("data-theme")[0]))
    assert tuple(light[str(i)] for i in range(len(PALETTE))) == PALETTE
    assert len({*PALETTE}) == 20


BARS = "document.querySelector('[data-kind=islands]').data[0]"


def wait_until(tab: Tab, condition: str) -> None:
    look = f"const look = () => {condition} ? done() : setTimeout(look, 20)"
    tab.run(f"new Promise(done => {{ {look}; look(); }})")


def test_the_browser_draws_bars_that_add_up_and_moves_them(tmp_path: Path, no_webgl: Browser) -> None:
    for width in (1280, 390):
        tab = Tab(no_webgl, address(tmp_path, untangled_profile(epochs=3)), width=width)
        x, base, height = (tab.run(f"{BARS}.{field}") for field in ("x", "base", "y"))
        for layer in range(3):
            assert sum(h for at, h in zip(x, height, strict=True) if at == layer) == N
        # No other bar begins where one stands: cat, fox | dog.
        assert [b for at, b in zip(x, base, strict=True) if at == 2] == [0, 40, 71.5]
        shown = """[...document.querySelectorAll('[data-kind=islands] .bars path')]
            .filter(p => p.getBoundingClientRect().height > 1).length"""
        assert tab.run(shown) == len(x)
        assert (
            tab.run("document.querySelector('[data-kind=islands]').data[1].text.join()")
            == "<b>1</b>,<b>2</b>,<b>2</b>"
        )
        assert tab.run("document.documentElement.scrollWidth") == width
        tab.run("""const slider = document.querySelector('[data-epoch]'); slider.value = 0;
            slider.dispatchEvent(new Event('input', { bubbles: true }))""")
        assert sorted({*tab.run(f"{BARS}.base")}) == [0, 40, 70]
        assert (
            tab.run("document.querySelector('[data-part=tangle]').data.find(t => t.meta === 'now').y")
            == [0.9] * 3
        )
        text = tab.run("document.querySelector('main').innerText")
        assert "<b>fox</b>" in text and "cat" in text
        assert_quiet(tab)
        tab.close()


def test_pointing_at_a_block_shows_where_its_samples_go(tmp_path: Path, no_webgl: Browser) -> None:
    tab = Tab(no_webgl, address(tmp_path, untangled_profile(epochs=3)))
    plot = "document.querySelector('[data-kind=islands]')"
    # The first bar's only block: three classes, and in the next layer dogs are on an island of their own.
    tab.run(f"{plot}.scrollIntoView({{block: 'center'}})")
    box = tab.run(f"{plot}.querySelector('.bars path').getBoundingClientRect().toJSON()")
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for nudge in (-3, 0):
        tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=at["x"] + nudge, y=at["y"])
    wait_until(tab, f"{plot}.layout.shapes.length")
    paths = tab.run(f"{plot}.layout.shapes.map(s => s.path)")
    ends = [re.search(r"M[^,]+,(\S+) .* L[^,]+,(\S+) ", path) for path in paths]
    # From where they stand to the top of where they arrive.
    assert [(float(m[1]), float(m[2])) for m in ends if m] == [(0, 40), (40, 70), (70, 101.5)]
    said = tab.run("document.querySelector('[data-pointed]').innerText")
    assert said == (
        "input, epoch 2, island 1 of 1 from below, 100 samples (cat: 40, <b>fox</b>: 30, dog: 30)\n"
        "next, in act1: 70 in island 1, 30 in island 2"
    )
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    wait_until(tab, f"!{plot}.layout.shapes.length")
    assert_quiet(tab)
    tab.close()

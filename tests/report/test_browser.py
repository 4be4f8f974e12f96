"""The report in a real browser, driven over a pipe: it draws, it moves, and it asks nobody else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.browser import Browser, Tab, address, assert_quiet
from helpers.results import HOSTILE, everything, filter_profile, full_profile, hostile_results, profile

from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.report.page import write_report
from unknot.study.results import StudyRow


def plotted(tab: Tab, part: str = "b0") -> list[list[float]]:
    """The values of the lines as Plotly holds them, those of the chosen epoch."""
    script = (
        f"document.querySelector('[data-part={part}]').data.filter(t => t.meta === 'now').map(t => t.y)"
    )
    found: list[list[float]] = tab.run(script)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_every_plot_is_drawn_at_every_width(
    tmp_path: Path, webgl: Browser, theme: str, width: int
) -> None:
    tab = Tab(webgl, address(tmp_path, *everything(), theme=theme), width=width, height=800)
    drawn = tab.run("""[...document.querySelectorAll('.plot')].filter(p => p.clientWidth)
        .map(p => [p.dataset.kind, p.querySelectorAll('.main-svg').length > 0])""")
    assert all(done for _, done in drawn)
    count = {kind: sum(k == kind for k, _ in drawn) for kind, _ in drawn}
    assert count == {
        "lines": 2, "clouds": 3 if width > 600 else 1, "accuracy": 1, "sensitivity": 4, "study": 1,
        "filters": 1,
    }  # fmt: skip
    assert tab.run("document.documentElement.scrollWidth") == width
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")
    text = tab.run("document.querySelector('main').innerText")
    for shown in (
        "not reached",
        "threshold 150",
        "is removed",
        "class 1",
        "log scale",
        "epoch 0, before training",
    ):
        assert shown in text
    assert_quiet(tab)
    tab.close()


def test_the_theme_is_the_readers_and_can_be_changed(tmp_path: Path, webgl: Browser) -> None:
    path = write_report(tmp_path / "report.html", full_profile())
    tab = Tab(webgl, path.as_uri(), media={"prefers-color-scheme": "dark"})
    assert tab.run("document.documentElement.dataset.theme") == "dark"
    before = tab.run("document.querySelector('[data-part=b0]').layout.font.color")
    tab.click("#theme")
    assert tab.run("document.documentElement.dataset.theme") == "light"
    assert tab.run("document.querySelector('[data-part=b0]').layout.font.color") != before
    assert_quiet(tab)
    tab.close()


def test_the_slider_moves_curves_clouds_and_marker(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, full_profile()))
    cloud = "document.querySelector('[data-kind=clouds]').data[0].x"
    marker = "document.querySelector('[data-kind=accuracy]').layout.shapes[0].x0"
    assert plotted(tab) == [[6, 6, 6], [6, 6, 6]]
    points = tab.run(cloud)
    assert tab.run(marker) == 3
    tab.run("""const slider = document.querySelector('[data-epoch]'); slider.value = 1;
        slider.dispatchEvent(new Event('input', { bubbles: true }))""")
    assert plotted(tab) == [[8, 8, 8], [8, 8, 8]]
    assert tab.run(cloud) != points
    assert tab.run(marker) == 1
    assert tab.run("document.querySelector('.time output').textContent") == "1"
    assert "epoch 1, 87.0\N{NO-BREAK SPACE}%" in tab.run(
        "document.querySelector('[data-caption]').textContent"
    )
    first = tab.run(
        "document.querySelector('[data-part=b0]').data.filter(t => t.meta === 'first').map(t => t.y)"
    )
    assert first == [[9, 9, 9], [9, 9, 9]]
    assert_quiet(tab)
    tab.close()


def test_the_readers_view_of_a_cloud_stays_while_the_epoch_moves(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, full_profile()))
    cloud = "document.querySelector('[data-kind=clouds]')"
    before = tab.run(f"{cloud}._fullLayout.scene.camera.eye.x")
    tab.drag("[data-kind=clouds]", 60, 20)
    turned = tab.run(f"{cloud}._fullLayout.scene.camera.eye.x")
    assert turned != before
    tab.run("document.querySelector('[data-play]').focus()")
    tab.press("ArrowLeft")
    assert tab.run(f"{cloud}._fullLayout.scene.camera.eye.x") == turned
    assert plotted(tab)[0][0] == 7
    tab.close()


def test_the_keys_step_and_play(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, full_profile()))
    epoch = "document.querySelector('.time output').textContent"
    tab.press("ArrowLeft")  # nothing has the focus yet
    assert tab.run(epoch) == "2"
    tab.click("[data-part=b0]")
    for key, expected in (("Home", "0"), ("ArrowRight", "1"), ("End", "3"), ("ArrowRight", "3")):
        tab.press(key)
        assert tab.run(epoch) == expected
    tab.press("Home")
    tab.press(" ")
    assert (
        tab.run("document.querySelector('[data-play]').innerText.trim().split(/\\s+/).pop()") == "Pause"
    )
    tab.press(" ")
    assert "Play" in tab.run("document.querySelector('[data-play]').innerText")
    assert_quiet(tab)
    tab.close()


def test_playing_goes_through_every_epoch_and_stops(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, full_profile()))
    seen = tab.run("""new Promise((done) => {
        const seen = [], output = document.querySelector('.time output');
        const button = document.querySelector('[data-play]');
        new MutationObserver(() => {
            const y = document.querySelector('[data-part=b0]').data.at(-1).y[0];
            if (button.innerText.includes('Play')) done(seen);
            else if (seen.at(-1)?.[0] !== output.textContent) seen.push([output.textContent, y]);
        }).observe(document.querySelector('.time'), { childList: true, subtree: true });
        document.querySelector('[data-speed]').value = 8;
        button.click();
    })""")
    assert [epoch for epoch, _ in seen][:3] == ["0", "1", "2"]
    assert tab.run("document.querySelector('.time output').textContent") == "3"
    assert plotted(tab)[0][0] == 6
    assert_quiet(tab)
    tab.close()


def test_a_reader_who_wants_little_motion_gets_the_slowest(tmp_path: Path, webgl: Browser) -> None:
    page = address(tmp_path, full_profile(epochs=30))
    speeds = []
    for wish in ("reduce", "no-preference"):
        tab = Tab(webgl, page, media={"prefers-reduced-motion": wish})
        speeds.append(int(tab.run("document.querySelector('[data-speed]').value")))
        assert (
            tab.run("document.querySelector('.time output').textContent") == "29"
        )  # nothing plays unasked
        tab.close()
    assert speeds == [1, 4]


def test_without_webgl_the_clouds_are_flat(tmp_path: Path, no_webgl: Browser) -> None:
    tab = Tab(no_webgl, address(tmp_path, full_profile()))
    kinds = tab.run(
        "[...document.querySelectorAll('[data-kind=clouds]')].flatMap(p => p.data.map(t => t.type))"
    )
    assert kinds == ["scatter"] * 6
    assert "This browser has no WebGL" in tab.run("document.querySelector('main').innerText")
    assert_quiet(tab)
    tab.close()


def test_hostile_names_stay_text_in_the_browser(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, *hostile_results(), title=HOSTILE))
    assert tab.run("document.title") == HOSTILE
    assert tab.run("document.querySelectorAll('img').length") == 0
    ticks = tab.run(
        "[...document.querySelectorAll('[data-part=b0] .xtick text')].map(t => t.textContent)"
    )
    assert ticks[1] == "<b>act</b>"  # Plotly would print it bold
    assert tab.run("document.querySelectorAll('[data-kind=lines] .xtick b').length") == 0
    assert_quiet(tab)
    tab.close()


def test_choices_change_what_is_drawn(tmp_path: Path, webgl: Browser) -> None:
    tab = Tab(webgl, address(tmp_path, *everything()))
    choose = """((selector, value) => { const at = document.querySelector(selector);
        if (at.type === 'checkbox' || at.type === 'radio') at.checked = value; else at.value = value;
        for (const kind of ['input', 'change'])
            at.dispatchEvent(new Event(kind, { bubbles: true })); })"""
    tab.run(choose + "('.key input', false)")
    assert len(plotted(tab)) == 1
    assert len(tab.run("document.querySelector('[data-kind=clouds]').data")) == 1
    before = tab.run("document.querySelector('[data-kind=clouds]').data[0].x")
    tab.run(choose + "('[data-cloud]', 2)")
    assert tab.run("document.querySelector('[data-kind=clouds]').data[0].x") != before
    tab.run(choose + "('[data-sum]', 0)")
    assert "<b>input</b>" in tab.run("document.querySelector('[data-kind=accuracy]').data[0].text[0]")
    tab.run(choose + "(\"[name=target-0][value='0.95']\", true)")
    assert tab.run("document.querySelector('[data-kind=study]').data[0].x.join()") == "5,6,8"
    tab.run(choose + "(\"[name=profile][value='1']\", true)")
    assert tab.run("[...document.querySelectorAll('[data-view]')].map(v => v.hidden)") == [True, False]
    assert tab.run("document.querySelectorAll('[data-kind=heat].js-plotly-plot').length") == 3
    assert_quiet(tab)
    tab.close()


def test_many_filters_go_on_in_the_next_row(tmp_path: Path, webgl: Browser) -> None:
    sizes = {f"layer{i}.conv": 16 * 2 ** (i // 4) for i in range(20)}
    rows = tuple(
        replace(filter_profile().rows[0], layer=layer, filter=i, b0=i % 50, b1=i % 7)
        for layer, size in sizes.items()
        for i in range(size)
    )
    tab = Tab(webgl, address(tmp_path, replace(filter_profile(), rows=rows)))
    trace = "document.querySelector('[data-kind=heat]').data[0]"
    cells = tab.run(f"{trace}.z.flat().filter(v => v !== null).length")
    assert cells == sum(sizes.values())
    assert tab.run(f"{trace}.z[0].length") <= 128
    assert "<b>layer19.conv</b><br>filter 255<br>b0 = 5, b1 = 3" in tab.run(f"{trace}.text.flat().at(-1)")
    assert len(tab.run("document.querySelector('[data-kind=heat]').layout.yaxis.ticktext")) == 20
    assert_quiet(tab)
    tab.close()


def test_sixty_layers_have_labels_that_do_not_overprint(tmp_path: Path, webgl: Browser) -> None:
    layers = tuple(
        f"vit.encoder.layer.{i // 2}.{('attention', 'output')[i % 2]}.dense" for i in range(60)
    )
    for width in (1200, 390):
        tab = Tab(webgl, address(tmp_path, profile(layers, epochs=2)), width=width)
        left = tab.run("""[...document.querySelectorAll('[data-part=b0] .xtick text')]
            .map(t => t.getBoundingClientRect().right).sort((a, b) => a - b)""")
        assert 5 <= len(left) < 60
        assert min(b - a for a, b in pairwise(left)) > 10
        names = tab.run(
            "document.querySelector('[data-part=b0]').data.at(-1).text.map(t => t.split('<br>')[0])"
        )
        assert names == [f"<b>{layer}</b>" for layer in layers]
        assert tab.run("document.documentElement.scrollWidth") == width
        tab.close()


def test_scores_of_any_sign_and_targets_never_reached_are_drawn(tmp_path: Path, webgl: Browser) -> None:
    rows = tuple(FilterScore("conv", i, i / 8 - 0.25, "mine") for i in range(5))
    signed = FilterScores(rows, "mine", remove_high=False)
    never = (StudyRow("a", "relu", 0.1, 1.0, 0.9, 1, 0, (None,), None),)
    tab = Tab(webgl, address(tmp_path, filter_profile(), signed, never))
    assert (
        tab.run("document.querySelectorAll('.plot.js-plotly-plot').length") == 5
    )  # b0, b1, b2, epochs, scores
    assert_quiet(tab)
    tab.close()


def test_a_profile_of_clouds_alone_and_one_without_classes_are_drawn(
    tmp_path: Path, webgl: Browser
) -> None:
    rows = tuple(replace(row, label=None, epoch=None) for row in profile(epochs=1).rows[::2])
    views = tuple(replace(view, labels=None, epoch=None) for view in full_profile(epochs=1).views)
    whole = replace(profile(), rows=rows, views=views)
    filters = replace(filter_profile(), views=full_profile(epochs=1).views)
    tab = Tab(webgl, address(tmp_path, ("a", whole), ("b", filters)))
    assert tab.run("document.querySelector('[data-kind=clouds]').data.length") == 1
    tab.run("const tab = document.querySelector(\"[name=profile][value='1']\"); tab.click()")
    assert tab.run("document.querySelector('[data-index=\"1\"] [data-kind=clouds]').data.length") == 2
    assert_quiet(tab)
    tab.close()

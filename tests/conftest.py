"""What a plain machine may lack makes its tests skip with the reason; CI sets UNKNOT_REQUIRE_ALL=1."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

# What the fixtures need is imported there: the engine's tests run with the extension alone.
if TYPE_CHECKING:
    from helpers.browser import Browser
    from torch import nn

    from unknot.pruning.planning.plan import PruningPlan


# A source distribution has the tests, but not what these are about.
needs_checkout = pytest.mark.skipif(
    not (Path(__file__).parents[1] / "docs").is_dir(), reason="an sdist has no docs and no benchmarks"
)

# Tests run side by side, and so do the processes that they start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded images go to a folder of this run, not to the user's."""
    os.environ.setdefault("UNKNOT_CACHE", str(tmp_path_factory.mktemp("cache")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The Parquet cases of tests over formats need the extra data."""
    if importlib.util.find_spec("pyarrow") is not None:
        return
    for item in items:
        cases = getattr(item, "callspec", None)
        if cases is not None and any(str(case).endswith("parquet") for case in cases.params.values()):
            item.add_marker(pytest.mark.skip(reason="pyarrow is not installed"))


def missing(reason: str) -> None:
    if os.environ.get("UNKNOT_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and UNKNOT_REQUIRE_ALL=1 allows no skip")
    pytest.skip(reason)


@pytest.fixture
def image_folder() -> Path:
    folder = Path(os.environ.get("UNKNOT_DATA", ""))
    if not (folder / "fashion_mnist" / "test.parquet").is_file():
        missing("UNKNOT_DATA does not name a folder with fashion_mnist")
    if importlib.util.find_spec("datasets") is None:
        missing("datasets is not installed")
    return folder


@pytest.fixture(scope="module")
def webgl(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from helpers.browser import WITH_WEBGL, Browser

    browser = Browser(chromium, tmp_path_factory.mktemp("browser"), WITH_WEBGL)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def no_webgl(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from helpers.browser import WITHOUT_WEBGL, Browser

    browser = Browser(chromium, tmp_path_factory.mktemp("flat"), WITHOUT_WEBGL)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    return str(path)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, PruningPlan]:
    from helpers.nets import factory

    from unknot.pruning.artifact import save_pruned
    from unknot.pruning.planning.plan import plan_pruning
    from unknot.pruning.removal import prune
    from unknot.pruning.scoring.scores import score_filters

    torch.manual_seed(0)
    model = factory()
    model(torch.randn(32, 1, 8, 8))  # batch norm statistics that are not the defaults
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model.eval(), plan)
    save_pruned(slim, plan, tmp_path / "model", program=False)
    return tmp_path / "model", slim, plan


@pytest.fixture
def drawn() -> Iterator[Any]:
    """matplotlib's pyplot without a screen; what was drawn is closed."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # what cannot be drawn shows here
    pyplot.close("all")

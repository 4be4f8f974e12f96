"""The tutorials run; the notebooks that are kept are the scripts' own, with small pictures."""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import needs_checkout

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs/tutorials").glob("*.py"))
LARGEST = 80_000  # bytes of a picture


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    for name in ("jupytext", "nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name)
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(script: Path) -> Any:
    import nbformat

    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def kinds(cell: Any) -> list[str]:
    """What a cell printed and drew; text in pieces counts once."""
    found = [o.name if o.output_type == "stream" else o.output_type for o in cell.get("outputs", [])]
    return list(dict.fromkeys(found))


def pictures(notebook: Any) -> list[tuple[Any, bytes]]:
    outputs = [(cell, o) for cell in notebook.cells for o in cell.get("outputs", [])]
    return [
        (cell, base64.b64decode(o.data["image/png"]))
        for cell, o in outputs
        if "image/png" in o.get("data", {})
    ]


@needs_checkout
def test_there_is_one_tutorial_for_each_job() -> None:
    assert [path.stem for path in SCRIPTS] == ["see", "shrink", "speed_up"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_the_notebook_is_that_of_its_script(script: Path, notebooks: ModuleType) -> None:
    expected, found = notebooks.notebook(script), kept(script)
    for name in ("cell_type", "source", "id"):
        assert [cell[name] for cell in found.cells] == [cell[name] for cell in expected.cells], (
            "make notebooks"
        )
    shown = pictures(found)
    assert len(shown) >= 2
    for cell, picture in shown:
        assert cell.metadata["alt"] and len(picture) <= LARGEST


@pytest.mark.timeout(3600)  # a cell has its own limit in docs/notebooks.py; it catches a hang first
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_the_notebook_runs_and_says_nothing_on_stderr(
    script: Path, notebooks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran, before = notebooks.execute(script), kept(script)
    # Numbers differ between processors; what is printed and drawn, and where, does not.
    assert [kinds(cell) for cell in ran.cells] == [kinds(cell) for cell in before.cells]
    assert not any("stderr" in kinds(cell) for cell in ran.cells)


def test_pictures_lose_colours_only(notebooks: ModuleType) -> None:
    from PIL import Image

    drawn = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(drawn, format="png")
    light = base64.b64decode(notebooks.lighter(base64.b64encode(drawn.getvalue()).decode()))
    found = Image.open(io.BytesIO(light))
    assert found.size == (64, 48) and len(found.getcolors(1000)) <= 64 and len(light) < drawn.tell()

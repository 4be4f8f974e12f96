"""The tutorials: from the scripts in docs/tutorials to executed notebooks beside them.

    python docs/notebooks.py [NAME ...]

The scripts are the sources (jupytext's percent format); the notebooks hold their outputs, so that the
site is built without running them. Each runs in an empty folder.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

TUTORIALS = Path(__file__).parent / "tutorials"


def notebook(script: Path) -> NotebookNode:
    """The notebook of a script, without outputs; the same cells have the same ids every time."""
    found = jupytext.read(script)
    found.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(found.cells):
        cell.id = f"cell-{number}"
    return found


def execute(script: Path) -> NotebookNode:
    """The notebook of a script with its outputs, and nothing that changes from run to run beside them."""
    found = notebook(script)
    with tempfile.TemporaryDirectory() as folder:
        patience = {"timeout": 1800, "startup_timeout": 600}  # seconds; of a busy machine
        NotebookClient(
            found, resources={"metadata": {"path": folder}}, record_timing=False, **patience
        ).execute()
    for output in (output for cell in found.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = lighter(output.data["image/png"])
    found.metadata["language_info"] = {"name": "python"}  # without the version that ran it
    nbformat.validate(found)
    return found


def lighter(picture: str) -> str:
    """A picture in base64 with 64 colours, which are enough for charts, in a third of the bytes."""
    drawn = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    kept = io.BytesIO()
    drawn.quantize(64, dither=Image.Dither.NONE).save(kept, format="png", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


if __name__ == "__main__":
    for path in sorted(TUTORIALS.glob("*.py")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            nbformat.write(execute(path), path.with_suffix(".ipynb"))
            print(path.with_suffix(".ipynb"))

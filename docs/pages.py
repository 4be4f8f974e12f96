"""The pages of the site, written into build/pages, where zensical.toml looks for them.

    python docs/pages.py

The home page is the README, its links seen from the site; the tutorials are notebooks, shown as pages;
the results of benchmarks lie beside the pages; the reference lists what the doors of the rooms list.
"""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/unknot"
RESULTS = "benchmarks/results"
MOVED = {"(docs/": "(", "(CONTRIBUTING.md": "(contributing.md", "(CHANGELOG.md": "(changelog.md"}


def write(folder: Path) -> None:
    """All pages, their pictures, notebooks and results, in place of what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.py", "*.mjs", "figures", "__pycache__")
    shutil.copytree(ROOT / "docs", folder, ignore=ignored)
    (folder / "data").mkdir()
    for result in (ROOT / RESULTS).glob("*.json"):
        shutil.copy(result, folder / "data")
    shutil.copy(ROOT / "README.md", folder / "index.md")
    for notebook in folder.rglob("*.ipynb"):
        write_tutorial(notebook)
    for page in folder.rglob("*.md"):
        markdown = page.read_text(encoding="utf-8")
        if page == folder / "index.md":
            for old, new in MOVED.items():
                markdown = markdown.replace(old, new)
        markdown = re.sub(r"(tutorials/\w+)\.ipynb\)", r"\1.md)", with_names(markdown))
        page.write_text(markdown.replace(f"(../{RESULTS}/", "(data/"), encoding="utf-8")


def write_tutorial(path: Path) -> None:
    """The page of a notebook, beside it."""
    notebook: Any = nbformat.read(path, as_version=4)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "text" in output:
            output.text = "\n".join(map(folded, output.text.split("\n")))
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_notebook_node(notebook, names)
    for cell in notebook.cells:
        if "alt" in cell.metadata:
            text = text.replace("![png]", f"![{cell.metadata['alt']}]", 1)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    for name, picture in made["outputs"].items():
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(picture)


def folded(line: str) -> str:
    """A line of output as long as code may be."""
    return textwrap.fill(line, 97, subsequent_indent="  ") if len(line) > 97 else line


def with_names(markdown: str) -> str:
    """The reference with the names of each room, after the ``.pyi`` beside its door.

    ``<!-- names: topology -->`` becomes a block a name, ``<!-- names -->`` links to those at the top.
    """
    markdown = re.sub(r"<!-- names: (\w+) -->", lambda found: blocks(found[1]), markdown)
    top = ", ".join(f"[`{name}`][{path}]" for name, path in public_names().items())
    return markdown.replace("<!-- names -->", top)


def blocks(room: str) -> str:
    return "\n\n".join(f"::: {path}" for path in public_names(room).values())


def public_names(room: str = "") -> dict[str, str]:
    """Each name in the ``.pyi`` of a room, or of the package, and the full path of what it names."""
    package = PACKAGE / room
    paths = {}
    for node in ast.parse((package / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = [PACKAGE.name, *([room] if room else []), node.module]
            for name in (alias.name for alias in node.names):
                inner = PACKAGE.joinpath(*parts[1:], "__init__.pyi")
                path = ".".join([*parts, name])
                paths[name] = public_names(parts[1])[name] if inner.exists() else path
    return paths


if __name__ == "__main__":
    write(ROOT / "build/pages")

"""The home page is the README, its links seen from the site; the tutorials are notebooks, shown as pages;
the results of benchmarks lie beside the pages; the reference lists what the doors of the rooms list."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/unknot"
RESULTS = "benchmarks/results"
MOVED = {"(docs/": "(", "(CONTRIBUTING.md": "(contributing.md", "(CHANGELOG.md": "(changelog.md"}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    for found in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = PurePosixPath(found.src_uri)
        notebook = nbformat.reads(found.content_string, as_version=4)
        names = {"unique_key": page.stem, "output_files_dir": f"{page.stem}_files"}
        text, made = MarkdownExporter().from_notebook_node(notebook, names)
        for cell in notebook.cells:
            if "alt" in cell.metadata:
                text = text.replace("![png]", f"![{cell.metadata['alt']}]", 1)
        files.append(File.generated(config, str(page.with_suffix(".md")), content=text))
        for name, picture in made["outputs"].items():
            files.append(File.generated(config, str(page.parent / name), content=picture))
    for path in sorted((ROOT / RESULTS).glob("*.json")):
        files.append(File.generated(config, f"data/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri == "index.md":
        markdown = (ROOT / "README.md").read_text(encoding="utf-8")
        for old, new in MOVED.items():
            markdown = markdown.replace(old, new)
    if page.file.src_uri == "reference.md":
        markdown = with_names(markdown)
    markdown = re.sub(r"(tutorials/\w+)\.ipynb\)", r"\1.md)", markdown)
    return markdown.replace(f"(../{RESULTS}/", "(data/")


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

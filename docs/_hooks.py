"""The home page is the README, its links seen from the site; the tutorials are notebooks, shown as pages;
the results of benchmarks lie beside the pages."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
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
    markdown = re.sub(r"(tutorials/\w+)\.ipynb\)", r"\1.md)", markdown)
    return markdown.replace(f"(../{RESULTS}/", "(data/")

"""The home page is the README, its links seen from the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MOVED = {"(docs/": "(", "(CONTRIBUTING.md": "(contributing.md", "(CHANGELOG.md": "(changelog.md"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri != "index.md":
        return markdown
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for old, new in MOVED.items():
        text = text.replace(old, new)
    return text

"""A report as a reader gets it: its text, its addresses, the data of its plots."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from unknot.report.page import write_report


class Page(HTMLParser):
    """Tags, the text that a reader sees, what is loaded or linked, and the data of the plots."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.code: list[str] = []
        self._in = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in = tag
        found = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        (self.links if tag == "a" else self.addresses).extend(found)

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style"):
            self.code.append(data)
            return
        self.text += data
        if self._in == "h2":
            self.headings.append(data)

    @property
    def plots(self) -> dict[str, list[dict[str, object]]]:
        parsed: dict[str, list[dict[str, object]]] = json.loads(
            next(c for c in self.code if c[:1] == "{")
        )
        return parsed


def page(path: Path, *results: object, **texts: Any) -> Page:
    return Page(write_report(path / "report.html", *results, **texts))

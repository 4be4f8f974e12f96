"""Where a figure comes from: the head of the files of results."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from typing import Any


def provenance(command: str, *packages: str) -> dict[str, Any]:
    """The command, the day, the machine, and the versions of what was measured and of ``packages``."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "versions": {name: version(name) for name in ("unknot", "torch", "numpy", *packages)},
    }

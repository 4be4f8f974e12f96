"""One version everywhere: `python version.py [v0.1.0]` compares what the files say, and the tag.

With a tag the changelog has to say when, "## 0.1.0 (2026-01-31)" in place of "(unreleased)".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHERE = {
    "pyproject.toml": r'^version = "([^"]+)"',
    "CITATION.cff": r"^version: (\S+)",
    "conda/recipe.yaml": r'^  version: "([^"]+)"',
    "CHANGELOG.md": r"^## (\d\S*)",
}


def versions() -> dict[str, str]:
    found = {}
    for name, pattern in WHERE.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
        assert match, f"no version in {name}"
        found[name] = match[1]
    return found


if __name__ == "__main__":
    told = versions()
    if sys.argv[1:]:
        told["the tag"] = sys.argv[1].removeprefix("v")
        if "(unreleased)" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
            sys.exit("CHANGELOG.md says (unreleased): expected the date of the release")
    if len(set(told.values())) > 1:
        sys.exit(f"versions differ: {told}")
    print(*set(told.values()))

"""Kill rates of the mutants that `make mutants` ran, by module, and the mutants that survived."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

FOLDER = Path("mutants/src/unknot")
SEEN = ("killed", "timeout", "segfault")  # by a failing test, an endless loop, a crash


def main() -> None:
    for path in sorted(FOLDER.rglob("*.py.meta")):
        statuses = {
            name: status_by_exit_code[code]
            for name, code in json.loads(path.read_text())["exit_code_by_key"].items()
        }
        run = {name: status for name, status in statuses.items() if status != "not checked"}
        if not run:
            continue
        count = Counter(run.values())
        killed = sum(count[status] for status in SEEN)
        print(
            f"{path.name.removesuffix('.py.meta'):10} {killed} of {len(run)} mutants killed "
            f"({killed / len(run):.1%}; {count['timeout']} by time), {len(statuses) - len(run)} not run"
        )
        for name, status in run.items():
            if status not in SEEN:
                print(f"  {status}: {name}")


if __name__ == "__main__":
    main()

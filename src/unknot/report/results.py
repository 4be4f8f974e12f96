"""Saved results, read back for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from unknot.core.errors import InputError
from unknot.core.files import record_kind, require_file
from unknot.profiles.journal import read_profile
from unknot.profiles.profile import TopologyProfile
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.removal import PruningPlan
from unknot.pruning.scoring.scores import FilterScores
from unknot.study.results import StudyRow
from unknot.study.study import Study

Result: TypeAlias = (
    TopologyProfile | Study | Sequence[StudyRow] | FilterScores | PruningPlan | PruningOutcome
)
_READERS: dict[str, Callable[[str | Path], Result]] = {
    "profile": TopologyProfile.from_json,
    "scores": FilterScores.from_json,
    "plan": PruningPlan.from_json,
    "outcome": PruningOutcome.from_json,
}


def load_result(path: str | Path) -> Result:
    """A saved profile, scores, plan or outcome, or a study; the file decides which.

    Args:
        path: JSON; of a profile also .jsonl or .parquet; of a study SQLite.

    Raises:
        MissingFile: there is no such file, and none is made.
        InputError: it is a folder, or none of unknot's.
    """
    require_file(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if start == b"SQLite format 3\0":
        return _study(path)
    if Path(path).suffix in (".jsonl", ".parquet"):
        return read_profile(path)
    read = _READERS.get(record_kind(path))
    if read is None:
        raise _foreign(path)
    return read(path)


def _study(path: str | Path) -> Study:
    try:
        return Study(path)
    except InputError as error:
        raise _foreign(path) if "another path" in str(error) else error from None


def _foreign(path: str | Path) -> InputError:
    return InputError(
        f"file {path}",
        "a profile .json, .jsonl or .parquet, a scores, plan or outcome .json, or a study .sqlite, "
        "written by unknot",
        "pass one of these",
    )

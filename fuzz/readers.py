"""The file readers under atheris: a result or one InputError line, never another exception.

    pip install atheris
    python fuzz/readers.py build/corpus -runs=20000

The first byte of an input picks the reader. An empty corpus is filled with one whole file of every kind.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["unknot", "zipfile"]):
    from unknot.core.errors import InputError
    from unknot.report.results import load_result
    from unknot.study.trials import TrialFile
    from unknot.topology.adapters.point_files import load_points

NAMES = (
    "profile.json", "profile.jsonl", "profile.parquet", "scores.json", "study.sqlite",
    "points.npy", "points.npz", "points.csv",
)  # fmt: skip
FOLDER = Path(tempfile.mkdtemp(prefix="unknot-fuzz-"))


def check(data: bytes) -> None:
    path = FOLDER / NAMES[data[0] % len(NAMES) if data else 0]
    path.write_bytes(data[1:])
    try:
        if path.suffix == ".sqlite":
            TrialFile(path).read()
        else:
            (load_points if path.stem == "points" else load_result)(path)
    except InputError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from None
    assert path.read_bytes() == data[1:]
    path.unlink()
    assert not any(FOLDER.iterdir())


def fill(corpus: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers.damage import written

    corpus.mkdir(parents=True, exist_ok=True)
    for name, content in written(FOLDER).items():
        if name in NAMES:
            (corpus / name).write_bytes(bytes([NAMES.index(name)]) + content)


def main() -> None:
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None
    if corpus is not None and not (corpus.is_dir() and any(corpus.iterdir())):
        fill(corpus)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

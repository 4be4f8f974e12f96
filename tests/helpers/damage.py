"""Files of every format, to be damaged."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from helpers.faulty import trial
from helpers.results import full_outcome, full_profile, plan, scores

from unknot.profiles.journal import write_profile
from unknot.study.trials import TrialFile


def written(tmp_path: Path) -> dict[str, bytes]:
    """One whole file of every kind that can be read."""
    table = ["parquet"] if importlib.util.find_spec("pyarrow") else []
    for suffix in ("json", "jsonl", *table):
        write_profile(tmp_path / f"profile.{suffix}", full_profile(epochs=2))
    scores().to_json(tmp_path / "scores.json")
    plan().to_json(tmp_path / "plan.json")
    full_outcome().to_json(tmp_path / "outcome.json")
    TrialFile(tmp_path / "study.sqlite").add([trial(0)])
    points = np.random.default_rng(0).normal(size=(12, 2))
    np.save(tmp_path / "points.npy", points)
    np.savez_compressed(tmp_path / "points.npz", points=points, labels=np.arange(12) % 2)
    np.savetxt(tmp_path / "points.csv", points, delimiter=",", header="x,y")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for path in tmp_path.iterdir():
        path.unlink()
    return found

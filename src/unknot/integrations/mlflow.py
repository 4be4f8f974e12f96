"""Betti numbers as MLflow metrics, one step an epoch, with the scale as parameters."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from unknot.core.errors import InputError, import_package
from unknot.integrations.scalars import named_scalars
from unknot.profiles.journal import joined, write_profile
from unknot.profiles.profile import TopologyProfile

_mlflow = import_package("mlflow", extra="trackers")
_BATCH = 1000  # metrics that a tracking server takes at once


class MlflowWriter:
    """Logs each profile that it is called with to one run.

    >>> with mlflow.start_run(), MlflowWriter(artifact=True) as writer:          # doctest: +SKIP
    ...     with uk.Monitor(model, loader, on_record=[writer]) as monitor: ...
    >>> MlflowWriter(run_id=logger.run_id)            # of Lightning's MLFlowLogger, # doctest: +SKIP

    The metrics are those of `named_scalars`, e.g. ``topology/<layer>/b0/<class>``; what
    MLflow does not permit in a name becomes "_". The scale, the seed and the settings of the measurement
    are logged once, as parameters ``topology/k``, ``topology/seed``, ``topology/layers``, ...

    Args:
        run_id: of the run; None takes the one that is active at the first call.
        artifact: also log everything as ``profile.json``, for `read_profile`, when closed.
    """

    def __init__(self, run_id: str | None = None, *, artifact: bool = False) -> None:
        self._client = _mlflow.MlflowClient()
        self._run_id = run_id
        self._artifact = artifact
        self._parts: list[TopologyProfile] = []
        self._described = False

    def __call__(self, profile: TopologyProfile) -> None:
        run = self._run()
        if not self._described:
            self._client.log_batch(run, params=_parameters(profile))
            self._described = True
        now = int(time.time() * 1000)
        metrics = (
            _mlflow.entities.Metric(_permitted(name), value, now, epoch)
            for epoch, numbers in named_scalars(profile).items()
            for name, value in numbers.items()
        )
        while batch := list(islice(metrics, _BATCH)):
            self._client.log_batch(run, metrics=batch)
        if self._artifact:
            self._parts.append(profile)

    def __enter__(self) -> MlflowWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Log the artifact, if it was asked for."""
        if self._parts:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "profile.json"
                write_profile(path, joined(self._parts))
                self._client.log_artifact(self._run(), str(path))

    def _run(self) -> str:
        if self._run_id is None:
            active = _mlflow.active_run()
            if active is None:
                raise InputError(
                    "MlflowWriter without a run",
                    "an active one",
                    "call mlflow.start_run() or pass run_id",
                )
            self._run_id = active.info.run_id
        return self._run_id


def _permitted(name: str) -> str:
    return re.sub(r"[^\w\-./ ]", "_", name)


def _parameters(profile: TopologyProfile) -> list[Any]:
    scale = profile.scale
    values: dict[str, object] = {"seed": profile.seed, **profile.settings}
    if scale is not None:
        values |= {name: value for name, value in asdict(scale).items() if name != "note"}
    return [
        _mlflow.entities.Param(f"topology/{name}", str(value)[:500])  # older servers take no more
        for name, value in values.items()
        if value is not None
    ]

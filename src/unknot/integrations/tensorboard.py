"""Betti numbers as TensorBoard scalars, one point an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unknot.core.errors import import_package
from unknot.integrations.scalars import named_scalars
from unknot.profiles.profile import TopologyProfile

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_tensorboard = import_package("torch.utils.tensorboard", extra="trackers")


class TensorBoardWriter:
    """Writes each profile that it is called with; the step is the epoch.

    >>> with TensorBoardWriter("runs/a") as writer:                              # doctest: +SKIP
    ...     with uk.Monitor(model, loader, on_record=[writer]) as monitor: ...
    >>> TensorBoardWriter("runs/b")(uk.profiles.read_profile("run.jsonl"))                # doctest: +SKIP

    The tags are those of `named_scalars`, e.g. ``topology/<layer>/b0/<class>``. Every epoch is on the
    disk when the call returns.

    Args:
        log_dir: a folder for the event file; or a SummaryWriter, e.g. the ``experiment`` of Lightning's
            TensorBoardLogger, which is written to and never closed.
    """

    def __init__(self, log_dir: str | Path | SummaryWriter) -> None:
        self._owned = isinstance(log_dir, (str, Path))
        self._writer: Any = _tensorboard.SummaryWriter(log_dir) if self._owned else log_dir

    def __call__(self, profile: TopologyProfile) -> None:
        for epoch, numbers in named_scalars(profile).items():
            for tag, value in numbers.items():
                self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the event file that was opened here."""
        if self._owned:
            self._writer.close()

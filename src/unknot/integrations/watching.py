"""What the callbacks share: a Monitor that starts and ends with someone else's training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import DataLoader

from unknot.core.errors import InputError
from unknot.profiles.meter import Reading
from unknot.profiles.monitor import Monitor
from unknot.profiles.options import MonitorKeywords, MonitorOptions
from unknot.profiles.profile import TopologyProfile

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Watch:
    """A Monitor that is made when training starts, and closed when it ends in whatever way.

    >>> watch = Watch(metric="val_acc", layers="act*")
    >>> watch.begin(model, loader, epochs_done=0)                    # doctest: +SKIP
    >>> watch.record(1, {"val_acc": 0.9}); watch.close()             # doctest: +SKIP

    Args:
        metric: name of the metric that is recorded beside the Betti numbers, or None.
        options: of the Monitor.
    """

    def __init__(self, *, metric: str | None = None, **options: Unpack[MonitorKeywords]) -> None:
        self.metric = metric
        self.options = MonitorOptions(**options)
        self._resume = options.get("resume")
        self._monitor: Monitor | None = None
        self._left_out: tuple[int, float | None] | None = None

    @property
    def profile(self) -> TopologyProfile:
        return self._begun().profile

    def begin(
        self,
        model: nn.Module,
        probe: Iterable[Any],
        epochs_done: float,
        **changes: Unpack[MonitorKeywords],
    ) -> None:
        """Draw the probe and measure the model as it is, unless an earlier part of the run did.

        Args:
            epochs_done: 0 for a new training; not whole where it goes on in the middle of an epoch.
            changes: options to be replaced.
        """
        out = changes.get("out", self.options.out)
        resume = epochs_done > 0 and out is not None if self._resume is None else self._resume
        options = replace(self.options, **{"resume": resume, **changes})  # type: ignore[arg-type]
        self._left_out = None
        self._monitor = Monitor(model, probe, **vars(options))
        if epochs_done == int(epochs_done) and epochs_done not in self._monitor.profile.epochs():
            self._monitor.begin(int(epochs_done))

    def record(self, epoch: int, metrics: Mapping[str, Any], *, last: bool = False) -> None:
        """Record an epoch with the metric that was asked for; warn if there is none of that name.

        Args:
            metrics: what was logged; None under the metric's name where it is not from this epoch.
            last: record it whatever ``every`` is.
        """
        if self.metric is not None and self.metric not in metrics:
            warnings.warn(
                f"metric = {self.metric!r}: not among {', '.join(sorted(metrics)) or 'no metrics'} after "
                f"epoch {epoch}; recorded without it",
                stacklevel=2,
            )
        value = metrics.get(self.metric) if self.metric is not None else None
        number = None if value is None else float(value)
        if number is not None and not math.isfinite(number):
            warnings.warn(
                f"metric = {self.metric!r}: {number} after epoch {epoch}; recorded without it",
                stacklevel=2,
            )
            number = None
        monitor = self._begun()
        monitor.take(Reading(epoch, number), always=last)
        self._left_out = (epoch, number) if epoch % monitor.every and not last else None

    def end(self) -> None:
        """Record the last epoch even if it is none of ``every``, and close."""
        if self._left_out is not None:
            self._begun().take(Reading(*self._left_out), always=True)
            self._left_out = None
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Finish what is being measured; with ``error``, that of the training, raise nothing else."""
        if self._monitor is not None:
            self._monitor.__exit__(None if error is None else type(error), error, None)

    def _begun(self) -> Monitor:
        if self._monitor is None:
            raise InputError(
                "a callback that has measured nothing",
                "a training on this process (rank 0)",
                "train first",
            )
        return self._monitor


def own_loader(dataset: Any, like: DataLoader[Any]) -> DataLoader[Any]:
    """Batches of a data set made as ``like`` makes them, in order.

    A training loader itself is left alone: iterating it would change how it shuffles from then on.
    """
    size = (like.batch_size or 64) if like.batch_sampler is not None else None
    return DataLoader(dataset, batch_size=size, collate_fn=like.collate_fn)


def refuse_sharded(model: nn.Module) -> None:
    """Raise unless this process holds the whole model.

    Raises:
        InputError: its parameters are spread over processes, which would have to run it together.
    """
    # By name and attribute: neither torch.distributed nor deepspeed need be there.
    sharded = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    spread = any(type(p).__name__ == "DTensor" or hasattr(p, "ds_id") for p in model.parameters())
    if sharded or spread:
        raise InputError(
            "a model whose parameters are spread over processes (FSDP, DeepSpeed stage 3)",
            "the whole model on each process",
            "train with DDP, or measure its checkpoints with unknot.measure",
        )

"""A callback for Hugging Face ``Trainer``: the Betti numbers of a model's layers while it trains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from unknot.core.errors import InputError, import_package
from unknot.core.keywords import spelled_out
from unknot.integrations.watching import Watch, own_loader, refuse_sharded
from unknot.profiles.options import MonitorKeywords, MonitorOptions
from unknot.profiles.profile import TopologyProfile

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Callback: Any = import_package("transformers", extra="transformers").TrainerCallback


@spelled_out(MonitorOptions)
class TopologyCallback(_Callback):  # type: ignore[misc]  # imported on demand
    """Measures the model before the first training epoch and after each one.

    >>> callback = TopologyCallback(eval_dataset, layers="*.layers.*.output", out="run.jsonl")
    >>> Trainer(model, args, train_dataset=train, callbacks=[callback]).train()  # doctest: +SKIP
    >>> callback.profile.rows                                                    # doctest: +SKIP

    Training runs as it would without it: the model, its random numbers and its loaders are left as they
    were. An epoch's number is how many epochs were trained; the last one, which ``max_steps`` may cut
    short, is recorded whatever ``every`` is. Only the first process measures. A training that goes on
    from a checkpoint goes on with its ``out`` file. After one that failed call `close`.

    Args:
        probe: a data set of the kind that the Trainer takes, batched by the Trainer's collator; or a
            DataLoader, or another iterable of batches that is no list. All samples need one shape: pad
            texts to one length. None takes the training samples, and only where there is no evaluation:
            a Trainer shows its evaluation samples to a callback only once it has evaluated.
        metric: a metric of the evaluation after an epoch, e.g. "eval_accuracy", kept with that epoch.
        options: the fields of `MonitorOptions`, as of `unknot.Monitor`, each a keyword.

    Attributes:
        profile: everything recorded so far, on the first process.
    """

    def __init__(
        self, probe: Any = None, *, metric: str | None = None, **options: Unpack[MonitorKeywords]
    ) -> None:
        self._probe = probe
        self._watch = Watch(metric=metric, **options)
        self._due: int | None = None
        self._last = False
        self._metrics: dict[str, float] = {}

    @property
    def profile(self) -> TopologyProfile:
        return self._watch.profile

    def close(self) -> None:
        """Finish what is being measured; needed only after a training that failed."""
        self._watch.close()

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        model: nn.Module,
        train_dataloader: DataLoader[Any],
        eval_dataloader: DataLoader[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_sharded(model)
        self._due, self._metrics = None, {}
        if state.is_world_process_zero:
            probe = self._probe if self._probe is not None else eval_dataloader
            if probe is None and args.do_eval:
                raise InputError(
                    "probe = None before the first evaluation", "samples", "pass probe=eval_dataset"
                )
            self._watch.begin(model, _loader(probe, train_dataloader), round(state.epoch or 0, 6))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._due, self._last = math.ceil(round(state.epoch, 6)), control.should_training_stop
            if self._watch.metric is None:
                self._record({})
            elif not control.should_evaluate:
                self._record({self._watch.metric: None})
            # else the evaluation comes next, and the weights stay until then

    def on_evaluate(
        self, args: Any, state: Any, control: Any, *, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        # With several evaluation sets there are several calls, each with its own metrics.
        self._metrics |= metrics
        if self._watch.metric in metrics:
            self._record(metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._record(self._metrics)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._record(self._metrics)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.load_best_model_at_end:
            self._watch.close()  # the weights are those of another epoch now
        else:
            self._record(self._metrics)
            self._watch.end()

    def _record(self, metrics: dict[str, Any]) -> None:
        """Record the epoch that waits for its evaluation, if one does."""
        if self._due is not None:
            self._watch.record(self._due, metrics, last=self._last)
            self._due = None


def _loader(probe: Any, train: DataLoader[Any]) -> Any:
    """Batches of the probe, made as the Trainer makes those of its training."""
    if probe is None:
        return own_loader(train.dataset, train)
    if not hasattr(probe, "__getitem__") or isinstance(probe, Tensor):
        return probe
    columns = getattr(train.dataset, "column_names", None)
    if columns and hasattr(probe, "select_columns"):  # without those that the model does not take
        probe = probe.select_columns([name for name in probe.column_names if name in columns])
    return own_loader(probe, train)

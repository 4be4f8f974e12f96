"""A Lightning callback: the Betti numbers of a LightningModule's layers while it is fitted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from unknot.core.errors import InputError, import_package
from unknot.core.keywords import spelled_out
from unknot.integrations.scalars import named_scalars
from unknot.integrations.watching import Watch, own_loader, refuse_sharded
from unknot.profiles.options import MonitorKeywords, MonitorOptions
from unknot.profiles.profile import TopologyProfile

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
# A trainer takes callbacks of its own package only, and both packages may be there.
_imported = [sys.modules[name] for name in _PACKAGES if sys.modules.get(name)]
_packages = _imported or [import_package(*_PACKAGES, extra="lightning")]
_Callback: Any = type("_Callback", tuple(package.Callback for package in _packages), {})


@spelled_out(MonitorOptions)
class TopologyCallback(_Callback):  # type: ignore[misc]  # not known before it runs
    """Measures the model before the first training epoch and after each one.

    >>> callback = TopologyCallback(module="net", layers="act*", metric="val_acc", out="run.jsonl")
    >>> pl.Trainer(max_epochs=10, callbacks=[callback]).fit(model, data)     # doctest: +SKIP
    >>> callback.profile.rows                                                # doctest: +SKIP

    Training runs as it would without it: the model, its random numbers and its loaders are left as they
    were. An epoch's number is how many epochs were trained. The last one is recorded whatever ``every``
    is. Only the process of global rank 0 measures. A training that goes on from a checkpoint goes on with
    its ``out`` file.

    Args:
        probe: samples, as the loader of `unknot.measure`. None takes the validation loader, the first if
            there are several; without one, the samples of the training loader in their own order.
        module: which part of the LightningModule is measured, e.g. "net"; the whole one by default. It
            takes the inputs of the probe's batches.
        metric: a logged metric, kept with each epoch in which it was logged.
        log: also write the Betti numbers to the trainer's loggers.
        options: the fields of `MonitorOptions`, as of `unknot.Monitor`, each a keyword.

    Attributes:
        profile: everything recorded so far, on the process of rank 0.
    """

    def __init__(
        self,
        probe: Iterable[Any] | Tensor | None = None,
        *,
        module: str = "",
        metric: str | None = None,
        log: bool = False,
        **options: Unpack[MonitorKeywords],
    ) -> None:
        self._probe, self._module, self._log = probe, module, log
        self._watch = Watch(metric=metric, **options)
        self._latest: Any = None
        self._steps: dict[int, int] = {}

    @property
    def profile(self) -> TopologyProfile:
        return self._watch.profile

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        try:
            model = pl_module.get_submodule(self._module)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise InputError(
                f"module = {self._module!r}", "a part of the LightningModule", f"try one of {names}"
            ) from None
        refuse_sharded(model)
        if not trainer.is_global_zero:
            return
        self._latest = trainer.callback_metrics.get(self._watch.metric)
        epochs_done = trainer.current_epoch
        self._steps = {epochs_done: trainer.global_step}
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if progress.current.processed and not (progress.is_last_batch and epochs_done):
            epochs_done += 0.5  # of a checkpoint within an epoch
        changes: MonitorKeywords = {"out": None} if trainer.fast_dev_run else {}
        if self._log:
            log = partial(_log, trainer, self._steps)
            changes["on_record"] = [*self._watch.options.on_record, log]
        self._watch.begin(model, self._samples(trainer), epochs_done, **changes)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        self._steps[epoch] = trainer.global_step
        self._watch.record(epoch, self._fresh(trainer.callback_metrics))

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        if trainer.is_global_zero:
            self._watch.end()

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        self._watch.close(exception)

    def teardown(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        self._watch.close()

    def _samples(self, trainer: Any) -> Any:
        if self._probe is not None:
            return self._probe
        if trainer.enable_validation and trainer.val_dataloaders is None:
            # Lightning makes the loader when it first validates, as it does here.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True
        if trainer.enable_validation:
            return _first(trainer.val_dataloaders)
        loader = _first(trainer.train_dataloader)
        return own_loader(loader.dataset, loader) if isinstance(loader, DataLoader) else loader

    def _fresh(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """The metrics, with None for one that is left from an earlier epoch.

        Lightning keeps the tensor of the last validation; a new one is another object.
        """
        name = self._watch.metric
        if name is None or name not in metrics:
            return metrics
        stale = metrics[name] is self._latest
        self._latest = metrics[name]
        return {**metrics, name: None} if stale else metrics


def _log(trainer: Any, steps: dict[int, int], profile: TopologyProfile) -> None:
    """Write measured epochs to a trainer's loggers, each at the step in which it ended."""
    for epoch, numbers in named_scalars(profile).items():
        for logger in trainer.loggers:
            logger.log_metrics({**numbers, "epoch": epoch}, step=steps[epoch])


def _first(loaders: Any) -> Any:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    return loaders[0] if isinstance(loaders, (list, tuple)) else loaders

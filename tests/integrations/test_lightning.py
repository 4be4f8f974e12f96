"""The callback inside real Lightning trainers, of both packages."""

from __future__ import annotations

import csv
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unknot as uk

pl = pytest.importorskip("lightning.pytorch")

from unknot.integrations.lightning import TopologyCallback  # noqa: E402
from unknot.integrations.scalars import named_scalars  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval:UserWarning"),
    # What Lightning itself calls in torch.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\):FutureWarning"),
]
SCALE = uk.Scale(k=8, hops=2)
SETTINGS = {"scale": SCALE, "max_points": 150}


def data(seed: int, n: int = 300) -> TensorDataset:
    shape = uk.make_shape("rings", pairs=1, n=n, seed=seed)
    return TensorDataset(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))


def network(library: Any = pl) -> Any:
    """A seeded LightningModule of one of the two packages."""

    class Net(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
            self.loss = nn.CrossEntropyLoss()
            self.fail_in = -1

        def forward(self, points: torch.Tensor) -> Any:
            return self.net(points)

        def training_step(self, batch: Any, _index: int) -> Any:
            if self.current_epoch == self.fail_in:
                raise ZeroDivisionError
            return self.loss(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _index: int) -> None:
            self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    pl.seed_everything(0)
    return Net()


def train_loader(**settings: Any) -> DataLoader[Any]:
    return DataLoader(data(0), batch_size=100, shuffle=True, **settings)


def val_loader() -> DataLoader[Any]:
    return DataLoader(data(1, n=120), batch_size=50)


def trainer(*callbacks: Any, library: Any = pl, **settings: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return library.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=list(callbacks),
        **{"max_epochs": 2, **quiet, **settings},
    )


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_epochs_metric_and_file(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip(package)
    monkeypatch.delitem(sys.modules, "unknot.integrations.lightning")
    own = import_module("unknot.integrations.lightning").TopologyCallback
    assert issubclass(own, library.Callback)
    model = network(library)
    callback = own(module="net", metric="val_acc", out=tmp_path / "run.jsonl", **SETTINGS)
    fit = trainer(callback, library=library, max_epochs=3, accumulate_grad_batches=2)
    fit.fit(model, train_loader(), val_loader())
    profile = callback.profile
    assert profile.epochs() == [0, 1, 2, 3]
    assert profile.layers() == ["input", "0", "1", "2", "3"]
    assert profile.settings["samples"] == 120  # the validation set
    assert uk.profiles.read_profile(tmp_path / "run.jsonl") == profile
    before, *after = profile.accuracy
    assert before.given is None
    assert after[-1].given == pytest.approx(float(fit.callback_metrics["val_acc"]))
    # The model that was recorded last is the trained one, as it is when it is evaluated.
    expected = uk.measure(model.net, val_loader(), scale=SCALE, max_points=150)
    found = [(r.layer, r.label, r.b0, r.b1) for r in profile.rows if r.epoch == 3]
    assert found == [(r.layer, r.label, r.b0, r.b1) for r in expected.rows]


@pytest.mark.parametrize("held_out", [True, False], ids=["validation", "training"])
def test_training_is_the_same_with_and_without(held_out: bool) -> None:
    def fitted(*callbacks: Any) -> torch.Tensor:
        model = network()
        loader = train_loader(generator=torch.Generator().manual_seed(1))
        trainer(*callbacks, limit_val_batches=1.0 if held_out else 0).fit(model, loader, val_loader())
        return torch.cat([p.flatten() for p in model.parameters()])

    callback = TopologyCallback(**SETTINGS)
    assert torch.equal(fitted(callback), fitted())
    assert callback.profile.settings["samples"] == (120 if held_out else 150)
    assert callback.profile.layers()[1:] == ["net.0", "net.1", "net.2", "net.3"]


def test_the_last_epoch_is_recorded_and_a_metric_stays_with_its_epoch() -> None:
    callback = TopologyCallback(metric="val_acc", every=2, **SETTINGS)
    trainer(callback, max_epochs=3).fit(network(), train_loader(), val_loader())
    assert callback.profile.epochs() == [0, 2, 3]
    callback = TopologyCallback(metric="val_acc", **SETTINGS)
    fit = trainer(callback, max_epochs=3, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    with pytest.warns(UserWarning, match="metric = 'val_acc': not among no metrics after epoch 1"):
        fit.fit(network(), train_loader(), [val_loader()])
    assert [a.given is None for a in callback.profile.accuracy] == [True, True, False, True]
    assert callback.profile.settings["samples"] == 120


def test_a_resumed_training_goes_on_with_its_file(tmp_path: Path) -> None:
    def fit(epochs: int, out: str, checkpoint: str | None = None) -> uk.profiles.TopologyProfile:
        callback = TopologyCallback(out=tmp_path / out, **SETTINGS)
        run = trainer(callback, max_epochs=epochs)
        run.fit(network(), train_loader(), val_loader(), ckpt_path=checkpoint)
        run.save_checkpoint(tmp_path / "run.ckpt")
        return callback.profile

    fit(2, "run.jsonl")
    profile = fit(3, "run.jsonl", checkpoint=str(tmp_path / "run.ckpt"))
    assert profile.epochs() == [0, 1, 2, 3] and profile == uk.profiles.read_profile(
        tmp_path / "run.jsonl"
    )
    assert fit(4, "new.jsonl", checkpoint=str(tmp_path / "run.ckpt")).epochs() == [3, 4]
    with pytest.raises(uk.InputError, match="exists"):
        fit(1, "run.jsonl")


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before:UserWarning")
def test_a_checkpoint_within_an_epoch_is_no_whole_epoch(tmp_path: Path) -> None:
    class Save(pl.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "at.ckpt")

    trainer(Save(), max_steps=1).fit(network(), train_loader(), val_loader())
    callback = TopologyCallback(**SETTINGS)
    trainer(callback).fit(network(), train_loader(), val_loader(), ckpt_path=str(tmp_path / "at.ckpt"))
    assert callback.profile.epochs() == [1, 2]


def test_an_error_in_training_closes_the_monitor(tmp_path: Path) -> None:
    model = network()
    model.fail_in = 1
    callback = TopologyCallback(out=tmp_path / "run.jsonl", **SETTINGS)
    with pytest.raises(ZeroDivisionError):
        trainer(callback).fit(model, train_loader(), val_loader())
    assert not [t for t in threading.enumerate() if t.name.startswith("unknot-monitor")]
    assert uk.profiles.read_profile(tmp_path / "run.jsonl").epochs() == [0, 1]


def test_log_writes_to_the_loggers(tmp_path: Path) -> None:
    seen: list[uk.profiles.TopologyProfile] = []
    callback = TopologyCallback(log=True, on_record=[seen.append], layers="net.1", **SETTINGS)
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    trainer(callback, logger=logger).fit(network(), train_loader(), val_loader())
    assert [p.epochs() for p in seen] == [[0], [1], [2]]
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["topology/net.1/complexity"]]
    written = {int(row["epoch"]): row for row in rows}
    assert [int(row["step"]) for row in rows] == [0, 3, 6]
    for epoch, numbers in named_scalars(callback.profile).items():
        assert {name: float(written[epoch][name]) for name in numbers} == pytest.approx(numbers)


def test_other_ranks_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    callback = TopologyCallback(**SETTINGS)
    trainer(callback).fit(network(), train_loader(), val_loader())
    with pytest.raises(uk.InputError, match="rank 0"):
        _ = callback.profile


def test_a_dry_run_writes_no_file(tmp_path: Path) -> None:
    callback = TopologyCallback(out=tmp_path / "run.jsonl", **SETTINGS)
    trainer(callback, fast_dev_run=True).fit(network(), train_loader(), val_loader())
    assert callback.profile.epochs() == [0, 1] and not list(tmp_path.iterdir())


def sharded(model: Any) -> None:
    model.net[0].weight.ds_id = 0


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"module": "nett"}, lambda _: None, "module = 'nett'.*try one of net, loss"),
        ({}, sharded, "spread over processes"),
        (
            {},
            lambda m: nn.init.constant_(m.net[3].weight, float("nan")),
            "layer net.3 with NaN or infinity in its weights",
        ),
    ],
    ids=["module", "sharded", "nan"],
)
def test_what_cannot_be_measured_is_refused(
    settings: dict[str, Any], change: Callable[[Any], Any], message: str
) -> None:
    model = network()
    change(model)
    with pytest.raises(uk.InputError, match=message):
        trainer(TopologyCallback(**settings, **SETTINGS)).fit(model, train_loader(), val_loader())


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "unknot.integrations.lightning")
    with pytest.raises(uk.InputError, match=r"pip install 'unknot\[lightning\]'$"):
        import_module("unknot.integrations.lightning")

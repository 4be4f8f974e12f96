"""The callback inside the real Hugging Face Trainer: images and texts, nothing downloaded."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import unknot as uk

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from unknot.integrations.transformers import TopologyCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*'pin_memory' argument is set as true:UserWarning")
SCALE = uk.Scale(k=8, hops=2)
SETTINGS = {"scale": SCALE, "max_points": 100}


class Samples(Dataset[dict[str, Any]]):
    """Random images, or random texts of one length; the class can be told from either."""

    def __init__(self, n: int, *, text: bool = False) -> None:
        generator = torch.Generator().manual_seed(n)
        labels = torch.arange(n) % 2
        columns = {
            "pixel_values": torch.randn(n, 3, 16, 16, generator=generator) + labels.view(-1, 1, 1, 1)
        }
        if text:
            tokens = torch.randint(2, 20, (n, 7), generator=generator) + 20 * labels[:, None]
            columns = {"input_ids": tokens, "attention_mask": torch.ones(n, 7, dtype=torch.long)}
            columns["attention_mask"][::3, 5:] = 0
        self.columns = {**columns, "labels": labels}

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self.columns.items()}


def resnet() -> Any:
    transformers.set_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, num_labels=2))


def bert() -> Any:
    transformers.set_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **sizes))


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def trainer(folder: Path, model: Any, *callbacks: Any, text: bool = False, **settings: Any) -> Any:
    data: dict[str, Any] = {
        "train_dataset": Samples(48, text=text),
        "eval_dataset": Samples(32, text=text),
    }
    data |= {key: settings.pop(key) for key in list(data) if key in settings}
    quiet = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    settings = {"num_train_epochs": 2, "learning_rate": 1e-3, "use_cpu": True, **quiet, **settings}
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(output_dir=str(folder), **settings),
        callbacks=list(callbacks),
        compute_metrics=accuracy,
        **data,
    )


def test_images_epochs_metric_and_file(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    callback = TopologyCallback(
        Samples(32), layers="*.stages.?", metric="eval_accuracy", out=out, **SETTINGS
    )
    run = trainer(tmp_path, resnet(), callback, eval_strategy="epoch", gradient_accumulation_steps=2)
    run.train()
    profile = callback.profile
    assert profile.epochs() == [0, 1, 2]
    assert profile.layers() == ["input", "resnet.encoder.stages.0", "resnet.encoder.stages.1"]
    assert profile.settings["samples"] == 32 and uk.profiles.read_profile(out) == profile
    before, _, after = profile.accuracy
    assert before.given is None
    assert after.given == pytest.approx(after.probe)  # the samples of the evaluation
    expected = uk.measure(
        run.model, run.get_eval_dataloader(), layers="*.stages.?", scale=SCALE, max_points=100
    )
    found = [(r.layer, r.label, r.b0, r.b1) for r in profile.rows if r.epoch == 2]
    assert found == [(r.layer, r.label, r.b0, r.b1) for r in expected.rows]


def test_text_is_measured_from_its_tokens(tmp_path: Path) -> None:
    callback = TopologyCallback(Samples(32, text=True), layers="bert.encoder.layer.?", max_points=100)
    trainer(tmp_path, bert(), callback, text=True).train()
    assert callback.profile.layers() == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    assert callback.profile.epochs() == [0, 1, 2]
    assert all(a.probe is not None for a in callback.profile.accuracy)


@pytest.mark.parametrize("probe", ["data set", "loader", "training"])
def test_training_is_the_same_with_and_without(tmp_path: Path, probe: str) -> None:
    def trained(*callbacks: Any) -> torch.Tensor:
        model = bert()  # with dropout
        trainer(tmp_path, model, *callbacks, text=True).train()
        return torch.cat([p.flatten() for p in model.parameters()])

    data = Samples(32, text=True)
    given = {"data set": data, "loader": DataLoader(data, batch_size=8, shuffle=True), "training": None}
    callback = TopologyCallback(given[probe], layers="classifier", **SETTINGS)
    assert torch.equal(trained(callback), trained())
    assert callback.profile.settings["samples"] == (48 if probe == "training" else 32)


def test_columns_that_the_model_does_not_take_are_left_out(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    def table(n: int) -> Any:
        columns = {name: column.tolist() for name, column in Samples(n, text=True).columns.items()}
        return datasets.Dataset.from_dict({**columns, "text": ["a word"] * n})

    callback = TopologyCallback(table(32), layers="classifier", **SETTINGS)
    trainer(tmp_path, bert(), callback, train_dataset=table(48), eval_dataset=table(32)).train()
    assert callback.profile.settings["samples"] == 32 and callback.profile.epochs() == [0, 1, 2]


def test_evaluation_samples_have_to_be_named_until_they_are_shown(tmp_path: Path) -> None:
    callback = TopologyCallback(layers="classifier.?", **SETTINGS)
    run = trainer(tmp_path, resnet(), callback, eval_strategy="epoch")
    with pytest.raises(uk.InputError, match="pass probe=eval_dataset"):
        run.train()
    run.evaluate()
    run.train()
    assert callback.profile.settings["samples"] == 32


def test_last_epoch_and_epochs_without_evaluation(tmp_path: Path) -> None:
    given: dict[str, Any] = {"layers": "classifier.?", "metric": "eval_accuracy", **SETTINGS}
    callback = TopologyCallback(Samples(32), every=2, **given)
    settings = {"eval_strategy": "epoch", "eval_delay": 2, "max_steps": 15}  # 6 steps an epoch
    trainer(tmp_path, resnet(), callback, **settings).train()
    assert [(a.epoch, a.given is None) for a in callback.profile.accuracy] == [
        (0, True), (2, False), (3, False),
    ]  # fmt: skip


def test_a_metric_of_one_of_several_evaluation_sets(tmp_path: Path) -> None:
    sets = {"eval_strategy": "epoch", "eval_dataset": {"near": Samples(32), "far": Samples(16)}}
    callback = TopologyCallback(
        Samples(16), layers="classifier.?", metric="eval_far_accuracy", **SETTINGS
    )
    trainer(tmp_path, resnet(), callback, **sets).train()
    assert [a.given == pytest.approx(a.probe) for a in callback.profile.accuracy[1:]] == [True, True]
    callback = TopologyCallback(Samples(16), layers="classifier.?", metric="accuracy", **SETTINGS)
    with pytest.warns(UserWarning, match="metric = 'accuracy': not among epoch, eval_far_accuracy,"):
        trainer(tmp_path, resnet(), callback, **sets).train()
    assert callback.profile.epochs() == [0, 1, 2]


def test_the_best_model_is_not_taken_for_the_last(tmp_path: Path) -> None:
    best = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,
    }
    callback = TopologyCallback(
        Samples(32), every=3, layers="classifier.?", metric="eval_loss", **SETTINGS
    )
    run = trainer(
        tmp_path,
        resnet(),
        callback,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        **best,
    )
    run.train()
    assert callback.profile.epochs() == [0, 2]
    losses = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    assert callback.profile.accuracy[-1].given == pytest.approx(losses[-1])


def test_a_resumed_training_goes_on_with_its_file(tmp_path: Path) -> None:
    def train(epochs: int, resume: bool) -> uk.profiles.TopologyProfile:
        callback = TopologyCallback(
            Samples(32), layers="classifier.?", out=tmp_path / "run.jsonl", **SETTINGS
        )
        run = trainer(
            tmp_path / "run", resnet(), callback, num_train_epochs=epochs, save_strategy="epoch"
        )
        run.train(resume_from_checkpoint=resume)
        return callback.profile

    train(2, resume=False)
    profile = train(3, resume=True)
    assert profile.epochs() == [0, 1, 2, 3] and profile == uk.profiles.read_profile(
        tmp_path / "run.jsonl"
    )
    with pytest.raises(uk.InputError, match="exists"):
        train(1, resume=False)


def test_after_an_error_in_training_the_file_is_whole(tmp_path: Path) -> None:
    class Failing(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch > 1:
                raise ZeroDivisionError

    callback = TopologyCallback(
        Samples(32), layers="classifier.?", out=tmp_path / "run.jsonl", **SETTINGS
    )
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, resnet(), Failing(), callback).train()
    callback.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("unknot-monitor")]
    assert uk.profiles.read_profile(tmp_path / "run.jsonl").epochs() == [0, 1]


def test_other_processes_measure_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback = TopologyCallback(Samples(32), **SETTINGS)
    run = trainer(tmp_path, resnet(), callback)
    monkeypatch.setattr(type(run), "is_world_process_zero", lambda self: False)
    run.train()
    with pytest.raises(uk.InputError, match="rank 0"):
        _ = callback.profile


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "unknot.integrations.transformers")
    with pytest.raises(uk.InputError, match=r"pip install 'unknot\[transformers\]'$"):
        import_module("unknot.integrations.transformers")

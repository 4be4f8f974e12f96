"""ONNX export: parity with torch at every batch size, nothing left when it fails, and no chatter."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unknot.activations.folds import QFold, ZFold
from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.nets.models import cnn, resnet
from unknot.pruning.exports import onnx as export
from unknot.pruning.exports.onnx import ExportReport, export_onnx
from unknot.pruning.planning.plan import plan_pruning
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters

pytestmark = pytest.mark.numeric

for _package in export.PACKAGES:
    pytest.importorskip(_package)

EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def pruned(activation: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = resnet(1, 3, widths=(4, 6), activation=activation)
    model(torch.randn(32, 1, 8, 8))  # batch norm statistics that are not the defaults
    model.eval()
    plan = plan_pruning(model, score_filters(model, criterion="l1"), EXAMPLE, ratio=0.5)
    return prune(model, plan)


@pytest.mark.parametrize("activation", [nn.ReLU, ZFold, QFold])
def test_a_pruned_model_exports_and_agrees_at_any_batch_size(
    tmp_path: Path, activation: type[nn.Module], capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    model = pruned(activation)
    report = export_onnx(model, EXAMPLE, tmp_path / "new" / "model.onnx", repeats=3)
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model.onnx"]
    assert [p.batch_size for p in report.parity] == [1, 2, 7, 64]
    assert report.worst < 1e-5
    assert [time.batch_size for time in (*report.torch, *report.onnx)] == [1, 64, 1, 64]
    assert all(time.median_ms > 0 for time in (*report.torch, *report.onnx))
    assert (report.file, report.threads) == ("model.onnx", torch.get_num_threads())
    assert report.bytes == (tmp_path / "new" / "model.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx")
    inputs = torch.randn(5, 1, 8, 8)
    (found,) = session.run(None, {"input": inputs.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(inputs).numpy(), atol=1e-5)


def test_the_model_and_the_callers_example_stay_as_they_were(tmp_path: Path) -> None:
    model = cnn(1, 3, widths=(4,), batch_norm=True).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    example = EXAMPLE.clone()
    export_onnx(model, example, tmp_path / "model.onnx", repeats=1)
    assert model.training and torch.equal(example, EXAMPLE)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


class Several(nn.Module):
    """Returns a dict of float tensors, and takes tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.embed(x)
        return {"logits": self.out(hidden.mean(1)), "hidden": hidden}


def test_containers_of_outputs_and_whole_numbers_go_in(tmp_path: Path) -> None:
    report = export_onnx(Several(), torch.randint(0, 10, (2, 5)), tmp_path / "model.onnx", repeats=1)
    assert report.worst < 1e-5


def test_a_pruned_hugging_face_network_exports(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config).eval()
    example = torch.randn(2, 3, 32, 32)
    plan = plan_pruning(model, score_filters(model, criterion="l1"), example, ratio=0.3)
    report = export_onnx(prune(model, plan), example, tmp_path / "model.onnx", repeats=1)
    assert plan.n_removed and report.worst < 1e-5


def test_a_report_comes_back_from_its_record(tmp_path: Path) -> None:
    from dataclasses import asdict

    report = export_onnx(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.onnx", repeats=1)
    assert typed(ExportReport, asdict(report)) == report


def test_where_onnx_runtime_disagrees_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_text("before")
    original = export._runner

    def wrong(file: Path, threads: int) -> export.Run:
        run = original(file, threads)
        return lambda inputs: [values + 0.01 for values in run(inputs)]

    monkeypatch.setattr(export, "_runner", wrong)
    with pytest.raises(InputError, match=r"differs from torch by .* at batch 1: expected at most 0.0001"):
        export_onnx(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.onnx")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("model.onnx", "before")]
    report = export_onnx(
        nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.onnx", tolerance=1.0, repeats=1
    )
    assert 1e-4 < report.worst < 1


def test_nan_is_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = export._runner

    def poisoned(file: Path, threads: int) -> export.Run:
        run = original(file, threads)

        def spoil(inputs: np.ndarray) -> list[np.ndarray]:
            outputs = run(inputs)
            outputs[0].flat[-1] = np.nan
            return outputs

        return spoil

    monkeypatch.setattr(export, "_runner", poisoned)
    with pytest.raises(InputError, match="differs from torch"):
        export_onnx(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.onnx")


class OfSize(nn.Module):
    """Does something else for larger batches, of which the trace knows nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.shape[0] > 4 else x.flatten(1) * 2


class OfValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if bool(x.sum() > 0) else x


@pytest.mark.parametrize(
    ("model", "says"), [(OfSize(), "differs from torch .* at batch 7"), (OfValues(), "free batch size")]
)
def test_what_a_trace_cannot_hold_is_refused(tmp_path: Path, model: nn.Module, says: str) -> None:
    with pytest.raises(InputError, match=says):
        export_onnx(model, EXAMPLE, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", export.PACKAGES)
def test_a_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"package {name} is missing: .* pip install 'unknot\[onnx\]'"):
        export_onnx(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "model.pt"}, "ends in .onnx; pass model.onnx"),
        ({"tolerance": 0.0}, "tolerance = 0"),
        ({"repeats": 0}, "repeats = 0"),
        ({"example": torch.empty(0, 3)}, "at least one sample"),
        ({"example": torch.randn(2, 4)}, r"a batch of shape \(2, 4\)"),
        ({"model": nn.Linear(3, 2).half()}, "float32"),
        ({"model": "net"}, "a model of type str"),
    ],
)
def test_bad_input(tmp_path: Path, change: dict[str, object], says: str) -> None:
    given = {"model": nn.Linear(3, 2), "example": torch.randn(4, 3), "path": "model.onnx"} | change
    given["path"] = tmp_path / str(given["path"])
    with pytest.raises(InputError, match=says.replace("model.onnx", ".*model.onnx")):
        export_onnx(**given)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())

"""torch.export: a file that torch alone runs, that agrees with the model and holds no sample; or none."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.nets import factory
from torch import Tensor, nn

import unknot as uk
from unknot.activations.folds import QFold, ZFold
from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.nets.models import resnet
from unknot.pruning.exports import program
from unknot.pruning.exports.program import ProgramReport, export_program

pytestmark = pytest.mark.numeric

# A process that cannot import unknot, transformers or this file.
STRANGER = """
import sys

class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("unknot", "transformers", "test_program_export", "helpers"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Nobody())
import torch
for file in sys.argv[1:]:
    args, named, expected = torch.load(file + ".io", weights_only=True)
    with torch.no_grad():
        outputs = torch.export.load(file).module()(*args, **named)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
assert not any(name.partition(".")[0] == "unknot" for name in sys.modules)
print("alone")
"""


def pruned(activation: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = resnet(1, 3, widths=(4, 6), activation=activation)
    model(torch.randn(32, 1, 8, 8))  # batch norm statistics that are not the defaults
    model.eval()
    scores = uk.score_filters(model, criterion="l1")
    return uk.prune(model, uk.plan_pruning(model, scores, torch.randn(2, 1, 8, 8), ratio=0.5))


@dataclass
class Scores:
    logits: Tensor
    others: Any = None


Pair = namedtuple("Pair", ["one", "two"])


class Several(nn.Module):
    """Takes tokens and a mask by name, and returns a nest of containers, whole numbers and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Scores:
        hidden = self.embed(tokens) * mask[..., None]
        logits = self.out(hidden.mean(1))
        return Scores(logits, Pair({"best": logits.argmax(1)}, [hidden, None, 3]))


class Keywords(nn.Module):
    def forward(self, **named: Tensor) -> Tensor:
        return named["a"] + named["b"]


class Together(nn.Module):
    """Takes one argument, which is a tuple."""

    def forward(self, both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return both[0] @ both[1], both[1].flip(1)


def plain(output: Any) -> Any:
    """By hand, what the file promises to return."""
    if isinstance(output, Scores):
        return {"logits": output.logits, "others": plain(output.others)}
    if isinstance(output, Pair):
        return (output.one, output.two)
    return dict(output) if isinstance(output, Mapping) else output


def cases() -> dict[str, tuple[nn.Module, Any]]:
    tokens = {"tokens": torch.randint(0, 10, (5, 6)), "mask": torch.rand(5, 6) > 0.3}
    images = torch.randn(5, 1, 8, 8)
    found: dict[str, tuple[nn.Module, Any]] = {
        "relu": (pruned(nn.ReLU), images),
        "zfold": (pruned(ZFold), images),
        "qfold": (pruned(QFold), images),
        "several": (Several(), tokens),
        "keywords": (Keywords(), {"a": torch.randn(5, 4), "b": torch.randn(5, 4)}),
        "together": (Together(), (torch.randn(5, 2, 3), torch.randn(5, 3, 4))),
        "half": (nn.Linear(4, 3).half(), torch.randn(5, 4)),
        "whole": (nn.Sequential(nn.Flatten(), nn.Linear(64, 3).double()), images),
    }
    try:
        import transformers
    except ImportError:
        return found
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=3
    )
    found["hugging face"] = transformers.ResNetForImageClassification(config), torch.randn(5, 3, 16, 16)
    return found


def test_torch_alone_runs_what_the_model_computes(tmp_path: Path) -> None:
    files = []
    for name, (model, example) in cases().items():
        path = tmp_path / "new" / f"{name}.pt2"
        report = export_program(model, example, path)
        assert (report.batch_size, report.note) == (None, ""), name
        assert [p.batch_size for p in report.parity] == [1, 2, 7, 64] and report.worst < 1e-5, name
        assert (report.file, report.bytes) == (path.name, path.stat().st_size)
        first = next((p for p in model.parameters()), torch.zeros(()))
        batch = example.to(first.dtype) if isinstance(example, Tensor) else example
        args = (batch,) if name not in {"several", "keywords"} else ()
        named = {} if args else batch
        with torch.no_grad():
            expected = plain(model.eval()(*args, **named))
        torch.save((args, named, expected), f"{path}.io")
        files.append(str(path))
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == "alone", ran.stderr[-2000:]


def test_no_sample_and_no_path_of_this_machine_is_in_the_file(tmp_path: Path) -> None:
    mark = torch.full((4, 1, 8, 8), 1234.5)
    export_program(factory().eval(), mark, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert torch.export.load(tmp_path / "model.pt2").example_inputs is None
    for name, content in parts.items():
        assert mark[0, 0, 0].numpy().tobytes() not in content, name
        assert str(Path(uk.__file__).parent).encode() not in content, name
        assert str(Path(torch.__file__).parent).encode() not in content, name


def test_the_model_and_the_callers_example_stay_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, example = factory().train(), torch.randn(3, 1, 8, 8)
    before, given = {name: t.clone() for name, t in model.state_dict().items()}, example.clone()
    export_program(model, example, tmp_path / "model.pt2")
    assert model.training and torch.equal(example, given)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]


def test_what_is_compiled_inside_is_exported_as_it_is_written(tmp_path: Path) -> None:
    model: Any = nn.Sequential(torch.compile(nn.Linear(4, 2), backend="eager"))
    assert export_program(model, torch.randn(3, 4), tmp_path / "model.pt2").worst == 0


class OfThree(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(3, -1) * 2


class OfSize(nn.Module):
    """Does something else for larger batches."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[0] > 4 else x * 2


@pytest.mark.parametrize(
    ("model", "why"),
    [(OfThree(), "its forward makes the batch size a constant"), (OfSize(), "to be <= 4, but got 7")],
)
def test_where_the_batch_size_cannot_be_free_it_is_the_examples(
    tmp_path: Path, model: nn.Module, why: str
) -> None:
    report = export_program(model, torch.randn(3, 4), tmp_path / "model.pt2")
    assert report.batch_size == 3 and why in report.note
    assert [p.batch_size for p in report.parity] == [3]
    assert "batch 3 only (" in report.sentence and "bit for bit" in report.sentence
    run, x = torch.export.load(tmp_path / "model.pt2").module(), torch.randn(3, 4)
    assert torch.equal(run(x), x * 2)


def test_a_batch_size_of_ones_own(tmp_path: Path) -> None:
    model, x = nn.Linear(4, 2).eval(), torch.randn(5, 4)
    report = export_program(model, torch.randn(3, 4), tmp_path / "model.pt2", batch_size=5)
    assert (report.batch_size, report.note, report.parity[0].batch_size) == (5, "", 5)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(tmp_path / "model.pt2").module()(x), model(x))


class OfValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if bool(x.sum() > 0) else x


class OfNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {x}


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.ops.unknot_tests.twice(x)


@pytest.fixture
def foreign_operation() -> Any:
    """An operation that another package would register."""
    library = torch.library.Library("unknot_tests", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
    torch.library.register_fake("unknot_tests::twice", lambda x: x * 2, lib=library)
    yield
    library._destroy()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            OfValues(),
            r"OfValues, which torch.export does not take \(its forward branches on values\)",
        ),
        (OfNumpy(), "model OfNumpy, which torch.export does not take"),
        (Noisy(), "an export that differs from torch by .* at batch 3"),
        (Odd(), "an output of type set: expected tensors in tuples"),
        (Foreign(), "model Foreign with the operation unknot_tests.twice.default"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_torch_alone_cannot_run_is_refused_in_one_line(
    tmp_path: Path, foreign_operation: None, model: nn.Module, says: str
) -> None:
    (tmp_path / "model.pt2").write_text("before")
    with pytest.raises(InputError, match=says) as refusal:
        export_program(model, torch.randn(3, 4), tmp_path / "model.pt2")
    assert "\n" not in str(refusal.value)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("model.pt2", "before")]


def test_a_file_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is judged, not the program in memory: another model's is read in its place."""
    file = io.BytesIO()
    other = torch.export.export(nn.Linear(4, 2), (torch.randn(3, 4),))
    torch.export.save(other, file)
    monkeypatch.setattr(program, "_traced", lambda *_: file.getvalue())
    with pytest.raises(InputError, match="differs from torch by"):
        export_program(nn.Linear(4, 2), torch.randn(3, 4), tmp_path / "model.pt2")
    assert not any(tmp_path.iterdir())
    report = export_program(nn.Linear(4, 2), torch.randn(3, 4), tmp_path / "model.pt2", tolerance=1e9)
    assert report.worst > 1e-4 and report.batch_size == 3


def test_weights_of_nan_prove_nothing(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    nn.init.constant_(model.weight, float("nan"))
    with pytest.raises(InputError, match="no finite number .* check its weights"):
        export_program(model, torch.randn(3, 4), tmp_path / "model.pt2")


def test_a_report_comes_back_from_its_record(tmp_path: Path) -> None:
    report = export_program(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "model.pt2")
    assert typed(ProgramReport, asdict(report)) == report
    assert "ProgramReport: model.pt2" in repr(report) and "any batch size" in repr(report)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "model.pt"}, "ends in .pt2; pass .*model.pt2"),
        ({"path": "."}, "which is a folder: expected a file to write"),
        ({"tolerance": 0.0}, "tolerance = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 2.5}, "batch_size = 2.5"),
        ({"seed": -1}, "seed = -1"),
        ({"example": torch.empty(0, 3)}, "at least one sample"),
        ({"example": "x"}, "a batch of type str"),
        ({"example": torch.randn(2, 4)}, r"a batch of shape \(2, 4\)"),
        ({"model": "net"}, "a model of type str"),
    ],
)
def test_bad_input(tmp_path: Path, change: dict[str, object], says: str) -> None:
    given = {"model": nn.Linear(3, 2), "example": torch.randn(4, 3), "path": "model.pt2"} | change
    given["path"] = tmp_path / str(given["path"])
    with pytest.raises(InputError, match=says):
        export_program(**given)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.nets import factory
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.cost import compare_cost
from unknot.nets.models import cnn
from unknot.pruning.artifact import load_pruned, save_pruned
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.removal import PruningPlan, plan_pruning, prune
from unknot.pruning.scoring.scores import score_filters


def test_round_trip_computes_the_same(saved: tuple[Path, nn.Module, PruningPlan]) -> None:
    folder, slim, _ = saved
    inputs = torch.randn(5, 1, 8, 8)
    loaded = load_pruned(factory, folder)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), slim(inputs))
    assert not loaded.training
    assert type(loaded) is type(slim)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "model.json", "plan.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_program_computes_what_the_model_computes(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    folder, slim, plan = saved
    found = save_pruned(slim, plan, folder)
    inputs = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        outputs = torch.export.load(folder / "program.pt2").module()(inputs)
        torch.testing.assert_close(outputs, slim(inputs))
        assert torch.equal(load_pruned(factory, folder)(inputs), slim(inputs))
    assert found.program is not None and found.program.batch_size is None and found.note == ""
    assert found.files == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert found.bytes == sum(found.files.values()) and found.program.sentence in repr(found)
    assert f"{found.program.sentence}." in (folder / "README.md").read_text()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_folder_of_an_earlier_version_loads_and_is_replaced(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    folder, slim, plan = saved
    assert not (folder / "program.pt2").exists()
    assert "program.pt2" in save_pruned(slim, replace(plan, inputs=[]), folder).files
    without = save_pruned(slim, plan, folder, program=False)
    assert without.program is None and without.note == "There is no program.pt2: it was not asked for."
    assert not (folder / "program.pt2").exists()
    assert without.note in (folder / "README.md").read_text()
    with pytest.raises(InputError, match="program of type int"):
        save_pruned(slim, plan, folder, program=1)  # type: ignore[arg-type]


class Choosing(nn.Module):
    """What no program can hold: it looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.net = factory()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) if bool(x.isfinite().all()) else self.net(x.nan_to_num())


def test_a_model_that_cannot_be_a_program_is_saved_and_the_card_says_why(tmp_path: Path) -> None:
    model = Choosing().eval()
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model, plan)
    found = save_pruned(slim, plan, tmp_path / "m")
    assert found.program is None and "its forward branches on values" in found.note
    assert found.note in (tmp_path / "m" / "README.md").read_text() and found.note in repr(found)
    inputs = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_pruned(Choosing, tmp_path / "m")(inputs), slim(inputs))
    assert sorted(found.files) == ["README.md", "model.json", "plan.json", "weights.safetensors"]


def test_a_full_disk_while_the_program_is_written_is_no_refusal_of_the_model(
    saved: tuple[Path, nn.Module, PruningPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, slim, plan = saved
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.suffix == ".pt2":
            raise OSError("no space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_pruned(slim, plan, folder.parent / "other")
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_shared_weights_survive(tmp_path: Path) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = factory()
            self.alias = self.net.conv1  # type: ignore[union-attr]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    model = First().eval()
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model, plan)
    save_pruned(slim, plan, tmp_path / "m")
    inputs = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_pruned(First, tmp_path / "m")(inputs), slim(inputs))


def test_saving_again_replaces_and_saving_over_other_files_is_refused(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    folder, slim, plan = saved
    save_pruned(slim, plan, folder)
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        save_pruned(slim, plan, folder)
    assert (folder / "precious.txt").read_text() == "mine"


def test_an_interrupted_save_leaves_nothing(
    saved: tuple[Path, nn.Module, PruningPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, slim, plan = saved

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(PruningPlan, "to_json", fail)
    with pytest.raises(OSError, match="no space"):
        save_pruned(slim, plan, folder.parent / "other")
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.json", "plan.json", "weights.safetensors"])
def test_missing_and_truncated_files_are_named(
    saved: tuple[Path, nn.Module, PruningPlan], name: str
) -> None:
    folder = saved[0]
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"without {name}"):
        load_pruned(factory, folder)
    if name != "model.json":  # which is for people
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=name):
            load_pruned(factory, folder)


def test_another_factory_is_refused(saved: tuple[Path, nn.Module, PruningPlan]) -> None:
    with pytest.raises(InputError, match="the model that was planned for"):
        load_pruned(lambda: cnn(1, 3, widths=(9, 9)), saved[0])
    with pytest.raises(InputError, match=r"saved tensor out\."):
        load_pruned(lambda: cnn(1, 7, widths=(6, 8), batch_norm=True), saved[0])


def test_the_card_tells_versions_and_shapes(saved: tuple[Path, nn.Module, PruningPlan]) -> None:
    card = json.loads((saved[0] / "model.json").read_text())
    assert card["versions"]["torch"] == torch.__version__
    assert card["shapes"]["conv1.weight"] == [3, 1, 3, 3]
    assert card["class"] == "torch.nn.modules.container.Sequential"


def test_the_readme_tells_what_went_what_it_cost_and_how_to_load_it(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    folder, _, plan = saved
    text = (folder / "README.md").read_text()
    assert "7 of 14 filters removed by l1 (50.0% of 14 filters, 50.0% asked)" in text
    assert "| conv1 | 6 | 3 |  |" in text and "uk.load_pruned(factory" in text
    assert "What it costs" not in text  # it was not told
    held = replace(plan, kept_layers={"conv2": "a | b\nc"}, removed={"conv1": plan.removed["conv1"]})
    wider = prune(factory(), held)
    costs = compare_cost(factory(), wider, torch.randn(4, 1, 8, 8), repeats=1)
    outcome = PruningOutcome(0.9, 0.8, costs.before, costs.after, 14, 7, verdict="It is | slower.")
    save_pruned(wider, held, folder, outcome=outcome)
    text = (folder / "README.md").read_text()
    assert "| accuracy | 90.00% | 80.00% |" in text and "| latency at batch 64 in ms" in text
    assert f"| MACs per sample | {costs.before.macs:,} | {costs.after.macs:,} |" in text
    assert "| conv2 | 8 | 8 | a \\| b c |" in text
    assert text.rstrip().endswith("It is | slower.")


def test_nothing_is_unpickled(
    saved: tuple[Path, nn.Module, PruningPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load_pruned(factory, saved[0])


def test_weights_alone_go_through_torch_load_weights_only(
    saved: tuple[Path, nn.Module, PruningPlan], tmp_path: Path
) -> None:
    _, slim, plan = saved
    torch.save(slim.state_dict(), tmp_path / "weights.pt")
    again = prune(factory(), plan).eval()
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    inputs = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(again(inputs), slim(inputs))


class Named(nn.Module):
    """A class of the user's, with a shortcut, whose channels are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.out((x + self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_class_and_precision_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Named().eval()
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model, plan).to(dtype)
    save_pruned(slim, plan, tmp_path / "m")
    loaded = load_pruned(Named, tmp_path / "m")
    assert type(loaded) is Named
    inputs = torch.randn(2, 1, 8, 8, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), slim(inputs)) and loaded(inputs).dtype is dtype
    assert "| stem | 6 | 3 | channels shared with conv |" in (tmp_path / "m" / "README.md").read_text()

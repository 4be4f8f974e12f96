from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from unknot.artifact import load_pruned, save_pruned
from unknot.errors import InputError
from unknot.models import cnn
from unknot.pruning import PruningPlan, plan_pruning, prune
from unknot.scoring import score_filters


def factory() -> nn.Module:
    return cnn(1, 3, widths=(6, 8), batch_norm=True)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, PruningPlan]:
    torch.manual_seed(0)
    model = factory()
    model(torch.randn(32, 1, 8, 8))  # batch norm statistics that are not the defaults
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model.eval(), plan)
    save_pruned(slim, plan, tmp_path / "model")
    return tmp_path / "model", slim, plan


def test_round_trip_computes_the_same(saved: tuple[Path, nn.Module, PruningPlan]) -> None:
    folder, slim, _ = saved
    inputs = torch.randn(5, 1, 8, 8)
    loaded = load_pruned(factory, folder)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), slim(inputs))
    assert not loaded.training
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "plan.json", "weights.safetensors"]


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

"""The writers against real event files and a real MLflow store, by the code of docs/howto."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import needs_checkout

import unknot as uk
from unknot.integrations.scalars import named_scalars
from unknot.profiles.profile import EpochAccuracy

SCALE = uk.Scale(k=8, hops=2)
PAGES = Path(__file__).parents[2] / "docs" / "howto"


def run_the_page(name: str) -> uk.profiles.TopologyProfile:
    """Run the short example of a page, not the one from examples/; what its Monitor recorded."""
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{name}.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "--8<--" not in block)
    shape = uk.make_shape("rings", pairs=1, n=200, seed=0)
    points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "uk": uk,
        "model": uk.nets.mlp(3, 2, depth=2),
        "loader": [(points, labels)],
        "train_one_epoch": lambda model: uk.nets.train(model, points, labels, epochs=1),
    }
    exec(code, names)
    profile = names["monitor"].profile
    assert isinstance(profile, uk.profiles.TopologyProfile) and profile.epochs() == [0, 1, 2, 3]
    return profile


@pytest.fixture(scope="module")
def model_and_data() -> tuple[Any, Any]:
    shape = uk.make_shape("rings", pairs=1, n=120, seed=0)
    net = torch.nn.Sequential(torch.nn.Conv1d(1, 3, 2), torch.nn.ReLU(), torch.nn.Flatten())
    return net, [(torch.from_numpy(shape.points).float()[:, None], torch.from_numpy(shape.labels))]


def test_scalars_name_every_number_once(model_and_data: tuple[Any, Any]) -> None:
    def numbers(**settings: Any) -> dict[str, float]:
        profile = uk.measure(*model_and_data, scale=SCALE, layers="0", **settings)
        (found,) = named_scalars(replace(profile, accuracy=(EpochAccuracy(None, 0.5, 0.25),))).values()
        rows = [row for row in profile.rows if row.layer == "0"]
        assert found["topology/0/complexity"] == sum(row.b0 + row.b1 + (row.b2 or 0) for row in rows)
        assert found["topology/probe_accuracy"] == 0.5 and found["topology/given_accuracy"] == 0.25
        return {name: value for name, value in found.items() if name.startswith("topology/0/b")}

    assert set(numbers()) == {f"topology/0/b{d}/{label}" for d in (0, 1) for label in (0, 1)}
    assert set(numbers(by="layer", max_dim=2)) == {f"topology/0/b{d}/all" for d in (0, 1, 2)}
    for by in ("layer", "class"):
        profile = uk.measure(*model_and_data, scale=SCALE, layers="0", by=by, nulls=1)
        (found,) = named_scalars(profile).values()
        for row in profile.untangling[:2]:  # of the input and of layer 0, not of the random copy
            for name in ("islands", "tangle", "purity"):
                assert found.pop(f"topology/{row.layer}/{name}") == getattr(row, name)
        assert not [name for name in found if name.endswith(("islands", "tangle", "purity"))]
    assert set(numbers(by="filter")) == {"topology/0/b0/filters", "topology/0/b1/filters"}
    net, data = model_and_data
    twice = torch.nn.Sequential(net[1], net[1], torch.nn.Flatten())
    profile = uk.measure(twice, data, scale=SCALE, layers="0", by="layer")
    assert {"topology/0/complexity", "topology/0-1/complexity"} < set(named_scalars(profile)[0])


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorboard")

    @staticmethod
    def read(folder: Path) -> dict[int, dict[str, float]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        found: dict[int, dict[str, float]] = {}
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                found.setdefault(event.step, {})[tag] = event.value
        return found

    @needs_checkout
    def test_event_file_holds_the_profile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        before = threading.active_count()
        profile = run_the_page("tensorboard")
        assert threading.active_count() <= before  # those of other tests may end meanwhile
        found, expected = self.read(tmp_path / "runs" / "rings"), named_scalars(profile)
        assert set(found) == {0, 1, 2, 3} == set(expected)
        for epoch, numbers in expected.items():
            assert found[epoch] == pytest.approx(numbers)
        assert found[0]["topology/act1/b0/1"] == next(
            row.b0 for row in profile.rows if (row.epoch, row.layer, row.label) == (0, "act1", 1)
        )

    def test_a_writer_of_the_user_stays_open(self, tmp_path: Path, model_and_data: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        from unknot.integrations.tensorboard import TensorBoardWriter

        profile = uk.measure(*model_and_data, scale=SCALE, layers="0")
        with SummaryWriter(str(tmp_path)) as mine:
            with TensorBoardWriter(mine) as writer:
                writer(profile)
            assert self.read(tmp_path)[0] == pytest.approx(
                named_scalars(profile)[0]
            )  # on the disk already
            mine.add_scalar("loss", 1.0, 7)
        assert self.read(tmp_path)[7] == {"loss": 1.0}


class TestMlflow:
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        # Nothing leaves the machine, and the store is a folder: a database needs more than mlflow-skinny.
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_ALLOW_FILE_STORE"):
            monkeypatch.setenv(name, "true")
        monkeypatch.chdir(tmp_path)
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri((tmp_path / "store").as_uri())
        yield
        mlflow.set_tracking_uri(None)

    @needs_checkout
    def test_run_holds_the_profile(self, tmp_path: Path) -> None:
        import mlflow

        before = threading.active_count()
        profile = run_the_page("mlflow")
        assert threading.active_count() <= before  # those of other tests may end meanwhile
        client = mlflow.MlflowClient()
        (run,) = client.search_runs(["0"])
        for name in named_scalars(profile)[0]:
            history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            expected = {epoch: numbers[name] for epoch, numbers in named_scalars(profile).items()}
            assert history == pytest.approx(expected), name
        assert profile.scale is not None
        assert run.data.params["topology/k"] == str(profile.scale.k)
        assert run.data.params["topology/layers"] == "['act*']"
        assert "topology/radius" not in run.data.params
        path = client.download_artifacts(run.info.run_id, "profile.json", str(tmp_path))
        assert uk.profiles.read_profile(path) == profile
        assert mlflow.active_run() is None
        assert sorted(p.name for p in tmp_path.iterdir()) == ["profile.json", "store"]

    def test_names_numbers_and_resumed_runs(self, model_and_data: Any) -> None:
        import mlflow

        from unknot.integrations.mlflow import MlflowWriter

        profile = uk.measure(*model_and_data, scale=SCALE, layers="0")
        # More metrics than a batch takes, under names that MLflow refuses.
        rows = tuple(replace(row, layer=f"block<{i}>é") for i in range(300) for row in profile.rows[-2:])
        run_id = mlflow.MlflowClient().create_run("0").info.run_id
        for _ in range(2):  # the second logs the same parameters to the same run
            MlflowWriter(run_id=run_id)(replace(profile, rows=rows))
        metrics = mlflow.get_run(run_id).data.metrics
        untangled = 2 * 3  # islands, tangle and purity of the input and the layer
        assert len(metrics) == 300 * 5 + untangled + 1 and "topology/block_0_é/b0/1" in metrics

    def test_without_a_run_the_remedy_is_named(self, model_and_data: Any) -> None:
        from unknot.integrations.mlflow import MlflowWriter

        with pytest.raises(uk.InputError, match="call mlflow.start_run"):
            MlflowWriter()(uk.measure(*model_and_data, scale=SCALE, layers="0"))


@pytest.mark.parametrize(
    ("module", "imported"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, imported: str
) -> None:
    for name in (imported, f"unknot.integrations.{module}"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    says = rf"^package {module} is missing: .* pip install 'unknot\[trackers\]'$"
    with pytest.raises(uk.InputError, match=says) as caught:
        import_module(f"unknot.integrations.{module}")
    assert "\n" not in str(caught.value)

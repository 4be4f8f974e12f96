from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.models import mlp
from unknot.nets.training import train
from unknot.profiles.journal import joined, read_profile, write_profile
from unknot.profiles.meter import measure
from unknot.profiles.monitor import Monitor
from unknot.profiles.profile import TopologyProfile
from unknot.topology.scale import Scale
from unknot.topology.shapes import make_shape

SCALE = Scale(k=8, hops=2)
Data = list[tuple[torch.Tensor, torch.Tensor]]


def rings() -> Data:
    shape = make_shape("rings", pairs=3, n=600, seed=0)
    return [(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))]


def shake(model: nn.Module, seed: int) -> None:
    """Stands for an epoch of training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def watch(
    path: Path | None, epochs: range, *, resume: bool = False, **settings: object
) -> TopologyProfile:
    torch.manual_seed(0)
    model = mlp(3, 2, depth=2)
    for epoch in range(1, epochs.start):
        shake(model, epoch)
    with Monitor(
        model,
        rings(),
        out=path,
        resume=resume,
        layers="act*",
        scale=SCALE,
        max_points=300,
        **settings,  # type: ignore[arg-type]
    ) as monitor:
        for epoch in epochs:
            shake(model, epoch)
            monitor.record(epoch)
    return monitor.profile


def test_background_and_foreground_agree_with_measuring_at_the_time() -> None:
    torch.manual_seed(0)
    model = mlp(3, 2, depth=2)
    expected = []
    for epoch in range(4):
        if epoch:
            shake(model, epoch)
        rows = measure(model, rings(), layers="act*", scale=SCALE, max_points=300).rows
        expected += [(epoch, r.layer, r.label, r.b0, r.b1, r.n_points) for r in rows]
    for background in (True, False):
        profile = watch(None, range(1, 4), background=background)
        assert [(r.epoch, r.layer, r.label, r.b0, r.b1, r.n_points) for r in profile.rows] == expected
        assert profile.epochs() == [0, 1, 2, 3]


def test_accuracy_on_the_probe_and_the_given_one_stand_beside_the_numbers() -> None:
    torch.manual_seed(0)
    model, loader = mlp(3, 2, depth=1), rings()
    points, labels = loader[0]
    with Monitor(model, loader, layers="act1", scale=SCALE, max_points=len(points)) as monitor:
        train(model, points, labels, epochs=3)
        monitor.record(3, accuracy=0.5)
    before, after = monitor.profile.accuracy
    with torch.no_grad():
        share = float((model(points).argmax(1) == labels).float().mean())
    assert (before.epoch, before.given) == (0, None)
    assert (after.epoch, after.given) == (3, 0.5)
    assert after.probe == pytest.approx(share)


@pytest.mark.parametrize("accuracy", [-0.1, 1.5, 93, float("nan"), "0.5", "high", torch.ones(2), [0.5]])
def test_an_accuracy_that_is_none_is_refused_in_one_line(accuracy: Any) -> None:
    with Monitor(mlp(3, 2, depth=1), rings(), layers="act1", scale=SCALE, background=False) as monitor:
        with pytest.raises(InputError, match=r"^accuracy = .+: expected a number in \[0, 1\]") as caught:
            monitor.record(1, accuracy)
        assert "\n" not in str(caught.value)
        assert monitor.profile.epochs() == [0]


def test_scalars_of_torch_and_numpy_are_numbers(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    options: dict[str, Any] = {"layers": "act1", "scale": SCALE, "out": out, "background": False}
    with Monitor(mlp(3, 2, depth=1), rings(), **options) as monitor:
        monitor.record(torch.tensor(1), torch.tensor(0.5))  # type: ignore[arg-type]
        monitor.record(np.int64(2), np.float32(0.25))  # type: ignore[arg-type]
    assert [(a.epoch, a.given) for a in read_profile(out).accuracy] == [(0, None), (1, 0.5), (2, 0.25)]
    assert [type(e) for e in monitor.profile.epochs()] == [int] * 3


def test_training_is_the_same_with_and_without_a_monitor() -> None:
    def run(watched: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model, loader = nn.Sequential(mlp(3, 8, depth=1), nn.Dropout(0.5), nn.Linear(8, 2)), rings()
        if watched:
            with Monitor(model, loader, scale=SCALE, max_points=100) as monitor:
                train(model, *loader[0], epochs=2, on_epoch=monitor.record)
        else:
            train(model, *loader[0], epochs=2)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(run(True), run(False))


@pytest.mark.parametrize("background", [True, False])
def test_nan_names_layer_and_epoch(background: bool) -> None:
    model = mlp(3, 2, depth=2)
    monitor = Monitor(model, rings(), scale=SCALE, background=background)
    monitor.record(0)
    nn.init.constant_(model.linear2.weight, float("nan"))  # type: ignore[arg-type, union-attr]
    with pytest.raises(InputError, match="layer linear2 in epoch 1 with NaN or infinity"):  # noqa: PT012
        monitor.record(1)
        monitor.close()


class Counted(nn.Module):
    """Counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.runs = mlp(3, 2, depth=2), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.net(x)  # type: ignore[no-any-return]


def test_weights_of_nan_are_named_before_the_model_is_measured() -> None:
    model = Counted()
    monitor = Monitor(model, rings(), scale=SCALE, background=False)
    monitor.record(0)
    model.runs = 0
    with torch.no_grad():
        model.net.linear2.weight[0, 0] = torch.nan  # type: ignore[union-attr, index]
    says = "layer net.linear2 in epoch 1 with NaN or infinity in its weights: .*learning rate"
    with pytest.raises(InputError, match=says):
        monitor.record(1)
    assert model.runs == 0
    with pytest.raises(InputError, match="layer net.linear2 with NaN or infinity in its weights"):
        measure(model, rings())  # with a scale to find, which takes longest
    assert measure(model, rings(), layers="net.linear1", scale=SCALE).rows  # which comes before


def test_the_training_error_is_the_one_that_is_seen() -> None:
    model = mlp(3, 2, depth=1)
    with pytest.raises(ZeroDivisionError), Monitor(model, rings(), scale=SCALE) as monitor:  # noqa: PT012
        # Its sums are infinite, which is seen in the background; NaN would be seen in the weights.
        nn.init.constant_(model.linear1.weight, 3e38)  # type: ignore[arg-type, union-attr]
        monitor.record(1)
        raise ZeroDivisionError
    assert monitor._worker is None


@pytest.mark.parametrize("known", [False, True])
def test_the_process_knows_no_torch_and_its_death_loses_nothing(known: bool) -> None:
    model = mlp(3, 2, depth=2)
    with Monitor(model, rings(), scale=SCALE, max_points=100) as monitor:
        torch_there = monitor._worker.submit(eval, "'torch' in __import__('sys').modules")
        assert not torch_there.result()
        (process,) = monitor._worker._processes.values()
        last = monitor._worker.submit(time.sleep, 60)
        os.kill(process.pid, signal.SIGKILL)
        if known:  # the executor has seen it, and takes no more
            with pytest.raises(BrokenProcessPool):
                last.result()
        for epoch in (1, 2, 3):
            monitor.record(epoch)
    assert monitor.profile.epochs() == [0, 1, 2, 3]
    expected = measure(model, rings(), scale=SCALE, max_points=100)
    for epoch in range(4):
        rows = [row for row in monitor.profile.rows if row.epoch == epoch]
        assert [replace(row, epoch=None) for row in rows] == list(expected.rows)


def test_listeners_get_each_epoch_in_order() -> None:
    seen: list[tuple[int | None, int, threading.Thread]] = []
    watch(
        None,
        range(1, 5),
        every=2,
        on_record=[lambda p: seen.append((p.accuracy[0].epoch, len(p.rows), threading.current_thread()))],
    )
    assert [(epoch, rows) for epoch, rows, _ in seen] == [(0, 6), (2, 6), (4, 6)]
    assert {thread for *_, thread in seen} == {threading.main_thread()}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_written_is_what_was_measured(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    profile = watch(path, range(1, 3), views=10, sensitivity=True, repeats=3)
    assert read_profile(path) == profile
    assert [v.epoch for v in profile.views if v.layer == "input"] == [0, 1, 2]
    assert len(profile.views[0].points) == 10 and profile.sensitivity is not None
    assert all(row.intervals is not None for row in profile.rows)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    watch(path, range(1, 3))
    resumed = watch(path, range(2, 5), resume=True)  # epoch 2 again, as from an older checkpoint
    assert resumed.rows == watch(None, range(1, 5)).rows
    assert read_profile(path) == resumed


def test_an_existing_file_is_not_overwritten_and_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    watch(path, range(1, 2))
    before = path.read_bytes()
    with pytest.raises(InputError, match="pass resume=True"):
        watch(path, range(1, 2))
    with pytest.raises(InputError, match="as before"):
        watch(path, range(1, 2), resume=True, by="layer")
    assert path.read_bytes() == before


KILLED = """
import os, signal, sys, torch, unknot as uk
torch.manual_seed(0)
torch.set_num_threads(1)
shape = uk.make_shape("rings", pairs=3, n=600, seed=0)
probe = [(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))]
model = uk.nets.mlp(3, 2, depth=2)
scale = uk.Scale(k=8, hops=2)
with uk.Monitor(model, probe, out=sys.argv[1], layers="act*", scale=scale, max_points=300,
                background=False) as monitor:
    for epoch in range(1, 4):
        monitor.record(epoch)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_keeps_every_epoch_that_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_profile(path).epochs() == [0, 1, 2, 3]


def test_a_torn_last_epoch_is_dropped_and_can_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = watch(path, range(1, 3))
    text = path.read_bytes()
    for cut in (len(text) - 1, len(text) - 40, text.rindex(b'"record":"row"') + 20):
        path.write_bytes(text[:cut])
        assert read_profile(path).epochs() == [0, 1] if cut < len(text) - 1 else [0, 1, 2]
        if cut < len(text) - 1:
            assert watch(path, range(2, 3), resume=True).rows == whole.rows
            assert read_profile(path).rows == whole.rows


def test_a_row_that_is_missing_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    watch(path, range(1, 3))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(InputError, match="epoch 0 lacks rows"):
        read_profile(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_of_the_system_and_training_can_see_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    monitor = Monitor(mlp(3, 2, depth=1), rings(), out=path, scale=SCALE, background=False)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        monitor.record(0)


@pytest.mark.parametrize("name", ["run.csv", "run", "run.json"])
def test_other_suffixes_are_refused_before_anything_is_measured(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"ends in \.jsonl or \.parquet"):
        Monitor(mlp(3, 2), rings(), out=tmp_path / name, scale=SCALE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_profile_back(tmp_path: Path, suffix: str) -> None:
    profile = measure(mlp(3, 2, depth=1), rings(), views=5, sensitivity=True, max_dim=2)
    write_profile(tmp_path / f"p{suffix}", profile)
    assert read_profile(tmp_path / f"p{suffix}") == profile


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".json", ".txt"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"PAR1", bytes(range(180, 220)), b'{"unknot": "plan"}\n']
)
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file .*p\.") as found:
        read_profile(path)
    assert "\n" not in str(found.value)


def test_the_table_can_be_read_by_anything_that_reads_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    profile = measure(mlp(3, 2, depth=1), rings(), scale=SCALE)
    write_profile(tmp_path / "p.parquet", profile)
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.column("b1").to_pylist() == [row.b1 for row in profile.rows]
    assert set(table.column("k").to_pylist()) == {8}


def test_lines_are_json_of_which_rows_can_be_picked(tmp_path: Path) -> None:
    profile = watch(tmp_path / "run.jsonl", range(1, 2))
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["b0"] for line in lines if line["record"] == "row"] == [r.b0 for r in profile.rows]


def test_profiles_of_different_runs_do_not_join() -> None:
    one = measure(mlp(3, 2, depth=1), rings(), scale=SCALE)
    other = measure(mlp(3, 2, depth=1), rings(), scale=Scale(k=9, hops=2))
    with pytest.raises(InputError, match="k=9"):
        joined([one, other])


def test_pictures_turn_only_by_what_training_changed() -> None:
    profile = watch(None, range(1, 2), views=50)
    first, second = (np.array(v.points) for v in profile.views if v.layer == "input")
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_a_monitor_without_with_says_what_is_missing() -> None:
    monitor = Monitor(mlp(3, 2, depth=1), rings(), scale=SCALE, background=False)
    with pytest.raises(
        InputError, match=r"^epoch 1 of a Monitor outside a with block[^\n]*`with uk.Monitor"
    ):
        monitor.record(1)
    assert not monitor.profile.rows
    monitor.record(0)
    monitor.record(1)
    assert monitor.profile.epochs() == [0, 1]

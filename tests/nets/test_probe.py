from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from unknot.core.errors import InputError
from unknot.nets.probe import Probe, probe_samples


def test_probe_is_stratified_seeded_and_bounded() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([80, 19, 1]))
    inputs = torch.arange(100.0)[:, None]
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=7)
    one, again = (probe_samples(loader, max_points=20, seed=1) for _ in range(2))
    other = probe_samples(loader, max_points=20, seed=2)
    assert isinstance(one.inputs, torch.Tensor) and one.labels is not None
    assert torch.equal(one.inputs, again.inputs)  # type: ignore[arg-type]
    assert not torch.equal(one.inputs, other.inputs)  # type: ignore[arg-type]
    assert [int((one.labels == c).sum()) for c in range(3)] == [16, 3, 1]
    assert torch.equal(labels[one.inputs[:, 0].long()], one.labels)
    assert (one.inputs[1:] > one.inputs[:-1]).all()  # the loader's order


def test_a_long_loader_sorted_by_class_keeps_shares_and_the_rare_class() -> None:
    labels = torch.tensor([0] * 6000 + [1] * 1 + [2] * 3999)
    loader = DataLoader(TensorDataset(torch.arange(10_000.0)[:, None], labels), batch_size=100)
    counts = torch.stack([
        torch.bincount(probe.labels, minlength=3)
        for probe in (probe_samples(loader, max_points=100, seed=seed) for seed in range(5))
        if probe.labels is not None
    ])  # fmt: skip
    assert (counts[:, 1] == 1).all()
    assert ((counts[:, 0] - 60).abs() <= 8).all() and ((counts[:, 2] - 40).abs() <= 8).all()


def test_every_sample_is_as_likely_as_any_other() -> None:
    hits = torch.zeros(400)
    for seed in range(300):
        found = probe_samples([torch.arange(400.0)[:, None]], max_points=20, seed=seed).inputs
        hits[found[:, 0].long()] += 1  # type: ignore[call-overload]
    # 15 expected each; the four quarters of the loader are 1,500 each, 37 their standard deviation.
    assert hits.sum() == 300 * 20
    assert ((hits.view(4, 100).sum(1) - 1500).abs() < 5 * 37).all()


def test_probe_takes_everything_when_there_is_room() -> None:
    probe = probe_samples(torch.arange(6.0)[:, None], max_points=10)
    assert probe.inputs[:, 0].tolist() == list(range(6))  # type: ignore[call-overload]
    assert probe.labels is None and len(probe) == 6


def test_dict_batches_give_keyword_arguments_and_labels() -> None:
    batch = {"input_ids": torch.arange(6).view(3, 2), "text": ["a", "b", "c"], "labels": torch.arange(3)}
    probe = probe_samples([batch], max_points=10)
    assert isinstance(probe.inputs, dict) and list(probe.inputs) == ["input_ids"]
    assert probe.labels is not None and probe.labels.tolist() == [0, 1, 2]
    assert probe.points() is None
    assert [len(next(iter(b.values()))) for b in probe.batches(2)] == [2, 1]  # type: ignore[union-attr]


def test_nested_inputs_give_positional_arguments() -> None:
    pair = (torch.ones(4, 2), torch.zeros(4, 3))
    probe = probe_samples([(pair, torch.tensor([[0], [1], [0], [1]]))], max_points=10)
    assert isinstance(probe.inputs, tuple) and [t.shape for t in probe.inputs] == [(4, 2), (4, 3)]
    assert probe.labels is not None and probe.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("target", [torch.rand(5), torch.eye(5), torch.zeros(5, 4, 4)])
def test_targets_that_are_no_classes_are_left_aside(target: torch.Tensor) -> None:
    assert probe_samples([(torch.ones(5, 2), target)], max_points=10).labels is None


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        ([], "without samples"),
        ([{"x": "text"}], "type dict"),
        ([object()], "type object"),
        (3, "type int"),
        ({"x": torch.ones(2)}, "type dict"),
        ([((torch.ones(2, 1), torch.ones(3, 1)), torch.zeros(2))], "2, 3 rows"),
        ([torch.ones(2, 5), torch.ones(2, 7)], r"shapes \(5,\) and \(7,\)"),
        ([torch.tensor(1.0)], "type Tensor"),
    ],
)
def test_bad_loaders(loader: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        probe_samples(loader)  # type: ignore[arg-type]


def test_at_least_two_points_are_asked_for() -> None:
    with pytest.raises(InputError, match="max_points = 1"):
        probe_samples([torch.ones(5, 2)], max_points=1)


def test_probe_of_several_inputs_finds_the_points() -> None:
    tokens, images = torch.zeros(3, 4, dtype=torch.long), torch.ones(3, 1, 2, 2)
    assert Probe((tokens, images)).points() is images


def test_drawing_leaves_the_random_states_alone() -> None:
    loader = DataLoader(TensorDataset(torch.randn(30, 2)), batch_size=5, shuffle=True)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    probe_samples(loader, max_points=10)
    assert torch.equal(torch.rand(3), expected)

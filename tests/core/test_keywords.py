"""Options that are declared once are plain keywords to those who read a signature or call help()."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_type_hints

import pytest

import unknot as uk
from unknot.profiles import options
from unknot.profiles.options import MeasureOptions, MonitorOptions
from unknot.pruning.recipe import Recipe
from unknot.topology import rules


def takers() -> list[Any]:
    found: list[Any] = [(uk.measure, MeasureOptions), (uk.Monitor, MonitorOptions)]
    for name in ("lightning", "transformers"):
        try:
            module = import_module(f"unknot.integrations.{name}")
        except uk.InputError:  # its package is not installed
            continue
        found.append((module.TopologyCallback, MonitorOptions))
    return found


@pytest.mark.parametrize(("taker", "kind"), takers(), ids=lambda x: f"{x.__module__}.{x.__name__}")
def test_every_option_is_listed_and_explained(taker: Any, kind: Any) -> None:
    parameters = inspect.signature(taker).parameters
    for field in fields(kind):
        assert parameters[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[field.name].default == field.default
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    section = taker.__doc__.split("\nArgs:\n")[1].split("\n\n")[0] + "\n"
    explained = re.findall(r"^    (\w+): \S", section, flags=re.MULTILINE)
    assert sorted(explained) == sorted(set(parameters) - {"self"})
    assert "options" not in explained


@pytest.mark.parametrize("name", ["Measure", "Monitor"])
def test_type_checkers_know_the_same_keywords(name: str) -> None:
    declared, keywords = getattr(options, f"{name}Options"), getattr(options, f"{name}Keywords")
    hints = get_type_hints(declared)
    assert get_type_hints(keywords) == hints
    assert list(hints) == [field.name for field in fields(declared)]


@pytest.mark.parametrize(("taker", "kind"), takers(), ids=lambda x: f"{x.__module__}.{x.__name__}")
def test_a_keyword_that_does_not_exist_is_named(taker: Any, kind: Any) -> None:
    with pytest.raises(TypeError) as caught:
        taker(None, *[None] * (taker.__name__ != "TopologyCallback"), everi=2)
    assert str(caught.value) == f"{taker.__name__}() got an unexpected keyword argument 'everi': " + (
        "did you mean 'every'?"
        if "every" in inspect.signature(taker).parameters
        else f"help({taker.__name__}) lists them"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"every": 0}, "every = 0: expected a whole number >= 1"),
        ({"by": "channel"}, "by = 'channel'"),
        ({"scale": 3}, "scale = 3"),
        ({"max_dim": 0}, "max_dim = 0: expected 1 or 2"),
        ({"max_dim": 3}, "max_dim = 3: expected 1 or 2"),
        ({"seed": -1}, "seed = -1"),
        ({"repeats": 0.5}, "repeats = 0.5"),
        ({"views": -2}, "views = -2"),
    ],
)
def test_an_option_is_checked_when_it_is_given(change: Any, says: str) -> None:
    with pytest.raises(uk.InputError, match=says):
        MonitorOptions(**change)


def test_iterables_are_read_once() -> None:
    chosen = MonitorOptions(layers=(name for name in ("a*", "b")), on_record=iter([print]))
    assert chosen.layers == ("a*", "b") and chosen.on_record == (print,)


@pytest.mark.parametrize(
    "function",
    [
        uk.persistence,
        uk.topology.load_points,
        uk.topology.sensitivity,
        uk.topology.NeighborGraph.from_edges,
        uk.topology.Scale.lowered_to,
        rules.KnnRule.count,
        rules.RipsRule.count,
        uk.nets.capture,
        uk.nets.measure_accuracy,
    ],
    ids=lambda function: function.__qualname__,
)
def test_every_parameter_is_explained(function: Any) -> None:
    section = inspect.getdoc(function).split("Args:\n")[1].split("\n\n")[0] + "\n"  # type: ignore[union-attr]
    explained = re.findall(r"^    (\w+): \S", section, flags=re.MULTILINE)
    assert explained == [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("room", ["activations", "pruning", "study"])
def test_fields_and_methods_of_public_classes_are_explained(room: str) -> None:
    module = import_module(f"unknot.{room}")
    classes = [c for c in (getattr(module, name) for name in module.__all__) if inspect.isclass(c)]
    assert len(classes) > 3
    for kind in classes:
        assert kind.__doc__
        if is_dataclass(kind) and kind is not Recipe:  # whose fields are the keywords of shrink
            explained = re.findall(r"^ +([\w, ]+): \S", kind.__doc__, flags=re.MULTILINE)
            assert {f.name for f in fields(kind)} <= {n for line in explained for n in line.split(", ")}
        for name, member in vars(kind).items():
            method = getattr(member, "fget", getattr(member, "__func__", member))
            if inspect.isfunction(method) and name[0] != "_" and name not in ("forward", "extra_repr"):
                assert method.__doc__, f"{kind.__name__}.{name}"

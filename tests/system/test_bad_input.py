"""Public functions of nets, profiles, activations, study and report, and estimators, given bad input.

Each parameter gets each value of `VALUES`: what it takes is listed beside it, all else is an InputError
of one line.
"""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unknot as uk
from unknot.core.showing.frames import Rows
from unknot.nets.probe import Probe
from unknot.nets.recording import Recording
from unknot.report.results import load_result
from unknot.study.budget.options import BudgetOptions
from unknot.study.options import StudyOptions
from unknot.study.stacked_training import train_alone, train_stack
from unknot.study.survival import compare, rank_correlation, survival_curve

ROOMS = ("nets", "profiles", "activations", "study", "estimators", "report")


def nothing(*_: object) -> None:
    return None


VALUES: dict[str, Any] = {
    "None": None, "True": True, "5": 5, "0": 0, "-1": -1, "0.5": 0.5, "nan": math.nan, "inf": math.inf,
    "text": "x", "empty text": "", "bytes": b"x", "[]": [], "()": (), "{}": {}, "[None]": [None],
    "[[1], [1, 2]]": [[1], [1, 2]], "{1: 2}": {1: 2}, "{'a': 'b'}": {"a": "b"}, "object": object(),
    "class": nn.ReLU, "module": nn.ReLU(), "function": nothing, "iterator": None,
    "0 numbers": np.zeros(0), "scalar": torch.tensor(1.5), "no rows": torch.zeros(0, 3),
    "complex": torch.zeros(12, 3, dtype=torch.complex64), "sparse": torch.eye(12, 3).to_sparse(),
    "texts": np.array(["a", "b"] * 6), "NaN": torch.full((12, 3), math.nan),
    "meta": torch.ones(12, 3, device="meta"),
    "folder": Path("/"), "missing": Path("missing/x.json"), "zero byte": "a\0b",
}  # fmt: skip


def x() -> Tensor:
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


def y() -> Tensor:
    return torch.arange(12) % 2


def net() -> nn.Module:
    torch.manual_seed(0)
    return uk.nets.mlp(3, 2, width=4, depth=1)


@cache
def profile() -> uk.profiles.TopologyProfile:
    return measure()


def measure(**change: Any) -> uk.profiles.TopologyProfile:
    model, loader = change.pop("model", net()), change.pop("loader", [(x(), y())])
    return uk.measure(model, loader, **{"scale": uk.Scale(k=3, hops=1), **change})


def monitor(**change: Any) -> None:
    model, probe = change.pop("model", net()), change.pop("probe", [(x(), y())])
    options = {"scale": uk.Scale(k=3, hops=1), "background": False, **change}
    with uk.Monitor(model, probe, **options) as found:
        found.record(1)


def record(**change: Any) -> None:
    with uk.Monitor(net(), [(x(), y())], scale=uk.Scale(k=3, hops=1), background=False) as found:
        found.record(**{"epoch": 1, **change})


def run_study(**change: Any) -> None:
    path = change.pop("path")
    given = {"sets": {"a": (x(), y())}, "activations": ["relu"], "seeds": 1, "epochs": 1, "depth": 1}
    uk.Study(path).run(**{**given, "learning_rates": [0.01], "gains": [1.0], "width": 4, **change})


def run_budgets(**change: Any) -> None:
    path = change.pop("path")
    given = {"sets": {"a": data()}, "activations": ["relu"], "seeds": 1, "at": [1], "depth": 1}
    uk.Study(path).run_budgets(
        **{**given, "learning_rates": [0.01], "gains": [1.0], "width": 4, **change}
    )


def data() -> uk.nets.LabelledData:
    return uk.nets.LabelledData("d", x(), y(), x()[:4], y()[:4])


def alone(**change: Any) -> None:
    given = {"model": net(), "data": data(), "learning_rate": 0.01, "seed": 0, "epochs": 1}
    train_alone(**{**given, **change})


def stack(**change: Any) -> None:
    given = {"models": [net()], "data": data(), "learning_rates": [0.01], "seeds": [0], "epochs": 1}
    train_stack(**{**given, **change})


def trained(**change: Any) -> None:
    uk.nets.train(**{"model": net(), "inputs": x(), "labels": y(), "epochs": 1, **change})


def tuned(**change: Any) -> None:
    uk.nets.fine_tune(**{"model": net(), "data": data(), "epochs": 1, **change})


def recorded(**change: Any) -> None:
    list(Recording(**{"model": net(), "probe": Probe(x()), **change}).outputs())


def judged(**change: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN among the scores
        uk.nets.measure_accuracy(**{"model": net(), "inputs": x(), "labels": y(), **change})


def called(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda **change: function(**{**given, **change})


def fitted(name: str, **given: Any) -> Callable[..., Any]:
    """Fit and transform by an estimator of points."""

    def call(**change: Any) -> None:
        clouds = change.pop("X", [x().numpy()] * 2)
        estimator = getattr(uk.topology, name)(**{"k": 3, **given, **change})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of these points no scale is determined
            estimator.fit(clouds).transform(clouds)

    return call


def table(name: str) -> Callable[..., Any]:
    """Fit an estimator of tables; `fit` itself refuses in scikit-learn's words."""

    def call(**change: Any) -> None:
        cell = {"activations": ("qfold",), "learning_rates": (1e-2,), "gains": (1.0,)}
        small = {"members": 1, "epochs": 1, "width": 4, "depth": 1}
        getattr(uk, name)(**{**cell, **small, **change}).fit(x().numpy(), y().numpy())

    return call


class Case(NamedTuple):
    """A parameter: whom it is of, its name, and the values that it takes."""

    call: Callable[..., Any]
    parameter: str
    takes: str = ""


COUNT, FROM_0, POSITIVE, SHARE = "5", "5|0", "5|0.5|scalar", "0|0.5"
PATHS = "text|missing"  # nothing is written: what is called fails before or writes to a folder of its own
LOADER = "NaN"
CASES: dict[str, list[Case]] = {
    "measure": [
        Case(measure, "model", "module"),
        Case(measure, "loader"),
        Case(measure, "layers"),
        Case(measure, "by"),
        Case(measure, "scale"),
        Case(measure, "tokens"),
        Case(measure, "after"),
        Case(measure, "max_points", COUNT),
        Case(measure, "max_dim"),
        Case(measure, "repeats", FROM_0),
        Case(measure, "views", FROM_0),
        Case(measure, "seed", FROM_0),
    ],
    "Monitor": [
        Case(monitor, "model", "module"),
        Case(monitor, "probe"),
        Case(monitor, "layers"),
        Case(monitor, "by"),
        Case(monitor, "scale"),
        Case(monitor, "every", COUNT),
        Case(monitor, "threads", FROM_0),
        Case(monitor, "on_record", "function|class|module|[]|()|0 numbers|no rows"),
        Case(monitor, "max_points", COUNT),
        Case(monitor, "seed", FROM_0),
        Case(monitor, "out", "None"),
        Case(record, "epoch", FROM_0),
        Case(record, "accuracy", "None|0|0.5|True"),
    ],
    "write_profile": [
        Case(called(uk.profiles.write_profile, path="x.json"), "profile"),
        Case(lambda path: uk.profiles.write_profile(path, profile()), "path", "missing"),
    ],
    "headline": [Case(called(uk.profiles.headline), "profile")],
    "read_profile": [Case(called(uk.profiles.read_profile), "path")],
    "measure_accuracy": [
        Case(judged, "model", "module"),
        Case(judged, "inputs", "NaN"),
        Case(judged, "labels"),
        Case(judged, "batch_size", f"None|{COUNT}"),
    ],
    "train": [
        Case(trained, "model"),
        Case(trained, "inputs"),
        Case(trained, "labels"),
        Case(trained, "epochs", FROM_0),
        Case(trained, "learning_rate", POSITIVE),
        Case(trained, "batch_size", COUNT),
        Case(trained, "stop_at", "None|" + SHARE),
        Case(trained, "seed", FROM_0),
        Case(trained, "on_epoch", "function|class|module"),
    ],
    "fine_tune": [
        Case(tuned, "model"),
        Case(tuned, "data"),
        Case(tuned, "epochs", FROM_0),
        Case(tuned, "learning_rate", POSITIVE),
        Case(tuned, "patience", "None|5"),
        Case(tuned, "seed", FROM_0),
    ],
    "keep_apart": [
        Case(called(uk.nets.keep_apart), "data"),
        Case(called(uk.nets.keep_apart, data=data()), "share", "0.5"),
        Case(called(uk.nets.keep_apart, data=data()), "seed", FROM_0),
    ],
    "labelled_data": [Case(called(uk.nets.labelled_data), "data")],
    "probe_samples": [
        Case(called(uk.nets.probe_samples), "loader", LOADER),
        Case(called(uk.nets.probe_samples, loader=x()), "max_points", COUNT),
        Case(called(uk.nets.probe_samples, loader=x()), "seed", FROM_0),
    ],
    "capture": [
        Case(called(uk.nets.capture, inputs=x()), "model", "module"),
        Case(called(uk.nets.capture, model=net()), "inputs", "NaN"),
        Case(called(uk.nets.capture, model=net(), inputs=x()), "layers"),
        Case(called(uk.nets.capture, model=net(), inputs=x()), "tokens"),
        Case(called(uk.nets.capture, model=net(), inputs=x()), "after"),
        Case(called(uk.nets.capture, model=net(), inputs=x()), "batch_size", COUNT),
    ],
    "Recording": [
        Case(recorded, "model", "module"),
        Case(recorded, "probe"),
        Case(recorded, "layers"),
        Case(recorded, "tokens"),
        Case(recorded, "after"),
        Case(recorded, "batch_size", COUNT),
    ],
    "mlp": [
        Case(called(uk.nets.mlp, inputs=2, classes=2), name, takes)
        for name, takes in (
            ("inputs", COUNT),
            ("classes", COUNT),
            ("width", COUNT),
            ("depth", FROM_0),
            ("activation", "class"),
        )
    ],
    "cnn": [
        Case(called(uk.nets.cnn, channels=1, classes=2), name, takes)
        for name, takes in (
            ("channels", COUNT),
            ("classes", COUNT),
            ("widths", ""),
            ("activation", "class"),
        )
    ],
    "resnet": [
        Case(called(uk.nets.resnet, channels=1, classes=2), name, takes)
        for name, takes in (
            ("channels", COUNT),
            ("classes", COUNT),
            ("widths", ""),
            ("blocks", COUNT),
            ("activation", "class"),
        )
    ],
    "load_images": [
        Case(called(uk.nets.load_images), "name"),
        Case(called(uk.nets.load_images, name="digits"), "split"),
        Case(called(uk.nets.load_images, name="digits"), "limit", "None|5"),
        Case(called(uk.nets.load_images, name="digits"), "seed", FROM_0),
    ],
    "ZFold": [
        Case(called(uk.ZFold), "slope", "5|0|0.5|scalar"),
        Case(called(uk.ZFold), "turn", POSITIVE),
        Case(called(uk.ZFold, learnable=True), "channels", "None|5"),
    ],
    "SmoothZFold": [
        Case(called(uk.activations.SmoothZFold), "slope", "5|0|0.5|scalar"),
        Case(called(uk.activations.SmoothZFold), "turn", POSITIVE),
    ],
    "QFold": [Case(called(uk.QFold), "frequency", POSITIVE)],
    "EUAF": [Case(called(uk.activations.EUAF), "frequency", POSITIVE)],
    "TriangleWave": [Case(called(uk.activations.TriangleWave), "turn", POSITIVE)],
    "HeldFlat": [Case(called(uk.activations.HeldFlat), "fold")],
    "gain": [Case(called(uk.activations.gain), "activation", "module")],
    "init_by_gain": [
        Case(called(uk.activations.init_by_gain, activation=nn.ReLU()), "model"),
        Case(called(uk.activations.init_by_gain, model=net()), "activation", "module"),
        Case(
            called(uk.activations.init_by_gain, model=net(), activation=nn.ReLU()), "multiplier", POSITIVE
        ),
        Case(
            called(uk.activations.init_by_gain, model=net(), activation=nn.ReLU()),
            "seed",
            "None|" + FROM_0,
        ),
    ],
    "replace_activations": [
        Case(called(uk.replace_activations, new=uk.ZFold), "model", "module"),
        Case(called(uk.replace_activations, model=net()), "new", "class"),
        Case(called(uk.replace_activations, model=net(), new=uk.ZFold), "where", "class"),
    ],
    "replacement_report": [Case(called(uk.activations.replacement_report), "model")],
    "Study": [
        Case(run_study, "sets"),
        Case(run_study, "activations"),
        Case(run_study, "seeds", COUNT),
        Case(run_study, "epochs", COUNT),
        Case(run_study, "learning_rates"),
        Case(run_study, "gains"),
        Case(run_study, "net", "None"),
        Case(run_study, "width", COUNT),
        Case(run_study, "depth", FROM_0),
        Case(run_study, "batch_size", COUNT),
        Case(run_study, "stop_at", SHARE),
        Case(run_study, "test_target", "None|" + SHARE),
        Case(run_study, "topology", FROM_0),
        Case(run_study, "jobs", COUNT),
        Case(run_study, "task"),
        Case(run_budgets, "sets"),
        Case(run_budgets, "activations"),
        Case(run_budgets, "at"),
        Case(run_budgets, "unit"),
        Case(run_budgets, "schedule"),
        Case(run_budgets, "seeds", COUNT),
        Case(run_budgets, "jobs", COUNT),
        Case(called(uk.Study), "path"),
        Case(lambda metric: uk.Study("x.sqlite").budgets(metric=metric), "metric"),
        Case(lambda baseline: uk.Study("x.sqlite").compare_budgets(baseline), "baseline"),
        Case(lambda target: uk.Study("x.sqlite").seconds_to(target), "target"),
        Case(lambda targets: uk.Study("x.sqlite").summary(targets), "targets", "[]|()|0 numbers|no rows"),
        Case(lambda split: uk.Study("x.sqlite").summary(split=split), "split"),
        Case(lambda baseline: uk.Study("x.sqlite").compare(baseline), "baseline"),
    ],
    "StudyOptions": [
        Case(called(StudyOptions), "seeds", COUNT),
        Case(called(StudyOptions), "selection_seeds", COUNT),
        Case(called(StudyOptions), "gains"),
        Case(called(StudyOptions), "stop_at", SHARE),
        Case(called(StudyOptions), "net", "None|class|function"),
        Case(called(StudyOptions), "task"),
    ],
    "BudgetOptions": [
        Case(called(BudgetOptions), "at"),
        Case(called(BudgetOptions), "unit"),
        Case(called(BudgetOptions), "schedule"),
        Case(called(BudgetOptions), "seeds", COUNT),
    ],
    "train_alone": [
        Case(alone, "model"),
        Case(alone, "data"),
        Case(alone, "learning_rate", POSITIVE),
        Case(alone, "seed", FROM_0),
        Case(alone, "epochs", COUNT),
        Case(alone, "batch_size", COUNT),
    ],
    "train_stack": [
        Case(stack, "models"),
        Case(stack, "data"),
        Case(stack, "learning_rates"),
        Case(stack, "seeds"),
        Case(stack, "epochs", COUNT),
        Case(stack, "batch_size", COUNT),
    ],
    "compare": [
        Case(called(compare, other=[1.0], caps=(5, 5)), "baseline", "[None]"),
        Case(called(compare, baseline=[1.0], caps=(5, 5)), "other", "[None]"),
        Case(called(compare, baseline=[1.0], other=[2.0]), "caps"),
        Case(called(compare, baseline=[1.0], other=[2.0], caps=(5, 5)), "seed", FROM_0),
    ],
    "rank_correlation": [
        Case(called(rank_correlation, y=[1, 2, 3]), "x"),
        Case(called(rank_correlation, x=[1, 2, 3]), "y"),
        Case(called(rank_correlation, x=[1, 2, 3], y=[1, 2, 3]), "seed", FROM_0),
    ],
    "survival_curve": [
        Case(called(survival_curve, cap=5), "times", "[None]"),
        Case(called(survival_curve, times=[1.0]), "cap", POSITIVE),
    ],
    "untangling_rows": [Case(called(uk.study.untangling_rows), "trials", "[]|()|0 numbers|no rows")],
    "write_report": [
        Case(called(lambda result: uk.write_report("x.html", result)), "result"),
        Case(called(lambda path: uk.write_report(path, profile())), "path"),
        Case(
            called(lambda about: uk.write_report("x.html", profile(), about=about)),
            "about",
            "text|empty text|zero byte",
        ),
        Case(
            called(lambda glossary: uk.write_report("x.html", profile(), glossary=glossary)),
            "glossary",
            "None|{}|{'a': 'b'}",
        ),
    ],
    "load_result": [Case(called(load_result), "path")],
    **{
        name: [
            Case(table(name), "activations"),
            Case(table(name), "learning_rates"),
            Case(table(name), "gains"),
            Case(table(name), "members", COUNT),
            Case(table(name), "chosen", COUNT),
            Case(table(name), "width", COUNT),
            Case(table(name), "depth", FROM_0),
            Case(table(name), "epochs", COUNT),
            Case(table(name), "scaling"),
        ]
        for name in ("FoldClassifier", "FoldRegressor")
    },
    "BettiNumbersTransformer": [
        Case(fitted("BettiNumbersTransformer"), "X"),
        Case(fitted("BettiNumbersTransformer", k=None), "scale"),
        Case(fitted("BettiNumbersTransformer", k=None), "radius", "None|0|0.5|5|inf"),
        Case(fitted("BettiNumbersTransformer"), "k", f"None|{COUNT}"),
        Case(fitted("BettiNumbersTransformer"), "hops", f"None|{COUNT}"),
        Case(fitted("BettiNumbersTransformer"), "max_dim", "0"),
        Case(fitted("BettiNumbersTransformer"), "threads", FROM_0),
    ],
    "IslandsTransformer": [
        Case(fitted("IslandsTransformer"), "X"),
        Case(fitted("IslandsTransformer"), "k", COUNT),
        Case(fitted("IslandsTransformer"), "z", POSITIVE),
        Case(fitted("IslandsTransformer"), "prominences", FROM_0),
        Case(fitted("IslandsTransformer"), "threads", FROM_0),
    ],
}
# Results (tables too), which unknot makes; cost, which has tests of its own; functions of tensors, as
# torch has them.
ELSEWHERE = {
    "compare_cost", "count_macs", "measure_cost", "peak_activation_bytes", "zfold", "smooth_zfold",
    "qfold", "centred_abs", "centred_relu", "triangle_wave", "Sine", "CentredAbs", "CentredReLU",
    "GCU", "Cone", "ParabolicCone", "SquaredLeakyReLU",
}  # fmt: skip


def test_every_public_name_is_in_the_table() -> None:
    for room in ROOMS:
        module = importlib.import_module(f"unknot.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            result = inspect.isclass(thing) and (is_dataclass(thing) or issubclass(thing, Rows))
            assert result or name in CASES or name in ELSEWHERE, f"{room}.{name}"


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))],
    ids=lambda part: part if isinstance(part, str) else str(part),
)  # fmt: skip
def test_what_is_not_taken_is_told_in_one_line(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case, wrong = CASES[name][number], []
    for label, value in VALUES.items():
        change = {case.parameter: iter("ab") if label == "iterator" else value}
        if case.call in (run_study, run_budgets):
            change["path"] = str(tmp_path / f"{len(label)}{label.isalnum()}.sqlite")
        try:
            case.call(**change)
        except uk.InputError as error:
            if "\n" in str(error):
                wrong.append(f"{label}: several lines: {error}")
        except Exception as error:
            if case.parameter.startswith("on_") and label == "module":
                continue  # its own error: it is no function of what it is called with
            wrong.append(f"{label}: {type(error).__name__}: {error}")
        else:
            if label not in case.takes.split("|"):
                wrong.append(f"{label}: taken")
    assert not wrong, f"{name}({case.parameter}): " + "\n".join(wrong)

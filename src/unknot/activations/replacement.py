"""Putting another activation into a whole model, and telling what was put where."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from unknot.activations.functional_calls import (
    Untraceable,
    calls_in_source,
    discarded_in_place,
    functions_of,
    names_of,
    rewrite_calls,
)
from unknot.core.errors import InputError
from unknot.core.showing.frames import Tabular
from unknot.nets.running import copied, require_module

Where: TypeAlias = type[nn.Module] | tuple[type[nn.Module], ...]
_REPORT = "_unknot_replacement_report"


@dataclass(frozen=True, repr=False)
class ReplacementReport(Tabular):
    """What `replace_activations` did, one line each; ``str()`` gives them all.

    Attributes:
        modules: dotted names of the modules replaced; one used in several places has several names.
        functions: functional calls replaced: the dotted name of the child that stands there now.
        untouched: what looks like the same activation and stayed, with the reason.
    """

    modules: tuple[str, ...]
    functions: tuple[str, ...]
    untouched: tuple[str, ...]

    def __repr__(self) -> str:
        return str(self)

    def _columns(self) -> dict[str, list[str]]:
        kinds = {"module": self.modules, "functional call": self.functions, "left": self.untouched}
        rows = [(name, kind) for kind, names in kinds.items() for name in names]
        return {"name": [name for name, _ in rows], "what": [kind for _, kind in rows]}

    def __str__(self) -> str:
        parts = (
            ("replaced modules", self.modules),
            ("replaced functional calls, now the modules", self.functions),
            ("left as they were", self.untouched),
        )
        lines = []
        for title, entries in parts:
            lines.append(f"{title}: {len(entries)}")
            lines += [f"  {entry}" for entry in entries]
        return "\n".join(lines)


def replace_activations(
    model: nn.Module, new: Callable[[], nn.Module], *, where: Where = nn.ReLU
) -> nn.Module:
    """A copy of ``model`` with every activation of type ``where`` replaced by a fresh ``new()``.

    Replaced are the modules of the type and its subclasses, wherever they are nested; functions that a
    module keeps as an attribute (``self.activation = F.relu``); and the calls ``F.relu(x)``,
    ``torch.relu(x)``, ``x.relu()`` and their in-place forms in the forward of every module that
    torch.fx can trace without freezing a branch. Weights, names, hooks and classes are kept: a module
    whose calls were replaced gets a subclass of its class, which ``copy`` and ``cloudpickle`` can copy
    and plain ``pickle`` cannot (its ``state_dict`` is as ever).

    `replacement_report` tells what was replaced. A call that was seen but not replaced also warns.

    Args:
        model: stays untouched.
        new: called once for each place; the module it makes goes to the device and dtype of ``model``.
        where: a module class or several.

    Returns:
        The copy, in the mode of ``model``.

    Raises:
        InputError: nothing of that type in the model, or nothing that can be replaced.
    """
    require_module(model)
    new = _checked(new, where)
    model = copied(model)
    if isinstance(model, where):
        return _with_report(_fitting(new(), model), ReplacementReport(("",), (), ()))
    report = _Surgery(model, new, where).operate()
    if not report.modules and not report.functions:
        _refuse(model, where, report)
    if report.untouched:
        warnings.warn(
            f"{len(report.untouched)} activations were not replaced ({report.untouched[0]}); "
            "see unknot.replacement_report(model)",
            stacklevel=2,
        )
    return _with_report(model, report)


def replacement_report(model: nn.Module) -> ReplacementReport:
    """What `replace_activations` did when it made this model.

    Args:
        model: one that `replace_activations` returned.

    Raises:
        InputError: another model.
    """
    report = vars(model).get(_REPORT) if isinstance(model, nn.Module) else None
    if not isinstance(report, ReplacementReport):
        raise InputError(
            "a model without a report", "one that replace_activations returned", "pass that one"
        )
    return report


class _Surgery:
    """One pass over a copied model; the lists of the report fill up as it goes."""

    def __init__(self, model: nn.Module, new: Callable[[], nn.Module], where: Where) -> None:
        self.model, self.where, self.factory = model, where, new
        self.modules: list[str] = []
        self.functions: list[str] = []
        self.untouched: list[str] = []
        self.kept: set[tuple[nn.Module, str]] = set()
        self.fresh: set[nn.Module] = set()

    def new(self) -> nn.Module:
        activation = _fitting(self.factory(), self.model)
        self.fresh.add(activation)
        return activation

    def operate(self) -> ReplacementReport:
        names = names_of(self.where)
        parents = list(self.model.named_modules())
        replaced: dict[nn.Module, nn.Module] = {}  # a module used in two places stays one module
        for path, parent in parents:
            changed = self._replace_attributes(path, parent, functions_of(names))
            self._replace_calls(path, parent, names)
            changed |= self._replace_children(path, parent, replaced)
            if changed and isinstance(parent, nn.TransformerEncoderLayer):
                # Its fused kernel for inference has ReLU or GELU inside.
                parent.activation_relu_or_gelu = 0
        for _, parent in parents:
            if isinstance(parent, nn.TransformerEncoder):
                layers = parent.layers
                parent.use_nested_tensor &= all(bool(m.activation_relu_or_gelu) for m in layers)
        return ReplacementReport(tuple(self.modules), tuple(self.functions), tuple(self.untouched))

    def _replace_calls(self, path: str, parent: nn.Module, names: frozenset[str]) -> None:
        if (type(parent).forward.__module__ or "").split(".")[0] == "torch":
            return
        written = calls_in_source(parent, names)
        discarded = discarded_in_place(parent, lambda child: isinstance(child, self.where))
        if not written and not discarded:
            return
        label = f"{path or 'the model'} ({type(parent).__name__})"
        try:
            children = rewrite_calls(parent, names, discarded, self.new)
        except Untraceable as reason:
            self.untouched += [f"{label}: {call}: {reason}" for call in written]
            self.untouched += [f"{label}: self.{name}() in place: {reason}" for name in sorted(discarded)]
            self.kept |= {(parent, name) for name in discarded}
            return
        self.functions += [_join(path, name) for name in children]

    def _replace_children(
        self, path: str, parent: nn.Module, replaced: dict[nn.Module, nn.Module]
    ) -> bool:
        changed = False
        for name, child in list(parent._modules.items()):  # named_children skips a second name
            if not isinstance(child, self.where) or child in self.fresh or (parent, name) in self.kept:
                continue
            if child not in replaced:
                replaced[child] = self.new().train(child.training)
            setattr(parent, name, replaced[child])
            self.modules.append(_join(path, name))
            changed = True
        return changed

    def _replace_attributes(self, path: str, parent: nn.Module, known: frozenset[object]) -> bool:
        names = [k for k, v in vars(parent).items() if inspect.isroutine(v) and v in known]
        for name in names:
            delattr(parent, name)
            setattr(parent, name, self.new().train(parent.training))
            self.functions.append(_join(path, name))
        return bool(names)


def _checked(new: Any, where: Any) -> Callable[[], nn.Module]:
    """``new``, which then refuses to make what is no module; ``where`` is refused here."""
    kinds = where if isinstance(where, tuple) else (where,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise InputError(
            f"where = {where!r}", "a class of modules, or several", "pass e.g. torch.nn.ReLU"
        )
    if not callable(new) or isinstance(new, nn.Module):
        raise InputError(
            f"new = {new!r}", "what makes a module", "pass a class or function, e.g. uk.ZFold"
        )

    def make() -> nn.Module:
        try:
            made = new()
        except TypeError as error:
            raise InputError(
                f"new = {new!r} ({error})", "what makes a module without arguments", "pass a lambda"
            ) from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"new = {new!r} that makes a {type(made).__name__}", "a torch.nn.Module", "return one"
            )
        return made

    return make


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fitting(activation: nn.Module, model: nn.Module) -> nn.Module:
    """A new activation on the device and in the dtype of the model's weights."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return activation if weight is None else activation.to(weight.device, weight.dtype)


def _with_report(model: nn.Module, report: ReplacementReport) -> nn.Module:
    model.__dict__[_REPORT] = report
    return model


def _refuse(model: nn.Module, where: Where, report: ReplacementReport) -> None:
    kinds = sorted({type(m).__name__ for m in model.modules()} - {type(model).__name__})
    names = where.__name__ if isinstance(where, type) else [w.__name__ for w in where]
    if report.untouched:
        raise InputError(f"where = {names}", "one that can be replaced", "; ".join(report.untouched[:3]))
    raise InputError(
        f"where = {names}",
        "a module type that occurs in the model",
        f"it holds {', '.join(kinds) or 'no modules'}",
    )

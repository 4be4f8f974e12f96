"""Activations that a module's forward calls as functions: found in its source, replaced by torch.fx.

A graph of torch.fx is the forward as it ran once on placeholders: a branch that was not taken, a
context manager, a random number of Python's are not in it. So a forward that could hide one of these
is refused with the reason, and only a module whose source calls an activation is traced at all.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

# The functional form of each module class, in torch.nn.functional, in torch and as a tensor's method.
FUNCTIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu", nn.ELU: "elu", nn.SELU: "selu",
    nn.CELU: "celu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid", nn.Hardtanh: "hardtanh", nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid", nn.Softplus: "softplus", nn.Softsign: "softsign",
}  # fmt: skip


class Untraceable(Exception):
    """Why a forward cannot be rewritten, in a few words."""


def names_of(where: type[nn.Module] | tuple[type[nn.Module], ...]) -> frozenset[str]:
    """The functions and methods that compute what the modules of these classes compute."""
    names = {name for cls, name in FUNCTIONS.items() if issubclass(cls, where)}
    return frozenset(names | {f"{name}_" for name in names})


def functions_of(names: frozenset[str]) -> frozenset[Any]:
    """The objects behind the names, as a graph or an attribute of a module holds them."""
    return frozenset(
        getattr(place, name)
        for place in (F, torch)
        for name in names
        if hasattr(place, name) and not inspect.isclass(getattr(place, name))
    )


def calls_in_source(module: nn.Module, names: frozenset[str]) -> tuple[str, ...]:
    """Calls of these activations that the forward reaches: "F.relu(), line 12"."""
    known = functions_of(names)
    calls = []
    for function, tree in _reachable(module):
        first = function.__code__.co_firstlineno - 1
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_activation(node.func, names, known, function):
                calls.append(f"{ast.unparse(node.func)}(), line {first + node.lineno}")
    return tuple(dict.fromkeys(calls))


def discarded_in_place(module: nn.Module, kept: Callable[[nn.Module], bool]) -> frozenset[str]:
    """Children whose in-place result the forward discards, as in ``self.relu(x); return x``."""
    discarded = set()
    for _, tree in _reachable(module):
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                name = ast.unparse(node.value.func).removeprefix("self.")
                child = dict(module.named_children()).get(name)
                if child is not None and getattr(child, "inplace", False) and kept(child):
                    discarded.add(name)
    return frozenset(discarded)


def rewrite_calls(
    module: nn.Module, names: frozenset[str], discarded: frozenset[str], new: Callable[[], nn.Module]
) -> tuple[str, ...]:
    """Put a fresh ``new()`` child in the place of every such call of ``module.forward``.

    The module stays the same object with the same children, attributes and hooks; its class becomes a
    subclass with the new forward.

    Args:
        discarded: children that work in place and whose result is not used; the uses of their input
            after the call become uses of their result.

    Returns:
        The calls replaced: "relu", "relu_1", ..., which are the names of the new children.

    Raises:
        Untraceable: with the reason; the module is as it was.
    """
    _refuse_hidden_branches(module)
    graph = _trace(module)
    known, replaced = functions_of(names), []
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        in_place = node.op == "call_module" and node.target in discarded and not node.users
        if _calls_one_of(node, names, known):
            child = _free_name(module, node.name)
            module.add_module(child, new())
            replaced.append(child)
            in_place = bool(node.kwargs.get("inplace")) or str(node.target).endswith("_")
            in_place |= getattr(node.target, "__name__", "").endswith("_")
            source = node.args[0] if node.args else node.kwargs["input"]
            node.op, node.target, node.args, node.kwargs = "call_module", child, (source,), {}
        if in_place:
            source = node.args[0]
            for user in [u for u in source.users if order[u] > order[node]]:
                user.replace_input_with(source, node)
    forward, kind = type(fx.GraphModule(module, graph)).forward, type(module)
    forward.__module__ = kind.__module__
    names_in_class = {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__}
    module.__class__ = type(kind.__name__, (kind,), names_in_class)
    return tuple(replaced)


def _calls_one_of(node: fx.Node, names: frozenset[str], known: frozenset[Any]) -> bool:
    if node.op == "call_function":
        return node.target in known
    return node.op == "call_method" and node.target in names


def _free_name(module: nn.Module, wanted: str) -> str:
    name, number = wanted, 1
    while hasattr(module, name):
        name, number = f"{wanted}_{number}", number + 1
    return name


def _reachable(module: nn.Module) -> Iterator[tuple[FunctionType, ast.AST]]:
    """The module's forward and the user's functions and methods that it calls, with their syntax."""
    waiting, seen = [type(module).forward], set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        home = getattr(function, "__module__", None) or ""
        if not isinstance(function, FunctionType) or function in seen or home.split(".")[0] == "torch":
            continue
        seen.add(function)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):  # typed at a prompt, or made by exec
            continue
        yield function, tree
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                callee = _resolve(node.func, function)
                if callee is None and isinstance(node.func, ast.Attribute) and _is_own(node.func):
                    callee = getattr(type(module), node.func.attr, None)
                if inspect.isfunction(callee):
                    waiting.append(callee)


def _resolve(node: ast.expr, function: FunctionType) -> Any:
    """The object that a name or a dotted name means among the function's globals, or None."""
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, function)
        return None if owner is None else getattr(owner, node.attr, None)
    return None


def _is_own(node: ast.expr) -> bool:
    """Whether an expression is ``self`` or a dotted name that begins with it."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"


def _is_activation(
    node: ast.expr, names: frozenset[str], known: frozenset[Any], function: FunctionType
) -> bool:
    callee = _resolve(node, function)
    if callee is not None:
        return inspect.isroutine(callee) and callee in known
    return isinstance(node, ast.Attribute) and node.attr in names and not _is_own(node)


def _refuse_hidden_branches(module: nn.Module) -> None:
    """Raise for what a graph would freeze or lose without a word."""
    forward = type(module).forward
    if hasattr(forward, "__wrapped__") or "forward" in vars(module):
        raise Untraceable("its forward is wrapped")
    for parameter in list(inspect.signature(forward).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Untraceable(f"its forward takes any arguments ({parameter})")
        if parameter.default is not parameter.empty:
            raise Untraceable(f"its forward has an optional argument ({parameter.name})")
    for _, tree in _reachable(module):
        for node in ast.walk(tree):
            if isinstance(node, (ast.With, ast.Try)):
                raise Untraceable(f"its forward has a {type(node).__name__.lower()} block")
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
                subject = node.left
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "hasattr"):
                subject = node.args[0]
            else:
                continue
            if not _is_own(subject):
                raise Untraceable(f"its forward asks `{ast.unparse(node)}`")


class _Tracer(fx.Tracer):
    """Records one module's own forward; the forwards of its children stay theirs."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> fx.Graph:
    """The graph of the forward, with ``self.training`` where it depends on the mode."""
    mode, before = module.training, dict(vars(module))
    graphs = []
    try:
        for training in (True, False):
            module.training = training
            graphs.append(_Tracer().trace(module))
    except Exception as error:  # the user's forward ran on placeholders: anything can come out of it
        line = str(error).partition("\n")[0]
        raise Untraceable(f"its forward depends on the data ({line[:80]})") from None
    finally:
        module.training = mode
        changed = {k for k, v in vars(module).items() if k not in before or before[k] is not v}
        for name in changed:
            module.__dict__.pop(name)
        module.__dict__.update(before)
    if any(str(n.target).startswith("_tensor_constant") for n in graphs[0].nodes if n.op == "get_attr"):
        raise Untraceable("its forward makes tensors that do not depend on its input")
    if changed - {"training"}:
        raise Untraceable(f"its forward sets {', '.join(sorted(changed - {'training'}))}")
    _join_modes(*graphs)
    return graphs[0]


def _join_modes(graph: fx.Graph, in_eval: fx.Graph) -> None:
    """Turn True in ``graph`` into ``self.training`` where the graph in eval mode has False."""
    ways = [
        [(node.op, node.target, len(node.args), node.kwargs.keys()) for node in mode.nodes]
        for mode in (graph, in_eval)
    ]
    if ways[0] != ways[1]:
        raise Untraceable("its forward takes another way in training mode")
    flag: fx.Node | None = None
    for node, other in zip(list(graph.nodes), in_eval.nodes, strict=True):
        if repr((node.args, node.kwargs)) == repr((other.args, other.kwargs)):
            continue
        if flag is None:
            with graph.inserting_before(next(n for n in graph.nodes if n.op != "placeholder")):
                flag = graph.create_node("get_attr", "training")

        def joined(ours: Any, theirs: Any, flag: fx.Node = flag) -> Any:
            if repr(ours) == repr(theirs):
                return ours
            if ours is True and theirs is False:
                return flag
            raise Untraceable("its forward computes with another number in training mode")

        node.args = tuple(map(joined, node.args, other.args))
        node.kwargs = {k: joined(v, other.kwargs[k]) for k, v in node.kwargs.items()}

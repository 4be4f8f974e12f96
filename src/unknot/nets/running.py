"""A user's model for the length of a measurement: unwrapped, named, and left as it was."""

from __future__ import annotations

import copy
import ctypes
import difflib
import inspect
import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from fnmatch import fnmatchcase
from functools import partial
from types import MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from unknot.core.errors import InputError, require_items
from unknot.nets.probe import Inputs, as_inputs, map_tensors, tensors_of

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_HOLDERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
PARAMETRIZATIONS = "parametrizations"  # torch's name of the child that computes a layer's parameters
# What a copy uses together with its original: it cannot be copied, and using it changes no result.
_SHARED = (
    type(threading.Lock()), type(threading.RLock()), io.IOBase, ModuleType, memoryview,
    ctypes.CDLL, ctypes._Pointer, ctypes._CFuncPtr,  # type: ignore[attr-defined]
)  # fmt: skip
M = TypeVar("M", bound=nn.Module)


def matching_layers(model: nn.Module, layers: str | Iterable[str]) -> dict[str, nn.Module]:
    """The modules whose dotted name matches one of the globs; "*" means all that `is_layer`.

    Wrappers leave no trace in the names: a compiled block "net._orig_mod.conv" is "net.conv".

    Raises:
        InputError: a glob matches nothing; names that come near are listed.
    """
    named = {plain_name(name): m for name, m in model.named_modules() if plain_name(name)} or {"": model}
    chosen: dict[str, nn.Module] = {}
    for glob in require_globs(layers):
        if glob == "*":
            matching = {n: m for n, m in named.items() if is_layer(n, m)}
        else:
            matching = {n: m for n, m in named.items() if fnmatchcase(n, glob)}
        if not matching:
            near = difflib.get_close_matches(glob, named, n=5, cutoff=0.3) or list(named)[:5]
            raise InputError(
                f"layers = {glob!r}", "a glob that matches a module", f"try {', '.join(near)}"
            )
        chosen |= matching
    return {name: module for name, module in named.items() if name in chosen}


def require_globs(layers: Any) -> tuple[str, ...]:
    """``layers`` as globs; an InputError unless it is one text or several."""
    words = "a glob over module names, or several", 'pass e.g. "*" or ["conv*"]'
    globs = (layers,) if isinstance(layers, str) else require_items("layers", layers, *words)
    if not globs or not all(isinstance(glob, str) for glob in globs):
        raise InputError(f"layers = {layers!r}", *words)
    return globs


def is_leaf(module: nn.Module) -> bool:
    """Whether a module computes something and holds no other module."""
    return next(module.children(), None) is None and not isinstance(module, _HOLDERS)


def is_layer(name: str, module: nn.Module) -> bool:
    """Whether a module is a leaf, or computes with parameters of its own although it holds others.

    Such are layers with parametrizations (weight_norm, spectral_norm), nn.MultiheadAttention, and
    blocks with e.g. a scale of their own. What computes parameters is no layer.
    """
    if f".{PARAMETRIZATIONS}." in f".{name}." or isinstance(module, _HOLDERS):
        return False
    own = any(parameter is not None for parameter in module._parameters.values())
    return own or is_parametrized(module) or is_leaf(module)


def plain_name(name: str) -> str:
    """A dotted module name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def unwrapped(model: nn.Module, *, scripted: bool = False) -> nn.Module:
    """The module that was wrapped by DataParallel or `torch.compile`.

    Args:
        scripted: whether it may be made by ``torch.jit``, which takes no hooks.

    Raises:
        InputError: no module, one that is not run by Python (scripted, traced, exported), or one without
            values (on the meta device, or lazy).
    """
    require_module(model, scripted=scripted)
    for name, parameter in model.named_parameters():
        if parameter.is_meta or isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"parameter {name} without values", "an initialised model", "run or load it first"
            )
    inner: Any = model
    while isinstance(inner, _WRAPPERS) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, _WRAPPERS) else inner._orig_mod
    return inner  # type: ignore[no-any-return]


def require_module(model: Any, *, scripted: bool = False) -> None:
    """An InputError unless ``model`` is a module that Python runs; ``scripted`` ones may do too."""
    if not isinstance(model, nn.Module):
        kind = "class" if isinstance(model, type) else "model of type"
        name = model.__name__ if isinstance(model, type) else type(model).__name__
        raise InputError(f"a {kind} {name}", "a torch.nn.Module", "pass the model itself")
    for name, module in model.named_modules():
        exported = isinstance(module, torch.fx.GraphModule) and "train" in vars(module)
        if exported or (isinstance(module, torch.jit.ScriptModule) and not scripted):
            what = f"module {name}" if name else "a model"
            raise InputError(
                f"{what} made by {'torch.export' if exported else 'torch.jit'}",
                "modules that Python runs, one by one",
                "pass the model from which it was made",
            )


def copied(model: M) -> M:
    """A copy of ``model`` and all that it holds; tied parameters are tied in it too.

    Unlike `copy.deepcopy` it takes models that keep what was computed by them, which is detached in
    the copy; locks, open files, Python modules and foreign functions, which both then use; and whatever
    holds these.

    Raises:
        InputError: an attribute that can be neither copied nor shared, e.g. a generator.
    """
    memo: dict[int, Any] = {}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the classes of its attributes raise
        if _is_out_of_memory(error):
            raise
        memo = {}
        for name, value in _uncopied(model):
            if isinstance(value, Tensor):
                memo[id(value)] = value.detach().clone()
            elif isinstance(value, _SHARED):
                memo[id(value)] = value
            else:
                raise InputError(
                    f"attribute {name} of type {type(value).__name__}",
                    "what copy.deepcopy can copy",
                    "set it to None, or give its class a method __deepcopy__",
                ) from None
    return copy.deepcopy(model, memo)


def _uncopied(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The innermost objects in a model that cannot be copied, with their dotted names."""
    memo = {id(t): t for t in (*model.parameters(), *model.buffers()) if t.is_leaf}  # these can be
    seen = {id(model)}
    waiting: list[tuple[str, Any]] = [("", model)]
    while waiting:
        name, value = waiting.pop()
        inner = []
        for key, part in ({} if isinstance(value, (Tensor, *_SHARED)) else _parts(value)).items():
            try:
                copy.deepcopy(part, dict(memo))
            except Exception:  # as above
                inner.append((f"{name}.{key}".lstrip("."), part))
        if not inner:
            yield name, value
        waiting += [(key, part) for key, part in inner if id(part) not in seen]
        seen |= {id(part) for _, part in inner}


def _parts(value: Any) -> dict[str, Any]:
    """What an object holds, by name."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, (list, tuple, deque, Set)):
        return {str(i): part for i, part in enumerate(value)}
    if isinstance(value, MethodType):
        return {"__self__": value.__self__}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    parts = dict(getattr(value, "__dict__", {}))
    if isinstance(value, nn.Module):
        for kind in ("_parameters", "_buffers", "_modules"):
            parts |= parts.pop(kind, {})
    return parts


def as_example(example: Any) -> Inputs:
    """A batch as `as_inputs` has it, of at least one sample."""
    inputs = as_inputs(example)
    if not n_samples(inputs):
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_of(inputs))
        raise InputError(f"an example of shape {shapes}", "at least one sample", "pass a batch")
    return inputs


def n_samples(inputs: Inputs) -> int:
    """Samples in a batch."""
    return len(tensors_of(inputs)[0])


def placed(batch: Inputs, model: nn.Module) -> Inputs:
    """On the device of the model's first parameter, floating-point inputs in its type."""
    first = next((p for p in model.parameters() if p.is_floating_point()), None)

    def place(tensor: Tensor) -> Tensor:
        if first is None:
            return tensor
        return tensor.to(first.device, first.dtype if tensor.is_floating_point() else None)

    return map_tensors(batch, place)


def call_model(model: nn.Module, batch: Inputs) -> Any:
    """What the model returns for a batch.

    Raises:
        InputError: whatever it raises, with the shapes of the batch.
    """
    try:
        return caller(model, batch)(batch)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever the user's code raises
        if _is_out_of_memory(error):
            raise _out_of_memory(error, batch) from error
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_of(batch))
        text = (str(error).splitlines() or [""])[0][:120]
        raise InputError(
            f"a batch of shape {shapes} ({type(error).__name__}: {text})",
            "samples that the model takes",
            "check the shape and type of what the loader yields",
        ) from error


def caller(model: nn.Module, batch: Inputs) -> Callable[[Any], Any]:
    """What calls the model with batches like this one.

    Several tensors go to the parameters of ``forward``, or all together to the only one it has.
    """
    if isinstance(batch, Tensor):
        return model
    given: tuple[Any, ...] = () if isinstance(batch, dict) else batch
    named: dict[str, Any] = batch if isinstance(batch, dict) else {}
    try:
        signature = inspect.signature(model.forward)
        if not _fits(signature, given, named) and _fits(signature, (batch,), {}):
            return model
    except ValueError:  # not of Python
        pass
    return lambda batch: model(**batch) if isinstance(batch, dict) else model(*batch)


def _fits(signature: inspect.Signature, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    try:
        signature.bind(*given, **named)
    except TypeError:
        return False
    return True


def _is_out_of_memory(error: Exception) -> bool:
    """Also where torch, of a CPU, makes a RuntimeError of it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "CPUAllocator" in str(error)


def _out_of_memory(error: Exception, batch: Inputs) -> InputError:
    text = (str(error).splitlines() or [""])[0][:120]
    return InputError(
        f"a batch of {len(tensors_of(batch)[0])} samples ({text})",
        "a run that fits into memory",
        "pass smaller or fewer samples, or free memory of the device",
    )


def float_tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a tensor or any container of tensors, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
        return
    parts: Iterable[Any] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    elif is_dataclass(output):
        parts = [getattr(output, f.name) for f in fields(output)]
    for part in parts:
        yield from float_tensors(part)


def first_tensor(output: Any, size: int) -> Tensor | None:
    """The first floating-point tensor with ``size`` rows in a tensor or any container of tensors."""
    return next((t for t in float_tensors(output) if t.ndim and len(t) == size), None)


def named_scores(output: Any) -> tuple[Any, ...]:
    """What stands under the key or attribute "logits", under "scores", and ``output`` itself."""
    keys = output if isinstance(output, Mapping) else {}
    return *(keys.get(name, getattr(output, name, None)) for name in ("logits", "scores")), output


def score_tensor(output: Any, size: int) -> Tensor | None:
    """`first_tensor` of the key or attribute "logits", else of "scores", else of all of ``output``."""
    return next((t for part in named_scores(output) if (t := first_tensor(part, size)) is not None), None)


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module], see: Callable[[str, nn.Module, Any, Any], Any]
) -> Iterator[None]:
    """Call ``see(name, module, inputs, output)`` after each call of the modules, inside the context.

    Args:
        modules: by name.
        see: gets the positional inputs as a tuple; unless it returns None, that replaces the output.
    """
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(see, name)).remove)
        yield


@contextmanager
def hooked_before(
    modules: Mapping[str, nn.Module], see: Callable[[str, nn.Module, Any], Any]
) -> Iterator[None]:
    """`hooked` before each call: ``see(name, module, inputs)``, whose result replaces the inputs."""
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(partial(see, name)).remove)
        yield


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, compilation or new randomness; afterwards everything as before."""
    training = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),  # compiled code would skip the hooks
        ):
            torch.backends.mha.set_fastpath_enabled(False)  # so would a transformer's layers
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, flag in training.items():
            module.training = flag
        with torch.no_grad():
            for buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)

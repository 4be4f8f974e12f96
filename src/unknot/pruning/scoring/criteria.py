"""What a criterion is, and the registry of those that have a name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, overload

from numpy.typing import ArrayLike
from torch import Tensor, nn

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError
from unknot.nets.probe import Probe
from unknot.pruning.scoring.observations import Observations
from unknot.pruning.structure.layers import Layer
from unknot.pruning.structure.linear_maps import matrix
from unknot.pruning.structure.pools import Structure
from unknot.topology.scale import Scale

DEFAULT = "elder-surgeon"
Needs = Literal["weights", "samples", "labels"]
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a criterion may look at.

    Attributes:
        model: unwrapped; to be left as it is.
        layers: {dotted name: convolution or linear layer} to score; for a criterion that needs samples,
            those that ran.
        probe: the samples; None where there are none.
        observations: {layer: what its filters did on the samples}; empty where there are none.
        structure: which channels go together, where that is known already.
        seed: of everything drawn at random.
        cluster: address of a Dask scheduler, or None.
        progress: whether to show bars.
    """

    model: nn.Module
    layers: Mapping[str, Layer]
    probe: Probe | None = None
    observations: Mapping[str, Observations] = field(default_factory=dict)
    structure: Structure | None = None
    seed: int = 0
    cluster: str | None = None
    progress: ShowProgress = False

    def weights(self, layer: str) -> Tensor:
        """float64 ``[filters, d]``: what each filter weighs its inputs by.

        Where the model was run, by what was seen, e.g. standardised weights; else the layer's ``weight``.
        """
        observed = self.observations.get(layer)
        seen = None if observed is None else observed.weights
        return (matrix(self.layers[layer]) if seen is None else seen).cpu().double()


@dataclass(frozen=True)
class FilterBetti:
    """Betti numbers of one filter's outputs, one point a sample.

    Attributes:
        betti: (b0, b1); means over the classes where each class was measured.
        n_points: distinct points, of all measured clouds together.
        scale: the neighbour rule.
    """

    betti: tuple[float, ...]
    n_points: int
    scale: Scale


@dataclass(frozen=True, eq=False)
class LayerScores:
    """Scores of one layer with what else its rows of `FilterScores` say.

    Attributes:
        values: ``[filters]``.
        betti: Betti numbers ``[filters]`` where the criterion counts them.
        stand_in: the criterion that these are scores of, where this one has nothing to go by.
        note: why.
    """

    values: ArrayLike
    betti: Sequence[FilterBetti] = ()
    stand_in: str = ""
    note: str = ""


class Criterion(ABC):
    """What makes a filter worth keeping. To write one, give `score` and change what does not apply.

    Attributes:
        needs: "weights" (the model is not run unless a loader is given), "samples", or "labels" too.
        remove_high: whether high scores go first, not low ones.
        comparable: whether scores of different layers can be compared as they are.
        redundant_first: whether dead filters and duplicates go before all others.
        gives_betti: whether scores are Betti numbers, which a plan can set a threshold on.
    """

    needs: Needs = "weights"
    remove_high: bool = False
    comparable: bool = False
    redundant_first: bool = True
    gives_betti: bool = False

    @abstractmethod
    def score(self, evidence: Evidence) -> Mapping[str, ArrayLike | LayerScores]:
        """{layer: one finite score a filter}; layers left out have no scores."""


class _ByLayer(Criterion):
    """A function ``(layer name, layer) -> scores [filters]``."""

    def __init__(self, name: str, function: Callable[[str, Layer], ArrayLike]) -> None:
        self.name, self.function = name, function

    def score(self, evidence: Evidence) -> Mapping[str, ArrayLike]:
        scores = {}
        for layer, module in evidence.layers.items():
            with naming(f"criterion {self.name} on layer {layer}", self.function):
                scores[layer] = self.function(layer, module)
        return scores


@contextmanager
def naming(what: str, criterion: object) -> Iterator[None]:
    """Say in what a user's criterion has failed; a failure of unknot's own is a defect, and stays."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        place = getattr(criterion, "__module__", None) or ""
        if place.partition(".")[0] == "unknot":
            raise
        raise InputError(
            f"{what} ({type(error).__name__}: {error})", "one finite score a filter", "mend it"
        ) from error


_REGISTRY: dict[str, Criterion] = {}


@overload
def register(name: str, criterion: None = None) -> Callable[[C], C]: ...
@overload
def register(name: str, criterion: C) -> C: ...
def register(name: str, criterion: Any = None) -> Any:
    """Give a criterion a name, by which `score_filters` and `shrink` know it.

    The command knows it where the module of its ``--model`` registers it. Without ``criterion``, a
    decorator of a class or a function.

    Args:
        name: one that is not taken.
        criterion: a `Criterion`, a class of them that takes no arguments, or a function ``(layer name,
            layer) -> scores [filters]`` whose low scores go.

    Returns:
        The criterion, as it was passed.

    Raises:
        InputError: a name that is taken, or no criterion.
    """
    if not isinstance(name, str) or not name or name in _REGISTRY:
        raise InputError(
            f"criterion name {name!r}", "one that is not taken", "choose another, e.g. 'mine'"
        )
    if criterion is None:
        return lambda decorated: register(name, decorated)
    _REGISTRY[name] = _as_criterion(criterion, name)
    return criterion


def criterion_names() -> tuple[str, ...]:
    """All registered names, the default first."""
    return (DEFAULT, *(name for name in _REGISTRY if name != DEFAULT))


def find_criterion(criterion: object) -> tuple[str, Criterion]:
    """The name and the criterion that ``score_filters(criterion=...)`` means.

    Raises:
        InputError: a name that is not registered, or no criterion.
    """
    if not isinstance(criterion, str):
        name = getattr(criterion, "__name__", type(criterion).__name__)
        return f"{name} of one's own" if name in _REGISTRY else name, _as_criterion(criterion, name)
    if criterion not in _REGISTRY:
        raise InputError(
            f"criterion = {criterion!r}",
            f"{', '.join(map(repr, criterion_names()))} or a callable",
            "pick one, or name yours by uk.pruning.register",
        )
    return criterion, _REGISTRY[criterion]


def gives_betti(name: str) -> bool:
    """Whether the criterion of that name gives Betti numbers; False where nothing has the name."""
    return name in _REGISTRY and _REGISTRY[name].gives_betti


def _as_criterion(given: Any, name: str) -> Criterion:
    if isinstance(given, type) and issubclass(given, Criterion):
        try:
            given = given()
        except TypeError as error:
            raise InputError(
                f"criterion {given.__name__} ({error})",
                "a class that takes no arguments and has a method score",
                "pass an instance, or define score",
            ) from error
    if isinstance(given, Criterion):
        if given.needs not in get_args(Needs):
            raise InputError(
                f"needs = {given.needs!r} of criterion {type(given).__name__}",
                " or ".join(map(repr, get_args(Needs))),
                "pass 'samples' if it looks at what filters do",
            )
        return given
    if not callable(given):
        raise InputError(f"criterion = {given!r}", "a name, a Criterion or a callable", "pass 'l1'")
    try:
        inspect.signature(given).bind("layer", nn.Identity())
    except TypeError as error:
        raise InputError(
            f"criterion {name} ({error})",
            "a callable (layer name, layer) -> scores [filters]",
            "let it take the two",
        ) from error
    except ValueError:  # a builtin without a signature
        pass
    return _ByLayer(name, given)

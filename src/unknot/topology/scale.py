"""Scale: the neighbour rule with its numbers, as every result carries it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

from unknot.core.errors import InputError
from unknot.topology.rules import KnnRule, RipsRule, Rule


@dataclass(frozen=True, repr=False)
class Scale:
    """The neighbour rule with its numbers, carried by every result.

    The fields are what is written to files; ``rule`` is what works on points.

    Attributes:
        k: nearest neighbours a point is joined to (kNN-hop rule), else None.
        hops: pairs at most this many steps apart are joined (kNN-hop rule; 1 where only k is given),
            else None.
        radius: pairs at Euclidean distance <= radius are joined (Rips rule), else None.
        determined: False where `calibrate` found no scale at which the Betti numbers are stable.
        note: why it is undetermined, or how it was found.

    With neither k nor radius the graph was given edge by edge.

    Raises:
        InputError: both rules, hops without k, k or hops no whole number >= 1, a radius that is no
            number >= 0.
    """

    k: int | None = None
    hops: int | None = None
    radius: float | None = None
    determined: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        if self.rule is not None:
            self.__dict__.update(vars(self.rule))  # Python's own numbers, which JSON knows

    @cached_property
    def rule(self) -> Rule | None:
        """`KnnRule` or `RipsRule`; None where the edges were given."""
        if self.k is not None and self.radius is not None:
            raise InputError(
                f"k = {self.k} with radius = {self.radius}",
                "exactly one rule",
                "pass radius=... or k=..., hops=...",
            )
        if self.k is not None:
            return KnnRule(self.k, 1 if self.hops is None else self.hops)
        if self.hops is not None:
            remedy = "pass e.g. k=14" if self.radius is None else "drop hops"
            raise InputError(f"hops = {self.hops} without k", "both or neither", remedy)
        return None if self.radius is None else RipsRule(self.radius)

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        told = [f"{f.name}={given[f.name]!r}" for f in fields(self) if given[f.name] != f.default]
        return f"Scale({', '.join(told)})"

    def __str__(self) -> str:
        rule = str(self.rule or "given edges")
        return rule if self.determined else f"{rule} (undetermined)"

    def lowered_to(self, n_points: int) -> Scale:
        """The scale for a cloud of n points: where k is not smaller it is n - 1, and the note says so.

        Args:
            n_points: of the cloud, >= 1. A single point has no neighbour; k is then 1.
        """
        if not isinstance(self.rule, KnnRule) or self.rule.k < n_points:
            return self
        note = "one distinct point: constant" if n_points == 1 else "k lowered: few distinct points"
        return replace(self, k=max(1, n_points - 1), note=note)


def require_rule(scale: object, words: str = "") -> Rule:
    """The rule of ``scale``.

    Args:
        words: what is taken beside a Scale, for the message, e.g. "'auto'".

    Raises:
        InputError: not a Scale, or one without a rule.
    """
    remedy = "pass Scale(k=14, hops=2)"
    if not isinstance(scale, Scale):
        raise InputError(f"scale = {scale!r}", f"a Scale{words and f' or {words}'}", remedy)
    if scale.rule is None:
        raise InputError(f"scale = {scale}", "a radius, or k and hops", remedy)
    return scale.rule

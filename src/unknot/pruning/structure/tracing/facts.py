"""What runs of a model tell about the channels that are followed in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from unknot.pruning.structure.tracing.labels import Factor


@dataclass(frozen=True, eq=False)
class Split:
    """A tensor whose axes share channels: what is left must be a rectangle.

    Attributes:
        atoms: over those axes alone.
        axes: of ``atoms``, those of which whole slices may go.
        module: where.
    """

    atoms: Factor
    axes: tuple[int, ...]
    module: str


@dataclass(frozen=True, eq=False)
class Size:
    """A number that a module holds and that counts what is left along an axis.

    Attributes:
        module: its dotted name.
        attribute: where it is held.
        position: in a list or tuple; None for a number.
        atoms: of the tensor that has this size.
        axis: of ``atoms``.
        scale: the number over the size.
    """

    module: str
    attribute: str
    position: int | None
    atoms: Factor
    axis: int
    scale: Fraction = Fraction(1)


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution or matrix product of ``macs`` in all, which shrink with each of ``factors [i]``."""

    macs: float
    factors: tuple[Factor, ...]


class Followed(int):
    """A whole number that remembers which attribute of which module it comes from."""

    module: str
    attribute: str
    position: int | None
    scale: Fraction

    @classmethod
    def of(cls, value: int, module: str, attribute: str, position: int | None) -> Followed:
        number = cls(value)
        number.module, number.attribute, number.position = module, attribute, position
        number.scale = Fraction(1)
        return number

    def _scaled(self, value: int, scale: Fraction) -> Followed:
        number = Followed.of(value, self.module, self.attribute, self.position)
        number.scale = self.scale * scale
        return number

    def __mul__(self, other: Any) -> Any:
        # Of two followed numbers each would only follow the product while the other stays.
        product = int(self) * (int(other) if isinstance(other, Followed) else other)
        if type(other) is int and other > 0:
            return self._scaled(product, Fraction(other))
        return product

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        quotient = int(self) // other
        if isinstance(other, int) and other > 0 and quotient * other == int(self):
            return self._scaled(quotient, Fraction(1, int(other)))
        return quotient

    def __reduce__(self) -> Any:  # a copy of a traced model holds plain numbers
        return int, (int(self),)


@dataclass(eq=False)
class Facts:
    """What the runs of a model told about its atoms."""

    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # first atom of each axis, 0 for none
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of those parameters and buffers
    n_atoms: int = 0
    ties: list[tuple[Factor, Factor]] = field(default_factory=list)  # strong atoms, flat, pairwise
    follows: list[tuple[Factor, Factor]] = field(default_factory=list)  # atom of a buffer, what it meets
    frozen: list[tuple[Factor, str]] = field(default_factory=list)  # flat atoms, why
    splits: list[Split] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    normalised: list[tuple[Factor, str]] = field(default_factory=list)  # flat atoms, by which module
    inputs: dict[str, list[Factor]] = field(
        default_factory=dict
    )  # {layer: atoms [channels] of each call}
    outputs: dict[str, list[Factor]] = field(default_factory=dict)  # likewise of what it returns
    touched: dict[str, list[Factor]] = field(
        default_factory=dict
    )  # {module: flat atoms it handles itself}

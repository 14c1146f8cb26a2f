"""The starter table: for every condition that real bugs needed, a candidate that shows its fault there alone.

Its rows are the tags of kind "in" of the catalogue of historical bugs that the contract can express, and the pairs of
them that real bugs needed together. A candidate is a class named for what it does wrong, derived from its right twin,
in the file of its layer; its docstring says what it does, its row what it is modelled on: H for a published bug, M for
a mistake that people make by hand, "own" for neither. Where that shows under other conditions too, it is confined to
this one.

OP, the output padding of a transposed convolution, has no row: the contract has no transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from backproof.conformance.case import Case

T = TypeVar("T", bound=type)
Condition = Callable[[Case], bool]

#: The tags that the table must hold, and the pairs.
TAGS = """
    S ND CL G LEFT DIL EVAL HW LP NCD TILE BIG RS ONE EPS EXP NB N0 NCW K1 OFF AFF P PA CIO NCX ZV SK KE PK MX OVER N1
    LEFT+S G+S HW+S P+S G+HW DIL+S G+LEFT G+TILE G+ND HW+ND ND+S S+SK CL+ONE
"""


@dataclass(frozen=True)
class Row:
    """One condition, and a candidate that fails `caught_by` in the cases that are `revealing`, and nowhere else."""

    tag: str
    condition: str
    adapter: type
    layer: str
    dtypes: tuple[str, ...]
    revealing: Condition
    caught_by: frozenset[str]
    cause: str
    source: str

    @property
    def spec(self) -> str:
        """What names it as an adapter."""
        return specification(self.adapter)

    @property
    def twin(self) -> type:
        """The right implementation that it is a change of."""
        return self.adapter.__bases__[0]


ROWS: list[Row] = []


def specification(adapter: type) -> str:
    """What names a class as an adapter."""
    return f"{adapter.__module__}:{adapter.__name__}"


def reveals(tag: str, condition: str, revealing: Condition, caught_by: str, source: str) -> Callable[[T], T]:
    """Adds the class below to the table."""

    def collect(adapter: T) -> T:
        ROWS.append(
            Row(
                tag=tag,
                condition=condition,
                adapter=adapter,
                layer=adapter.__module__.rpartition(".")[2],
                dtypes=adapter.CONFORMANCE.get("dtypes", ("float64",)),
                revealing=revealing,
                caught_by=frozenset(caught_by.split()),
                cause=(adapter.__doc__ or "").strip(),
                source=source,
            )
        )
        return adapter

    return collect


class Axis(NamedTuple):
    """One spatial axis of a convolution."""

    size: int
    kernel: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def reach(self) -> int:
        """The pixels from the kernel's first tap to its last."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def remainder(self) -> int:
        """The pixels behind the last window."""
        return (self.size + self.low + self.high - self.reach) % self.stride


def axes(case: Case) -> list[Axis]:
    """The spatial axes of a convolution."""
    shapes, options = case.configuration.shapes, case.options
    padding = options["padding"]
    lows, highs = [low for low, _ in padding], [high for _, high in padding]
    return [
        Axis(*numbers)
        for numbers in zip(
            shapes["x"][2:], shapes["w"][2:], options["stride"], options["dilation"], lows, highs, strict=True
        )
    ]


def some(condition: Callable[[Axis], bool]) -> Condition:
    """Whether it holds for at least one spatial axis."""
    return lambda case: any(map(condition, axes(case)))


def every(condition: Callable[[Axis], bool]) -> Condition:
    """Whether it holds for all spatial axes."""
    return lambda case: all(map(condition, axes(case)))


def both(first: Condition, second: Condition) -> Condition:
    """Whether two conditions hold together."""
    return lambda case: first(case) and second(case)


def lies(array: str, *layouts: str) -> Condition:
    """Whether an array lies in memory in one of these layouts."""
    return lambda case: case.layouts.get(array) in layouts


def shape(case: Case, array: str) -> tuple[int, ...]:
    """The shape of an array that is there."""
    return case.configuration.shape(array)


#: The layouts that are no plain array's, and no expanded one's.
SCATTERED = (
    "Fortran",
    "channels last",
    "transposed",
    "batch transposed",
    "step slice",
    "offset slice",
    "negative stride",
    "negative stride, last axis",
)
#: Those with a stride of 0.
EXPANDED = (
    "zero stride",
    "zero stride, writable",
    "zero stride, last axis",
    "expanded over pixels",
    "expanded",
    "expanded, writable",
)

from . import batchnorm, conv, linear  # noqa: E402, F401

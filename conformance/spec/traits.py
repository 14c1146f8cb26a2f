"""Facts about a case, from which the rules of where an implementation fails are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration, Shape
from backproof.conformance.spec.contract import Contract
from backproof.conformance.spec.memory_layouts import LAYOUTS

#: By name: a bool is whether a condition holds, a number is a size or magnitude to compare.
Facts = Mapping[str, bool | int | float]

#: Layouts whose entries do not fill their buffer.
SLICES = ("step slice", "offset slice")


@dataclass(frozen=True)
class Traits:
    """A layer's facts about a case: from its configuration alone, and from the numbers in its arrays.

    The plainest come first. Numeric facts of a configuration are sizes, those of the arrays are magnitudes.
    """

    configuration: Callable[[Configuration], Facts]
    numbers: Callable[[Case], Facts]


def nothing(_: object) -> Facts:
    """No facts."""
    return {}


#: For a layer without facts of its own.
NONE = Traits(nothing, nothing)


def compared(sizes: Mapping[str, int], names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """How each two of these sizes compare."""
    for one, other in combinations(names, 2):
        first, second = sizes[one], sizes[other]
        yield f"{one} = {other}", first == second
        yield f"{one} != {other}", first != second
        yield f"{one} > {other}", first > second
        yield f"{one} < {other}", first < second


def of_dout(dout: Shape, out: Shape) -> Iterator[tuple[str, bool]]:
    """How the shape of dout compares with that of out."""
    yield "a dout of another shape than out", dout != out
    broadcasts = len(dout) == len(out) and all(one in (1, other) for one, other in zip(dout, out, strict=True))
    yield "a dout that broadcasts to out", dout != out and broadcasts


def numbers_of(arrays: Mapping[str, Array | None]) -> Iterator[tuple[str, bool | float]]:
    """Facts about the numbers of any array, under its name."""
    for name, a in arrays.items():
        if a is None or not a.size:
            continue
        least, most = float(a.min()), float(a.max())
        yield f"{name} is not zero", bool(least or most)
        yield f"a {name} of zeros", not (least or most)
        yield f"a 0 in {name}", bool((a == 0).any())
        yield f"a negative number in {name}", least < 0
        yield f"a number other than 1 in {name}", least != 1 or most != 1
        yield f"a number other than 0 and 1 in {name}", bool(((a != 0) & (a != 1)).any())
        yield f"a fraction in {name}", bool((np.rint(a) != a).any())
        for dtype in (np.float32, np.float16):
            with np.errstate(over="ignore"):
                yield f"{name} is rounded by {np.dtype(dtype).name}", bool((a.astype(dtype) != a).any())
        yield f"largest |{name}|", max(-least, most)


def in_memory(case: Case, first: str) -> Iterator[tuple[str, bool]]:
    """How the arrays of a case lie in memory, the most general condition first; `first` is the layer's first array."""
    for name, layout in case.layouts.items():
        array = case.arrays[name]
        if array is None:
            continue
        view = LAYOUTS[layout](array)
        expanded = any(size > 1 and stride == 0 for size, stride in zip(view.shape, view.strides, strict=True))
        apart = not view.flags.c_contiguous
        yield f"{name} is not contiguous", apart and not expanded
        yield f"{name} is expanded", expanded
        yield f"{name} is read-only", not view.flags.writeable
        yield f"{name} is no plain array", True
        yield f"{name} is not contiguous or a slice", (apart and not expanded) or layout in SLICES
        yield f"{name}: {layout}", True
    yield from ((f"an array: {layout}", True) for layout in dict.fromkeys(case.layouts.values()))
    if {first, "dout"} & set(case.layouts):
        yield f"{first} or dout is no plain array", True


def general(case: Case, contract: Contract) -> Iterator[tuple[str, bool]]:
    """Facts about a case of any layer, its memory first."""
    yield from in_memory(case, contract.arrays[0])
    for name, shape in case.configuration.shapes.items():
        yield f"no {name}", shape is None
        yield f"a {name}", shape is not None
    yield case.dtype, True
    yield "16 bits", case.precision.low

"""What a layer draws of a failing case for the page, and what it is given to draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backproof.conformance.spec.case import Array


@dataclass(frozen=True, eq=False)
class PicturedCase:
    """A failing case as a report has it, in the implementation's layout; arrays that are too large for it are None.

    `first` is the index of the first wrong entry of `tensor`, None where none is known. `orders` holds the permutation
    of each tensor whose axes stand in another order than the references have them. `identifier` begins the ids of what
    is drawn.
    """

    tensor: str
    first: tuple[int, ...] | None
    options: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...] | None]
    arrays: Mapping[str, Array | None]
    expected: Array | None
    orders: Mapping[str, tuple[int, ...]]
    identifier: str


@dataclass(frozen=True)
class Drawing:
    """One SVG element and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """What a layer shows of a failing case: a title, sentences, drawings and what the marks in them mean.

    `legend` pairs an SVG element for each mark with its meaning. `style` is the CSS of the drawings.
    """

    title: str
    sentences: tuple[str, ...]
    drawings: tuple[Drawing, ...]
    legend: tuple[tuple[str, str], ...] = ()
    style: str = ""

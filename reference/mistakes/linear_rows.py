"""A linear layer's arrays with their leading axes as one, and what the layer makes of changed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results


class Rows(NamedTuple):
    """x as (N, D), w (D, C), b (C,) or None, dout as (N, C); `lead` are the axes that N stands for."""

    x: Array
    w: Array
    b: Array | None
    dout: Array
    lead: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, D and C."""
        return len(self.x), self.x.shape[1], self.w.shape[1]

    def results(self) -> dict[str, Array]:
        """What right code has for these arrays."""
        found = {
            "out": self.stacked(self.x @ self.w + self.bias),
            "dx": self.stacked(self.dout @ self.w.T),
            "dw": self.x.T @ self.dout,
        }
        return found if self.b is None else {**found, "db": self.dout.sum(axis=0)}

    @property
    def bias(self) -> Array:
        """b, or zeros for none."""
        return np.zeros(self.w.shape[1]) if self.b is None else self.b

    def stacked(self, rows: Array) -> Array:
        """Rows with their leading axes again."""
        return rows.reshape(*self.lead, rows.shape[1])


def rows_of(case: Case) -> Rows:
    """A case's arrays."""
    x, w, dout = case.array("x"), case.array("w"), case.array("dout")
    lead = x.shape[:-1]
    rows = prod(lead)
    return Rows(x.reshape(rows, x.shape[-1]), w, case.wide.get("b"), dout.reshape(rows, dout.shape[-1]), lead)


Change = Callable[[Rows], Rows | None]
Made = Callable[[Rows], Mapping[str, Array] | None]


def made(sentence: str, tensors: str, make: Made) -> Mistake:
    """A mistake that has these tensors made in another way; a gradient of an array that is None is left out."""
    names = tuple(tensors.split())

    def gives(case: Case, right: Results) -> Results | None:
        found = make(rows_of(case))
        return None if found is None else {name: a for name, a in found.items() if name in names and name in right}

    return Mistake(sentence, names, gives)


def changed(sentence: str, tensors: str, change: Change) -> Mistake:
    """A mistake that works like right code on changed arrays."""

    def make(rows: Rows) -> Mapping[str, Array] | None:
        other = change(rows)
        return None if other is None else other.results()

    return made(sentence, tensors, make)


def scaled(sentence: str, tensors: str, factor: Callable[[Rows], float]) -> Mistake:
    """A mistake that multiplies right results by a number."""
    return made(sentence, tensors, lambda rows: {name: a * factor(rows) for name, a in rows.results().items()})


def in_whole_blocks(size: int, block: int) -> int:
    """How much of a size whole blocks cover; all of it where there is not even one."""
    return size // block * block if size > block else size


def each(values: Sequence[int], make: Callable[[int], Sequence[Mistake]]) -> tuple[Mistake, ...]:
    """The mistakes of all these values."""
    return tuple(mistake for value in values for mistake in make(value))

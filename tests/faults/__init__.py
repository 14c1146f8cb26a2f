"""Candidates with one fault each: a right implementation, changed in one place, and what must find it.

Each is a class named for what it does wrong, derived from its right twin, in the file of its layer; in all
else it keeps to the contract. The suite must fail exactly the checks in `caught_by`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Fault:
    """One candidate: `caught_by` are the checks that fail, `kinds` the kinds of their failures.

    `sometimes` are those that may fail as well, as the drawn cases fall. `source` is its entry in the catalogue of
    mistakes: H for a published one, M for one that people make by hand; "own" if it is in neither. `only_part` is the
    part that it is judged in, such as "conv2d".
    """

    name: str
    layer: str
    adapter: type
    caught_by: frozenset[str]
    sometimes: frozenset[str]
    kinds: frozenset[str]
    cause: str
    source: str
    only_part: str
    dtypes: tuple[str, ...]

    @property
    def spec(self) -> str:
        """What names it as an adapter."""
        return f"{self.adapter.__module__}:{self.name}"

    @property
    def twin(self) -> type:
        """The right implementation that it is a change of."""
        return self.adapter.__bases__[0]


FAULTS: list[Fault] = []


def fault(caught_by: str, kinds: str, source: str, sometimes: str = "") -> Callable[[T], T]:
    """Adds the class below to the faults; its docstring is the cause."""

    def collect(adapter: T) -> T:
        layer, declared = adapter.__module__.rpartition(".")[2], adapter.CONFORMANCE
        part = f"conv{declared['conv']['spatial_dims'][0]}d" if layer == "conv" else layer
        FAULTS.append(
            Fault(
                name=adapter.__name__,
                layer=layer,
                adapter=adapter,
                caught_by=frozenset(caught_by.split()),
                sometimes=frozenset(sometimes.split()),
                kinds=frozenset(kinds.split()),
                cause=(adapter.__doc__ or "").strip(),
                source=source,
                only_part=part,
                dtypes=declared.get("dtypes", ("float64",)),
            )
        )
        return adapter

    return collect


from . import batchnorm, conv, linear  # noqa: E402, F401

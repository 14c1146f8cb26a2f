"""What an adapter may offer for one layer: the names that its forward may have and the settings of its constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

#: How an option's value may be written, and so what its annotation is read for. "axes": one int, or one int for
#: each spatial axis. "pairs": one int, one int an axis, or (low, high) an axis. "literal": a string of a fixed set.
#: "plain": the annotation is not read.
Reading = Literal["axes", "pairs", "literal", "plain"]


@dataclass(frozen=True)
class Option:
    """One option of a forward, passed by keyword.

    `neutral` is the value that holds where the forward lacks the parameter. `choices` are the strings of a
    "literal" option, the plainest first.
    """

    name: str
    neutral: Any
    reading: Reading = "plain"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One key of CONFORMANCE: its default and the values that are allowed.

    `kind` is "choice" (one of `allowed`), "subset" (a non-empty tuple of different members of `allowed`),
    "at_least" (a non-empty tuple of different ints, none below `minimum`), "flag" (a bool), "positive" (a float
    above 0) or "fraction" (a float from 0 to 1).
    """

    default: Any
    kind: Literal["choice", "subset", "at_least", "flag", "positive", "fraction"]
    allowed: tuple[Any, ...] = ()
    minimum: int = 0


@dataclass(frozen=True)
class Contract:
    """The forward/backward pair of one layer, as an adapter may write it.

    `arrays` go by position in this order; the first `unnamed` of them are required and may have any name, the others
    are known by theirs and may be left out. `state` (running statistics) goes by keyword, all of it or none; what of it
    is `nonnegative` never holds a negative number.
    """

    layer: str
    arrays: tuple[str, ...]
    unnamed: int
    options: tuple[Option, ...] = ()
    state: tuple[str, ...] = ()
    nonnegative: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of the gradients, in the arrays' order: "dx", "dw", "db"."""
        return tuple(f"d{name}" for name in self.arrays)

    def option(self, name: str) -> Option | None:
        """The option of this name, None where the contract has none."""
        return next((option for option in self.options if option.name == name), None)


@dataclass(frozen=True)
class Signature:
    """What a forward takes, in the words of its contract and in the contract's order.

    `nullable` arrays have a default of None: None is drawn for them. `by_keyword` arrays cannot go by
    position. `options` leave out the state (the running statistics), which `state` says to be taken or not.
    `spellings` hold, for each taken option that can be written in several ways, the ways that its annotation
    allows, the plainest first: "int" (one int), "axes" (an int for each axis), "pairs" ((low, high) for each
    axis), or the strings of a literal option. `left_alone` are the unknown parameters with a default.
    """

    arrays: tuple[str, ...]
    nullable: frozenset[str]
    by_keyword: frozenset[str]
    options: tuple[str, ...]
    state: bool
    spellings: Mapping[str, tuple[str, ...]]
    left_alone: tuple[str, ...]


#: The keys of CONFORMANCE that belong to no layer.
GENERAL_SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "dtypes": Setting(("float64",), "subset", ("float64", "float32", "float16", "bfloat16")),
        "exact": Setting(True, "flag"),
        "rejects": Setting(False, "flag"),
        "reusable_cache": Setting(True, "flag"),
    }
)

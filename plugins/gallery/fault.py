"""What is known of a fault: where it shows, what must find it, why it is wrong and who made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

from backproof.plugins.gallery.conditions import Condition

T = TypeVar("T", bound=type)

#: What a case, or the way in which it is asked, must have for a fault to show, and the group that each belongs to. The
#: names are those of the survey of 207 published bugs that the gallery was made from.
NEEDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "S": ("windows", "a stride above 1"),
        "LEFT": ("windows", "pixels left over behind the last window"),
        "DIL": ("windows", "a dilation above 1"),
        "G": ("windows", "several groups"),
        "HW": ("windows", "axes that differ"),
        "P": ("windows", "padding"),
        "PA": ("windows", "asymmetric padding"),
        "PK": ("windows", "more padding than the dilated kernel reaches"),
        "PM": ("windows", "a padding mode other than zeros"),
        "SK": ("windows", "a stride larger than the kernel"),
        "K1": ("windows", "a kernel of size 1"),
        "KE": ("windows", "an even kernel"),
        "OVER": ("windows", "windows that overlap"),
        "ND": ("sizes", "one or three spatial axes, or several leading ones"),
        "TILE": ("sizes", "a size that whole tiles do not cover"),
        "BIG": ("sizes", "a large batch"),
        "NB": ("sizes", "several samples"),
        "N1": ("sizes", "one element a channel"),
        "N0": ("sizes", "an empty batch"),
        "CIO": ("sizes", "several channels or filters"),
        "CL": ("memory", "another data layout"),
        "NCX": ("memory", "an x that is not contiguous"),
        "NCW": ("memory", "parameters that are not contiguous"),
        "NCD": ("memory", "a dout that is not contiguous"),
        "EXP": ("memory", "an expanded array"),
        "ONE": ("memory", "axes of size 1"),
        "INP": ("memory", "arrays that are looked at after the call"),
        "EVAL": ("state", "eval mode"),
        "RS": ("state", "running statistics"),
        "AFF": ("state", "no gamma, beta or bias"),
        "REP": ("state", "more than one call"),
        "MIS": ("state", "a case without meaning"),
        "LP": ("numerics", "16 bits"),
        "MX": ("numerics", "another dtype than float64"),
        "EPS": ("numerics", "an eps other than 1e-5"),
        "OFF": ("numerics", "a mean far from zero"),
        "ZV": ("numerics", "a channel without variance"),
        "COT": ("numerics", "particular numbers in dout or x"),
        "GEN": ("plain", "parameters that are not 0 or 1"),
        "FWD": ("plain", "a look at out: the gradients are those of the wrong out"),
    }
)


@dataclass(frozen=True)
class Measured:
    """What `python benchmarks/gallery.py measure` has found out about a fault, and the conditions that it needs.

    `kinds` are the kinds of the failures. `needs` are the conditions that it takes for the fault to show, by the names
    of NEEDS. `smallest` is the smallest case in which its first item fails: the shapes of x and w (in batch norm of x
    alone) and the options that are not plain; None where there is no enumerating what is smaller. `sometimes` are items
    that no decorator names and that fail as well, as the drawn cases fall.
    """

    kinds: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    smallest: Mapping[str, Any] | None = None
    sometimes: frozenset[str] = frozenset()


@cache
def measured() -> dict[str, Measured]:
    """What is measured of each fault, by its name: the file measured.json, which is read at the first call."""
    lines = json.loads(files(__package__).joinpath("measured.json").read_text(encoding="utf-8"))
    return {
        name: Measured(
            kinds=frozenset(line["kinds"]),
            needs=tuple(line["needs"]),
            smallest=_as_tuples(line["smallest"]),
            sometimes=frozenset(line["sometimes"]),
        )
        for name, line in lines.items()
    }


def _as_tuples(value: Any) -> Any:
    """What JSON keeps as lists, as tuples."""
    if isinstance(value, dict):
        return {name: _as_tuples(inner) for name, inner in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Fault:
    """One faulty implementation.

    `trigger` holds on every case in which it shows. `caught_by` are the items that must fail, the one that tells most
    about it first; those of `sometimes` may fail as well; every other item passes. `source` names each entry of the
    survey that it is modelled on (H: a published bug, with its thread; M: a mistake that people make by hand), or says
    "own". What is measured of it is read when somebody asks for it.
    """

    name: str
    layer: str
    adapter: type
    trigger: Condition
    caught_by: tuple[str, ...]
    cause: str
    source: str

    @property
    def measured(self) -> Measured:
        """What is measured of it; nothing, if that was never done."""
        return measured().get(self.name, Measured())

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its failures."""
        return self.measured.kinds

    @property
    def needs(self) -> tuple[str, ...]:
        """The conditions that it needs, by the names of NEEDS."""
        return self.measured.needs

    @property
    def smallest(self) -> Mapping[str, Any] | None:
        """The smallest case in which its first item fails."""
        return self.measured.smallest

    @property
    def sometimes(self) -> frozenset[str]:
        """The items that may fail as well."""
        return self.measured.sometimes

    @property
    def spec(self) -> str:
        """What names it as an adapter."""
        return specification(self.adapter)

    @property
    def base(self) -> type:
        """The right implementation that it is a change of."""
        return self.adapter.__bases__[-1]

    @property
    def base_spec(self) -> str:
        """What names the right implementation as an adapter."""
        return f"{self.base.__module__}:{self.base.__name__}"

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Those that it declares."""
        return tuple(getattr(self.adapter, "CONFORMANCE", {}).get("dtypes", ("float64",)))

    @property
    def groups(self) -> frozenset[str]:
        """The groups of its needs; "plain" where plain cases show it."""
        return frozenset(NEEDS[need][0] for need in self.needs) - {"plain"} or frozenset({"plain"})


@dataclass(frozen=True)
class Equivalent:
    """One implementation that looks wrong and is right; `why` it is."""

    name: str
    adapter: type
    layers: tuple[str, ...]
    why: str
    source: str

    @property
    def spec(self) -> str:
        """What names it as an adapter."""
        return specification(self.adapter)


FAULTS: list[Fault] = []
EQUIVALENTS: list[Equivalent] = []


def specification(adapter: type) -> str:
    """What names a class of the gallery as an adapter."""
    return f"{__package__}:{adapter.__name__}"


def layers_of(adapter: type) -> tuple[str, ...]:
    """The layers that a class implements."""
    return tuple(layer for layer in ("linear", "conv", "batchnorm") if hasattr(adapter, f"{layer}_forward"))


def fault(caught_by: str, trigger: Condition, *, source: str) -> Callable[[T], T]:
    """Adds the class below to the gallery; its docstring is the cause. See Fault for the rest."""

    def collect(adapter: T) -> T:
        (layer,) = layers_of(adapter)
        cause = " ".join((adapter.__doc__ or "").split())
        FAULTS.append(Fault(adapter.__name__, layer, adapter, trigger, tuple(caught_by.split()), cause, source))
        return adapter

    return collect


def equivalent(source: str) -> Callable[[T], T]:
    """Adds the class below to those that look wrong and are right; its docstring says why."""

    def collect(adapter: T) -> T:
        why = " ".join((adapter.__doc__ or "").split())
        EQUIVALENTS.append(Equivalent(adapter.__name__, adapter, layers_of(adapter), why, source))
        return adapter

    return collect

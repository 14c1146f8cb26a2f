"""An item as it was judged and explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.judging.item import Item, Outcome
from backproof.conformance.judging.properties import Property


@dataclass(frozen=True, eq=False)
class ItemResult:
    """What became of an item.

    `reason` says why it was skipped; `refused` how often, and where, it was refused. `duration` is in seconds.
    """

    item: Item
    outcome: Outcome
    judged: int
    unsupported: int
    unjudged: int
    duration: float
    counterexamples: Sequence[Counterexample] = ()
    reason: str | None = None
    refused: str | None = None
    property_: Property = field(kw_only=True)

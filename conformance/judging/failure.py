"""What failed, as judging hands it over to whoever explains it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.item_cases import FailedCase, ItemCases
from backproof.conformance.judging.properties import Property
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Kind

#: Kinds of failure that one item reports, each with a case of its own.
MOST_KINDS = 3


@dataclass(frozen=True, eq=False)
class Failure:
    """One item that fails in one kind: all that was judged of it, the property that it breaks, and who breaks it.

    `part` has what was judged of the other items, and judges more cases where they are asked for.
    """

    item: Item
    kind: Kind
    property_: Property
    candidate: Candidate
    cases: ItemCases
    part: PartRunner

    @cached_property
    def failed(self) -> list[FailedCase]:
        """The cases that fail in this kind, as they were judged."""
        return self.cases.of_kind(self.kind)

    @cached_property
    def smallest_first(self) -> list[FailedCase]:
        """The same by the size of their configurations."""
        return sorted(self.failed, key=lambda entry: entry.case.configuration.size)

    @cached_property
    def smallest(self) -> FailedCase:
        """The smallest of them, with the plainest numbers."""
        return min(self.failed, key=lambda entry: entry.case.key)

    @property
    def passed(self) -> list[Case]:
        """The cases in which the item is right."""
        return self.cases.passed


def failures(part: PartRunner, item: Item) -> tuple[Failure, ...]:
    """The failures of an item, the most frequent kind first; none where it passes."""
    return tuple(failure(part, item, kind) for kind in part.item_cases(item.check).kinds()[:MOST_KINDS])


def failure(part: PartRunner, item: Item, kind: Kind) -> Failure:
    """The failure of an item in one kind."""
    return Failure(item, kind, part.property_of(item.check), part.candidate, part.item_cases(item.check), part)

"""What is counted of one item's cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Kind, Status


class FailedCase(NamedTuple):
    """A case in which an item fails, what is right in it, and what is wrong."""

    case: Case
    reference: Reference
    discrepancy: Discrepancy


@dataclass
class ItemCases:
    """What became of one item's cases, in the order in which they were judged."""

    counts: Counter[Status] = field(default_factory=Counter)
    failed: list[FailedCase] = field(default_factory=list)
    passed: list[Case] = field(default_factory=list)
    refused: list[Case] = field(default_factory=list)
    #: How many of the judged cases were kept from earlier runs.
    kept: int = 0

    @property
    def examples(self) -> int:
        """The swept and drawn cases among those judged."""
        return self.judged - self.kept

    @property
    def judged(self) -> int:
        """The cases in which the item was right or wrong."""
        return self.counts[Status.RIGHT] + len(self.failed)

    @property
    def accepted(self) -> list[Case]:
        """The cases that were not refused: those that passed, then those that failed."""
        return [*self.passed, *(entry.case for entry in self.failed)]

    def of_kind(self, kind: Kind) -> list[FailedCase]:
        """The cases that fail in one kind."""
        return [entry for entry in self.failed if entry.discrepancy.kind == kind]

    def kinds(self) -> list[Kind]:
        """The kinds of failure, the most frequent first."""
        return [kind for kind, _ in Counter(entry.discrepancy.kind for entry in self.failed).most_common()]

    def add(self, case: Case, reference: Reference, judged: Status | Discrepancy) -> None:
        """Counts one case."""
        if case.origin == "kept" and (judged is Status.RIGHT or isinstance(judged, Discrepancy)):
            self.kept += 1
        if isinstance(judged, Discrepancy):
            self.failed.append(FailedCase(case, reference, judged))
            return
        self.counts[judged] += 1
        if judged is Status.RIGHT:
            self.passed.append(case)
        elif judged is Status.UNSUPPORTED:
            self.refused.append(case)

"""What is counted of one item's cases, and what is known of the smallest that fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status


@dataclass
class ItemCases:
    """What became of one item's cases."""

    counts: Counter[Status] = field(default_factory=Counter)
    failed: list[tuple[Case, Reference, Discrepancy]] = field(default_factory=list)
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

    def add(self, case: Case, reference: Reference, judged: Status | Discrepancy) -> None:
        """Counts one case."""
        if case.origin == "kept" and (judged is Status.RIGHT or isinstance(judged, Discrepancy)):
            self.kept += 1
        if isinstance(judged, Discrepancy):
            self.failed.append((case, reference, judged))
            return
        self.counts[judged] += 1
        if judged is Status.RIGHT:
            self.passed.append(case)
        elif judged is Status.UNSUPPORTED:
            self.refused.append(case)

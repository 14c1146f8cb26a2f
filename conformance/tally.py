"""What is counted of one item's cases, and what is known of the smallest that fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from backproof.conformance.case import Case
from backproof.conformance.law import Law
from backproof.conformance.verdict import Discrepancy, Status


@dataclass(frozen=True, eq=False)
class Counterexample:
    """The smallest failing case found for one item and one kind of failure.

    `region` is where it fails, in words, and `failed` and `passed` are what that was held against; without one they are
    the cases that were judged.

    `proved`: every configuration with meaning that is smaller was judged with every fill, and none failed alike; else
    `smaller_cases` says how many were.
    """

    discrepancy: Discrepancy
    case: Case
    law: Law
    proved: bool
    smaller_cases: int
    region: str | None
    failed: int
    passed: int
    #: In how many of the passing cases the region holds too: it is then only where all failures lie.
    inside: int = 0
    #: Whether `failed`, `passed` and `inside` count configurations: some numbers hide the fault.
    configurations: bool = False
    #: False where the case failed once and did not when it was asked again.
    steady: bool = True
    #: Whether every number is 0, or 1, or fails no more when it is made plainer.
    plain: bool = False
    #: What explains it, in sentences, the simplest first; all that fit.
    diagnosis: tuple[str, ...] = ()
    #: The numbered step of the layer's textbook page whose gradient is at fault.
    step: str | None = None
    #: Where the error sits and how large it is, in sentences, where nothing explains it.
    site: tuple[str, ...] = ()
    #: Why it was not made smaller and explained; None: it was.
    unexplained: str | None = None


@dataclass
class Tally:
    """What became of one item's cases."""

    counts: Counter[Status] = field(default_factory=Counter)
    failed: list[tuple[Case, Law, Discrepancy]] = field(default_factory=list)
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

    def add(self, case: Case, law: Law, judged: Status | Discrepancy) -> None:
        """Counts one case."""
        if case.origin == "kept" and (judged is Status.RIGHT or isinstance(judged, Discrepancy)):
            self.kept += 1
        if isinstance(judged, Discrepancy):
            self.failed.append((case, law, judged))
            return
        self.counts[judged] += 1
        if judged is Status.RIGHT:
            self.passed.append(case)
        elif judged is Status.UNSUPPORTED:
            self.refused.append(case)

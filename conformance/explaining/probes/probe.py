"""What can be behind a failure that is no tensor's value: memory, calls, shapes, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy


@dataclass(frozen=True, eq=False)
class FailingCase:
    """One failing case of one item, and what was found there."""

    check: str
    case: Case
    reference: Reference
    candidate: Candidate
    found: Discrepancy


@dataclass(frozen=True)
class Probe:
    """One way to fail that shows in the failure itself, or in further calls of the candidate.

    `sentence` may have "{tensor}" in it, the discrepancy's. `checks` are the items that it can explain, empty: any.
    `holds` must be true of every failing case for the probe to be told, and be false wherever something else is
    the cause. `of_accuracy`: the tensor is right, but for its rounding; what holds results against each other fails by
    it too.
    """

    sentence: str
    checks: tuple[str, ...]
    holds: Callable[[FailingCase], bool]
    of_accuracy: bool = False

"""What a probe looks at: one failing case, and the implementation, to call it again."""

from __future__ import annotations

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

"""What holds between a layer's own results."""

from __future__ import annotations

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.answers import asked, item, slacks
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status


@item
def identities(case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
    """The layer's results agree with each other as its algebra demands, with no reference in between."""
    case = reference.layer.homogeneous(case)
    results = asked(case, candidate, reference)
    judged = False
    for identity in reference.layer.identities(case, results, slacks(results, case, reference)):
        judged = True
        must = f"must equal {identity.equals} =" if identity.equals else "must be"
        found = compare(
            identity.claim, identity.left, identity.right, identity.allowed, np.dtype(np.float64), must=must
        )
        if found is not None:
            return Discrepancy(found.kind, identity.tensor, found.message, found.expected, found.got)
    return Status.RIGHT if judged else Status.LEFT_OUT

"""What holds between a layer's own results."""

from __future__ import annotations

import numpy as np

from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Case
from backproof.conformance.law import Law
from backproof.conformance.properties.answers import asked, item, slacks
from backproof.conformance.verdict import Discrepancy, Status, compare


@item
def identities(case: Case, candidate: Candidate, law: Law) -> Discrepancy | Status:
    """The layer's results agree with each other as its algebra demands, with no reference in between."""
    case = law.layer.homogeneous(case)
    results = asked(case, candidate, law)
    judged = False
    for identity in law.layer.identities(case, results, slacks(results, case, law)):
        judged = True
        must = f"must equal {identity.equals} =" if identity.equals else "must be"
        found = compare(
            identity.claim, identity.left, identity.right, identity.allowed, np.dtype(np.float64), must=must
        )
        if found is not None:
            return Discrepancy(found.kind, identity.tensor, found.message, found.expected, found.got)
    return Status.RIGHT if judged else Status.LEFT_OUT

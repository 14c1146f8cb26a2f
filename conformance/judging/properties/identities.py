"""What holds between a layer's own results."""

from __future__ import annotations

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import OneItem, overrides
from backproof.conformance.judging.properties.several_calls import results_of, tolerances_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status


class Identities(OneItem):
    """The layer's results agree with each other as its algebra demands, with no reference in between."""

    name = "identities"
    columns = ("must equal", "is")
    compares_calls = True
    follows_tensors = True

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has any."""
        return overrides(candidate.layer, "identities")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Puts one call's results into the layer's identities."""
        case = reference.layer.homogeneous(case)
        results = results_of(case, candidate, reference)
        judged = False
        for identity in reference.layer.identities(case, results, tolerances_of(results, case, reference)):
            judged = True
            must = f"must equal {identity.equals} =" if identity.equals else "must be"
            found = compare(
                identity.claim, identity.left, identity.right, identity.allowed, np.dtype(np.float64), must=must
            )
            if found is not None:
                return Discrepancy(found.kind, identity.tensor, found.message, found.expected, found.got)
        return Status.RIGHT if judged else Status.LEFT_OUT

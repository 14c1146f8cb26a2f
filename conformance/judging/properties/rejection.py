"""What has no meaning gets no answer."""

from __future__ import annotations

from backproof.conformance.adapter.candidate import Candidate, Crashed, Refused
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Judgement, Status


def rejection(case: Case, candidate: Candidate, reference: Reference) -> Judgement:
    """A case without meaning raises an error: in the forward, or for a dout of another shape in the backward."""
    assert case.flaw is not None
    function, tensor = f"{candidate.layer.name}_forward", "out"
    try:
        forward = candidate.forward(case)
        if case.flaw.in_backward:
            function, tensor = f"{candidate.layer.name}_backward", "dx"
            candidate.backward(case, forward)
    except (Crashed, Refused):
        return {"rejection": Status.RIGHT}
    sentence = f"{function} accepts {case.flaw.words}. Such a case has no meaning: it must raise an error."
    return {"rejection": Discrepancy("accepted", tensor, sentence)}

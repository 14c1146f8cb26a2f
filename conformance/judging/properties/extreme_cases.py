"""Results where a layer is hard to compute: wrong there, and right in a plain case of the same options."""

from __future__ import annotations

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter
from backproof.conformance.judging.properties.tensors import TENSORS
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy, Status


class ExtremeCases(OneItem):
    """The results of a list of cases are right, where those of plain cases are."""

    judges_results = True
    is_listed = True

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """What is wrong here and right in a plain case of the same options; elsewhere it is another item's failure."""
        found = TENSORS.judge(case, candidate, reference)
        wrong = {name: judged for name, judged in found.items() if isinstance(judged, Discrepancy)}
        if wrong:
            plain = _plain(case, reference)
            away = TENSORS.judge(plain, candidate, reference) if plain is not None else {}
            for name, judged in wrong.items():
                other = away.get(name)
                if not isinstance(other, Discrepancy) or other.kind != judged.kind:
                    return judged
            return Status.LEFT_OUT
        for status in (Status.RIGHT, Status.UNSUPPORTED, Status.UNJUDGED):
            if status in found.values():
                return status
        return Status.LEFT_OUT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares the result that is wrong with what it must be."""
        return TENSORS.script(writer, item)


def _plain(case: Case, reference: Reference) -> Case | None:
    """The case with plain numbers, and with two samples wherever it has none or one."""
    parameters = reference.layer.with_samples(case.configuration.parameters)
    configuration = reference.layer.build(parameters, reference.space)
    return None if configuration is None else next(iter(reference.layer.fills(configuration, reference.space)))

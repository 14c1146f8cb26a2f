"""One thing, asked in two ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.property import OneItem, overrides
from backproof.conformance.judging.properties.several_calls import difference, results_of, tolerances_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Relation
from backproof.conformance.spec.results import Discrepancy, Status


class Relations(OneItem):
    """One thing asked in two ways gets one answer: a split batch, explicit padding, groups as a dense layer."""

    name = "relations"
    columns = ("asked so", "plain call")
    #: They ask other shapes than the case's own.
    one_of = 3
    compares_calls = True
    follows_tensors = True

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has any."""
        return overrides(candidate.layer, "relations")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares the answer to a case with what its parts' answers come to."""
        others = {
            name: replace(reference.space, signature=implementation.signature, settings=implementation.settings)
            for name, implementation in candidate.adapter.implementations.items()
        }
        whole, judged = None, False
        for relation in reference.layer.relations(case, reference.space, others):
            whole = results_of(case, candidate, reference) if whole is None else whole
            answer = _joined(relation, candidate, reference)
            if answer is None:
                continue
            joined, tolerances = answer
            own = tolerances_of(whole, case, reference)
            for tensor in [name for name in whole if name in joined and name in own]:
                judged = True
                must = f"but {relation.words} gives"
                tolerance = np.asarray(tolerances[tensor] + own[tensor])
                found = difference(tensor, whole[tensor], joined[tensor], tolerance, candidate, must)
                if found is not None:
                    return found
        return Status.RIGHT if judged else Status.LEFT_OUT


def _joined(
    relation: Relation, candidate: Candidate, reference: Reference
) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """The parts' answers put together, and their tolerances; None where a part has none for some tensor."""
    if relation.layer is not None and relation.space is not None:
        implementation = candidate.adapter.implementations[relation.layer.name]
        candidate = Candidate(candidate.adapter, implementation, relation.layer)
        reference = Reference(relation.layer, relation.space)
    answers, tolerances = [], []
    for part in relation.parts:
        results = results_of(part, candidate, reference)
        own = tolerances_of(results, part, reference)
        answers.append({tensor: a for tensor, a in results.items() if tensor in own})
        tolerances.append({t: np.broadcast_to(np.asarray(own[t], np.float64), a.shape) for t, a in answers[-1].items()})
    if any(answer.keys() != answers[0].keys() for answer in answers):
        return None
    return relation.join(answers), relation.join(tolerances)

"""One thing, asked in two ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.answers import asked, differ, item, slacks
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Relation
from backproof.conformance.spec.results import Discrepancy, Status


@item
def relations(case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
    """One thing asked in two ways gets one answer: a split batch, explicit padding, groups as a dense layer."""
    others = {
        name: replace(reference.space, signature=implementation.signature, settings=implementation.settings)
        for name, implementation in candidate.adapter.implementations.items()
    }
    whole, judged = None, False
    for relation in reference.layer.relations(case, reference.space, others):
        whole = asked(case, candidate, reference) if whole is None else whole
        answer = _joined(relation, candidate, reference)
        if answer is None:
            continue
        joined, room = answer
        own = slacks(whole, case, reference)
        for tensor in [name for name in whole if name in joined and name in own]:
            judged = True
            must = f"but {relation.words} gives"
            allowed = np.asarray(room[tensor] + own[tensor])
            found = differ(tensor, whole[tensor], joined[tensor], allowed, candidate, must)
            if found is not None:
                return found
    return Status.RIGHT if judged else Status.LEFT_OUT


def _joined(
    relation: Relation, candidate: Candidate, reference: Reference
) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """The parts' answers put together, and their slack; None where a part has none for some tensor."""
    if relation.layer is not None and relation.space is not None:
        implementation = candidate.adapter.implementations[relation.layer.name]
        candidate = Candidate(candidate.adapter, implementation, relation.layer)
        reference = Reference(relation.layer, relation.space)
    answers, rooms = [], []
    for part in relation.parts:
        results = asked(part, candidate, reference)
        room = slacks(results, part, reference)
        answers.append({tensor: a for tensor, a in results.items() if tensor in room})
        rooms.append({t: np.broadcast_to(np.asarray(room[t], np.float64), a.shape) for t, a in answers[-1].items()})
    if any(answer.keys() != answers[0].keys() for answer in answers):
        return None
    return relation.join(answers), relation.join(rooms)

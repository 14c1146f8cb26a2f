"""One thing, asked in two ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Array, Case
from backproof.conformance.law import Law
from backproof.conformance.layer import Relation
from backproof.conformance.properties.answers import asked, differ, item, slacks
from backproof.conformance.verdict import Discrepancy, Status


@item
def relations(case: Case, candidate: Candidate, law: Law) -> Discrepancy | Status:
    """One thing asked in two ways gets one answer: a split batch, explicit padding, groups as a dense layer."""
    others = {
        name: replace(law.space, signature=implementation.signature, settings=implementation.settings)
        for name, implementation in candidate.adapter.implementations.items()
    }
    whole, judged = None, False
    for relation in law.layer.relations(case, law.space, others):
        whole = asked(case, candidate, law) if whole is None else whole
        answer = _joined(relation, candidate, law)
        if answer is None:
            continue
        joined, room = answer
        own = slacks(whole, case, law)
        for tensor in [name for name in whole if name in joined and name in own]:
            judged = True
            must = f"but {relation.words} gives"
            allowed = np.asarray(room[tensor] + own[tensor])
            found = differ(tensor, whole[tensor], joined[tensor], allowed, candidate, must)
            if found is not None:
                return found
    return Status.RIGHT if judged else Status.LEFT_OUT


def _joined(relation: Relation, candidate: Candidate, law: Law) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """The parts' answers put together, and their slack; None where a part has none for some tensor."""
    if relation.layer is not None and relation.space is not None:
        implementation = candidate.adapter.implementations[relation.layer.name]
        candidate = Candidate(candidate.adapter, implementation, relation.layer)
        law = Law(relation.layer, relation.space)
    answers, rooms = [], []
    for part in relation.parts:
        results = asked(part, candidate, law)
        room = slacks(results, part, law)
        answers.append({tensor: a for tensor, a in results.items() if tensor in room})
        rooms.append({t: np.broadcast_to(np.asarray(room[t], np.float64), a.shape) for t, a in answers[-1].items()})
    if any(answer.keys() != answers[0].keys() for answer in answers):
        return None
    return relation.join(answers), relation.join(rooms)

"""Why it fails: the known mistakes and suspicions that account for every failing case that was judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from backproof.conformance.acting import Acting
from backproof.conformance.case import Array, Case
from backproof.conformance.mistake import Incident, Mistake, Results, Suspicion
from backproof.conformance.properties import COMPARING, OTHERS, RESULTS
from backproof.conformance.properties.answers import room_of_wrong
from backproof.conformance.site import site
from backproof.conformance.suspicions import SUSPICIONS
from backproof.conformance.verdict import Discrepancy

if TYPE_CHECKING:
    from backproof.conformance.candidate import Candidate
    from backproof.conformance.law import Law

#: So many failing and passing cases a mistake has to account for.
MOST_FAILING, MOST_PASSING = 40, 200
#: Suspicions may ask the candidate again: of fewer cases.
MOST_INCIDENTS = 12
#: A mistake that is told shows in at least one case by so many times what rounding may be.
CLEARLY = 4.0

T = TypeVar("T")

Failing = tuple[Case, "Law", Discrepancy]
Passing = tuple[Case, "Law"]


@dataclass(frozen=True)
class Diagnosis:
    """All that fit, the simplest first, and where the error sits, if none does."""

    sentences: tuple[str, ...] = ()
    step: str | None = None
    site: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """One item in one kind of failure: the smallest failing case first, other failing ones, and passing ones."""

    check: str
    candidate: Candidate
    failing: Sequence[Failing]
    passing: Sequence[Passing]


def diagnose(evidence: Evidence, named: Sequence[Mistake], until: float) -> Diagnosis:
    """What explains an item's failures; `named` are the mistakes that explain the tensors of the same part.

    Stops when `until`, of the monotonic clock, has come: what has not been tried is not named.
    """
    first = evidence.failing[0]
    tensor = first[2].tensor or evidence.check
    catalogue: Sequence[Mistake] = ()
    if evidence.check in COMPARING:
        mistakes = [mistake for mistake in named if monotonic() < until and _played(mistake, evidence)]
    else:
        if evidence.check not in OTHERS or evidence.check in RESULTS:
            catalogue = first[1].layer.mistakes()
        mistakes = list(_matching(catalogue, evidence, until))
    sentences = [mistake.sentence.replace("{tensor}", tensor) for mistake in mistakes]
    if not mistakes:
        told = [suspicion for suspicion in SUSPICIONS if monotonic() < until and _holds(suspicion, evidence)]
        sentences = [suspicion.sentence.replace("{tensor}", tensor) for suspicion in told]
    step = next((mistake.step for mistake in mistakes if mistake.step), None)
    where = () if sentences else site(evidence.candidate, evidence.failing)
    return Diagnosis(tuple(dict.fromkeys(sentences)), step, where, tuple(mistakes))


def _matching(catalogue: Sequence[Mistake], evidence: Evidence, until: float) -> Iterator[Mistake]:
    """The mistakes that give the candidate's result wherever it fails, and the right one wherever it passes."""
    seen = [wrong for failing in _sample(evidence.failing, MOST_FAILING) if (wrong := _wrong(failing, evidence))]
    if len(seen) < min(len(evidence.failing), MOST_FAILING):
        return
    passing = _sample(evidence.passing, MOST_PASSING)
    for mistake in catalogue:
        if monotonic() >= until:
            return
        tensors = {wrong.tensor for wrong in seen}
        if not tensors.issubset(mistake.tensors):
            continue
        found = [wrong.given_by(mistake) for wrong in _until_none(seen, mistake)]
        if len(found) < len(seen) or None in found or not any(found):
            continue
        if all(_gives_right(mistake, evidence.check, case, law) for case, law in passing):
            yield mistake


def _until_none(seen: Sequence[_Wrong], mistake: Mistake) -> Iterator[_Wrong]:
    for wrong in seen:
        if wrong.given_by(mistake) is None:
            return
        yield wrong


@dataclass(frozen=True, eq=False)
class _Wrong:
    """One wrong result, in the references' layout, and how far off rounding may have it."""

    case: Case
    tensor: str
    got: Array
    right: Results
    room: float

    def given_by(self, mistake: Mistake) -> bool | None:
        """Whether the mistake gives this result, clearly another one than the right one; None: it does not."""
        given = _given(mistake, self.case, self.right)
        result = None if given is None else given.get(self.tensor)
        if result is None or result.shape != self.got.shape or not _alike(result, self.got, self.room):
            return None
        right = self.right[self.tensor]
        if right.shape != result.shape or not (np.isfinite(result) == np.isfinite(right)).all():
            return True
        difference = float(np.nanmax(np.abs(result - right), initial=0.0))
        return None if difference == 0 else difference > CLEARLY * self.room


def _wrong(failing: Failing, evidence: Evidence) -> _Wrong | None:
    case, law, found = failing
    tensor = found.tensor or evidence.check
    right = law.right(case).tensors
    if found.got is None or tensor not in right:
        return None
    got = found.got
    if got.ndim == right[tensor].ndim:
        got = evidence.candidate.in_reference(tensor, got)
    finite = np.where(np.isfinite(got), got, 0.0)
    return _Wrong(case, tensor, got, right, room_of_wrong(tensor, finite, case, law))


def _gives_right(mistake: Mistake, check: str, case: Case, law: Law) -> bool:
    """Whether a mistake leaves a tensor right in a case in which the candidate has it right."""
    right = law.right(case)
    given = _given(mistake, case, right.tensors)
    for tensor in mistake.tensors if check in RESULTS else (check,):
        result = None if given is None else given.get(tensor)
        bound = right.bounds.get(tensor)
        if result is None or bound is None:
            continue
        expected = right.tensors[tensor]
        if result.shape != expected.shape:
            return False
        room = np.asarray(bound) + room_of_wrong(tensor, np.zeros(()), case, law)
        if not bool((np.abs(result - expected) <= room).all()):
            return False
    return True


def _given(mistake: Mistake, case: Case, right: Results) -> Results | None:
    with np.errstate(all="ignore"):
        return mistake.gives(case, right)


def _alike(result: Array, got: Array, room: float) -> bool:
    both = np.isfinite(result) & np.isfinite(got)
    if not bool((np.isfinite(result) == np.isfinite(got)).all()):
        return False
    return bool((np.abs(result - got)[both] <= room).all())


def _played(mistake: Mistake, evidence: Evidence) -> bool:
    """Whether an implementation with this one mistake fails the item in the same way on every case."""
    judge = OTHERS[evidence.check]
    for case, law, found in _sample(evidence.failing, MOST_INCIDENTS):
        judged = judge(case, Acting(evidence.candidate, mistake, law), law)[evidence.check]
        if not isinstance(judged, Discrepancy) or (judged.kind, judged.tensor) != (found.kind, found.tensor):
            return False
        if judged.got is None or found.got is None or judged.got.shape != found.got.shape:
            return False
        tensor = found.tensor if found.tensor in law.right(case).tensors else None
        room = 1e-9 * float(np.abs(found.got).max(initial=0.0))
        if tensor is not None and case.precision.low:
            room = max(room, room_of_wrong(tensor, found.got, case, law))
        if not _alike(judged.got, found.got, room):
            return False
    for case, law in _sample(evidence.passing, MOST_INCIDENTS):
        if isinstance(judge(case, Acting(evidence.candidate, mistake, law), law)[evidence.check], Discrepancy):
            return False
    return True


def _holds(suspicion: Suspicion, evidence: Evidence) -> bool:
    if suspicion.checks and evidence.check not in suspicion.checks:
        return False
    return all(
        suspicion.holds(Incident(evidence.check, case, law, evidence.candidate, found))
        for case, law, found in _sample(evidence.failing, MOST_INCIDENTS)
    )


def _sample(entries: Sequence[T], most: int) -> Sequence[T]:
    """The first, and others evenly from the rest."""
    if len(entries) <= most:
        return entries
    places = np.unique(np.linspace(0, len(entries) - 1, most).astype(int))
    return [entries[k] for k in places]

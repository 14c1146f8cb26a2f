"""Why it fails: the known mistakes and probes that account for every failing case that was judged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.error_pattern import error_pattern
from backproof.conformance.explaining.probes import probes_of
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.trials import results
from backproof.conformance.explaining.simulate import Simulated
from backproof.conformance.judging.item_cases import FailedCase
from backproof.conformance.judging.properties import Property
from backproof.conformance.judging.properties.several_calls import own_rounding, tolerance_of_wrong
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.conformance.spec.probe import Probe
from backproof.conformance.spec.results import Discrepancy

#: So many failing and passing cases a mistake has to account for.
MOST_FAILING, MOST_PASSING = 40, 200
#: Probes may ask the candidate again: of fewer cases.
MOST_PROBED = 12
#: A mistake that is named shows in at least one case by so many times what rounding may be,
CLEARLY = 4.0
#: or is so many times nearer to the result than the right one is, in every case.
NEARER = 64.0
#: By so much what holds results against each other may amplify their rounding.
AMPLIFIED = 64.0
#: What is off by more is not rounded.
SLIGHT = 0.01
#: Two ways to the same wrong number differ by so little of the largest.
ALIKE = 1e-9
#: Other values of a parameter that distinguish mistakes which fit equally, in cases of at most so many elements.
NEARBY, LARGEST = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 24, 33), 2000
#: Kinds of failure in which a mistake accounts for the numbers.
OF_NUMBERS = ("value", "nonfinite", "shape", "state")

T = TypeVar("T")

Passing = tuple[Case, Reference]
#: The mistakes that explain a tensor, by its name.
Named = Mapping[str, Sequence[Mistake]]


@dataclass(frozen=True)
class Diagnosis:
    """All that fit, the simplest first, and where the error sits, if none does."""

    sentences: tuple[str, ...] = ()
    step: str | None = None
    site: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    #: Of the sentences that which says that the tensor is right, but for its rounding.
    inexact: str | None = None


@dataclass(frozen=True)
class Inexact:
    """A tensor that is right, but for its rounding: what is said of it, and its largest error as `error_of` has it."""

    sentence: str
    error: float


@dataclass(frozen=True)
class Evidence:
    """One item in one kind of failure: the smallest failing case first, other failing ones, and passing ones.

    `beside` are cases of another kind of failure: what explains the numbers of the one explains those of the other, and
    has no numbers where there are none.
    """

    check: str
    property_: Property
    candidate: Candidate
    failing: Sequence[FailedCase]
    passing: Sequence[Passing]
    beside: Sequence[FailedCase] = ()

    @property
    def tensor(self) -> str:
        """Which is wrong in the smallest case."""
        return self.failing[0][2].tensor or self.check


def diagnose(
    evidence: Evidence,
    named: Named,
    known: Sequence[Mistake] | None,
    until: float,
    inexact: Mapping[str, Inexact] = MappingProxyType({}),
) -> Diagnosis:
    """What explains an item's failures; `named` explain the tensors of the same part, by the tensor, and some are
    `inexact`.

    `known`, where the tensor is wrong in its own item too, are those that explain it there: others are not tried.
    Stops when `until`, by `budget.now`, has come: what has not been tried is not named.
    """
    mistakes: Sequence[Mistake] = ()
    probed: Sequence[Probe] = ()
    if evidence.property_.compares_calls:
        simulated = _simulated(evidence, named, until)
        mistakes = [mistake for _, mistake in simulated]
        sentences = [mistake.sentence.replace("{tensor}", tensor) for tensor, mistake in simulated]
    else:
        if evidence.property_.judges_results:
            catalogue = evidence.failing[0][1].layer.mistakes() if known is None else known
            mistakes = _distinguished(list(_matching(catalogue, evidence, until)), evidence, until)
            mistakes = _spoken_of(mistakes, evidence) or mistakes
        sentences = [mistake.sentence.replace("{tensor}", evidence.tensor) for mistake in mistakes]
    if not mistakes:
        probes = probes_of(evidence.failing[0][1].layer)
        probed = [probe for probe in probes if now() < until and _holds(probe, evidence)]
        sentences = [probe.sentence.replace("{tensor}", evidence.tensor) for probe in probed]
        sentences = sentences or _rounded_alike(evidence, inexact)
    # The steps of the backward say nothing of a result of the forward.
    backward = evidence.tensor.startswith("d") or evidence.property_.compares_calls
    step = next((mistake.step for mistake in mistakes if mistake.step and backward), None)
    where = () if sentences else error_pattern(evidence.candidate, evidence.failing)
    rounded = [s.sentence.replace("{tensor}", evidence.tensor) for s in probed if s.of_accuracy]
    return Diagnosis(tuple(dict.fromkeys(sentences)), step, where, tuple(mistakes), next(iter(rounded), None))


def error_of(failing: FailedCase) -> float:
    """How far off a result is: of the largest number of its tensor, or of all of them where they are added up."""
    case, reference, found = failing
    if found.kind != "value" or found.got is None or found.expected is None:
        return np.inf
    right = reference.expected(case).tensors.get(found.tensor or "", np.zeros(1))
    own = np.abs(right).max(initial=0.0) if right.size == found.got.size else np.abs(right).sum()
    largest = max(float(own), *(float(np.abs(a).max(initial=0.0)) for a in (found.got, found.expected)))
    return float(np.abs(found.got - found.expected).max(initial=0.0)) / largest if largest else np.inf


def _rounded_alike(evidence: Evidence, inexact: Mapping[str, Inexact]) -> list[str]:
    """What is said of the tensors, where they are off by no more than their own rounding makes them."""
    said = []
    for case, reference, found in evidence.failing:
        own = inexact.get(found.tensor or "")
        if own is None or not error_of(FailedCase(case, reference, found)) <= min(SLIGHT, AMPLIFIED * own.error):
            return []
        right_tolerance = reference.expected(case).tolerances.get(found.tensor or "")
        if right_tolerance is None or not np.any(right_tolerance):
            return []  # nothing rounds in it
        said.append(own.sentence)
    return said


def _matching(catalogue: Sequence[Mistake], evidence: Evidence, until: float) -> Iterator[Mistake]:
    """The mistakes that give the candidate's result wherever it fails, and the right one wherever it passes."""
    numbers = [entry for entry in evidence.beside if entry[2].got is not None]
    without = [entry for entry in evidence.beside if entry[2].got is None]
    failing = [*_sample(evidence.failing, MOST_FAILING), *_sample(numbers, MOST_PROBED)]
    seen = [wrong for entry in failing if (wrong := _wrong(entry, evidence))]
    if len(seen) < len(failing):
        return
    # Where the candidate raises instead, a mistake must not have a wrong number.
    passing = [
        *_sample(evidence.passing, MOST_PASSING),
        *((c, reference) for c, reference, _ in _sample(without, MOST_PROBED)),
    ]
    tensors = {wrong.tensor for wrong in seen}
    fitting: list[Mistake] = []
    for mistake in catalogue:
        if now() >= until:
            break
        if not tensors.issubset(mistake.tensors):
            continue
        nearness = []
        for wrong in seen:
            near = wrong.nearness(mistake)
            if near is None:
                break
            nearness.append(near)
        else:
            clear = any(near.clear for near in nearness) or all(near.nearer for near in nearness)
            if clear and all(_gives_right(mistake, evidence, case, reference) for case, reference in passing):
                fitting.append(mistake)
    # Few are left: they have to account for every case that there is time for, not for some alone.
    for mistake in fitting:
        others = (entry for entry in (*evidence.failing, *numbers) if now() < until)
        if not any(_contradicts(mistake, evidence, entry) for entry in others) and all(
            now() >= until or _gives_right(mistake, evidence, *entry) for entry in evidence.passing
        ):
            yield mistake


def _contradicts(mistake: Mistake, evidence: Evidence, failing: FailedCase) -> bool:
    wrong = _wrong(failing, evidence)
    return wrong is None or wrong.nearness(mistake) is None


def _distinguished(fitting: Sequence[Mistake], evidence: Evidence, until: float) -> Sequence[Mistake]:
    """Of several mistakes those that are left when the candidate is asked where they do not say the same."""
    smallest, reference, _ = evidence.failing[0]
    tensor, left = evidence.tensor, fitting
    for case in _nearby(smallest, reference):
        if len(left) < 2 or now() >= until:
            break
        right = reference.expected(case).tensors
        if tensor not in right:
            continue  # of an array that is None
        said = [(_given(mistake, case, right) or {}).get(tensor, right[tensor]) for mistake in left]
        if all(_same(one, said[0], tolerance_of_wrong(tensor, np.zeros(()), case, reference)) for one in said[1:]):
            continue
        found = (results(evidence.candidate, case) or {}).get(tensor)
        if found is not None:
            got = evidence.candidate.in_reference(tensor, found) if found.ndim == right[tensor].ndim else found
            tolerance = tolerance_of_wrong(tensor, np.where(np.isfinite(got), got, 0.0), case, reference)
            left = [mistake for mistake, one in zip(left, said, strict=True) if _same(one, got, tolerance)]
    return left


def _spoken_of(mistakes: Sequence[Mistake], evidence: Evidence) -> Sequence[Mistake]:
    """Those that do not speak of an option that the layer does not take."""
    reference = evidence.failing[0][1]
    absent = {option.name for option in reference.layer.contract.options} - set(reference.space.signature.options)
    words = re.compile("|".join(rf"\b{name.removesuffix('s')}s?\b" for name in sorted(absent)) or "(?!)")
    return [mistake for mistake in mistakes if not words.search(mistake.sentence)]


def _same(one: Array, other: Array, tolerance: float) -> bool:
    return one.shape == other.shape and _alike(one, other, tolerance)


def _nearby(smallest: Case, reference: Reference) -> Iterator[Case]:
    """Cases that differ from the smallest in one parameter: what a threshold or a tile is shows there."""
    for name, value in smallest.configuration.parameters.items():
        for other in dict.fromkeys((value + 1, 2 * value - 1, 2 * value, 2 * value + 1, *NEARBY)):
            found = reference.layer.build({**smallest.configuration.parameters, name: other}, reference.space)
            if other == value or found is None or found.elements > LARGEST:
                continue
            case = next(iter(reference.layer.fills(found, reference.space)))
            if reference.layer.has_meaning(case):
                yield case


class _Nearness(NamedTuple):
    """How a mistake's result stands to the candidate's and to the right one."""

    clear: bool
    nearer: bool


@dataclass(frozen=True, eq=False)
class _Wrong:
    """One wrong result, in the references' layout, and how far off rounding may have it."""

    case: Case
    tensor: str
    got: Array
    right: Results
    tolerance: float

    def nearness(self, mistake: Mistake) -> _Nearness | None:
        """None where the mistake does not give this result, or gives the right one."""
        given = _given(mistake, self.case, self.right)
        result = None if given is None else given.get(self.tensor)
        if result is None or result.shape != self.got.shape or not _alike(result, self.got, self.tolerance):
            return None
        right = self.right[self.tensor]
        if right.shape != result.shape or not (np.isfinite(result) == np.isfinite(right)).all():
            return _Nearness(True, True)
        both = np.isfinite(result) & np.isfinite(right)
        difference = float(np.abs(result - right)[both].max(initial=0.0))
        if difference == 0:
            return None
        left = float(np.abs(result - self.got)[both].max(initial=0.0))
        return _Nearness(difference > CLEARLY * self.tolerance, difference > NEARER * left)


def _wrong(failing: FailedCase, evidence: Evidence) -> _Wrong | None:
    case, reference, found = failing
    tensor = found.tensor or evidence.check
    right = reference.expected(case).tensors
    if found.got is None or tensor not in right or found.kind not in OF_NUMBERS:
        return None
    got = found.got
    if got.ndim == right[tensor].ndim:
        got = evidence.candidate.in_reference(tensor, got)
    finite = np.where(np.isfinite(got), got, 0.0)
    return _Wrong(case, tensor, got, right, tolerance_of_wrong(tensor, finite, case, reference))


def _gives_right(mistake: Mistake, evidence: Evidence, case: Case, reference: Reference) -> bool:
    """Whether a mistake leaves a tensor right in a case in which the candidate has it right."""
    right = reference.expected(case)
    given = _given(mistake, case, right.tensors)
    tensor = evidence.tensor
    result = None if given is None else given.get(tensor)
    right_tolerance = right.tolerances.get(tensor)
    if result is None or right_tolerance is None:
        return True
    expected = right.tensors[tensor]
    if result.shape != expected.shape:
        return False
    tolerance = np.asarray(right_tolerance) + tolerance_of_wrong(tensor, np.zeros(()), case, reference)
    return bool((np.abs(result - expected) <= tolerance).all())


def _given(mistake: Mistake, case: Case, right: Results) -> Results | None:
    with np.errstate(all="ignore"):
        return mistake.gives(case, right)


def _alike(result: Array, got: Array, tolerance: float) -> bool:
    both = np.isfinite(result) & np.isfinite(got)
    if not bool((np.isfinite(result) == np.isfinite(got)).all()):
        return False
    return bool((np.abs(result - got)[both] <= tolerance).all())


def _simulated(evidence: Evidence, named: Named, until: float) -> list[tuple[str, Mistake]]:
    """The tensors' mistakes that make an implementation fail this item in the same way, each with its tensor.

    Each alone is tried before all of them together.
    """
    parts: dict[Mistake, dict[str, Mistake]] = {}
    for tensor, mistakes in named.items():
        if mistakes:
            parts.setdefault(mistakes[0], {})[tensor] = mistakes[0]
    everything = {tensor: mistake for part in parts.values() for tensor, mistake in part.items()}
    for mistakes_in in (*parts.values(), *([everything] if len(parts) > 1 else [])):
        if now() < until and _fails_alike(evidence, mistakes_in):
            first = {mistake: tensor for tensor, mistake in reversed(mistakes_in.items())}
            return [(tensor, other) for mistake, tensor in first.items() for other in named[tensor]]
    return []


def _fails_alike(evidence: Evidence, mistakes_in: Mapping[str, Mistake]) -> bool:
    """Whether an implementation with these mistakes fails the item in the same way on every case."""
    judge = evidence.property_.judge
    for case, reference, found in _sample(evidence.failing, MOST_PROBED):
        judged = judge(case, Simulated(evidence.candidate, mistakes_in, reference), reference)[evidence.check]
        if not isinstance(judged, Discrepancy) or (judged.kind, judged.tensor) != (found.kind, found.tensor):
            return False
        if judged.got is None or found.got is None or judged.got.shape != found.got.shape:
            return False
        tensor = found.tensor if found.tensor in reference.expected(case).tensors else None
        tolerance = ALIKE * float(np.abs(found.got).max(initial=0.0)) + own_rounding(found.got, case)
        if tensor is not None and case.precision.low:
            tolerance = max(tolerance, tolerance_of_wrong(tensor, found.got, case, reference))
        if not _alike(judged.got, found.got, tolerance):
            return False
    for case, reference in _sample(evidence.passing, MOST_PROBED):
        if isinstance(
            judge(case, Simulated(evidence.candidate, mistakes_in, reference), reference)[evidence.check], Discrepancy
        ):
            return False
    return True


def _holds(probe: Probe, evidence: Evidence) -> bool:
    if probe.checks and evidence.check not in probe.checks:
        return False
    try:
        return all(
            probe.holds(FailingCase(evidence.check, case, reference, evidence.candidate, found))
            for case, reference, found in _sample(evidence.failing, MOST_PROBED)
        )
    except Exception:
        # It looks at whatever the candidate returns, and asks it again: what breaks there explains nothing.
        return False


def _sample(entries: Sequence[T], most: int) -> Sequence[T]:
    """The first, and others evenly from the rest."""
    if len(entries) <= most:
        return entries
    places = np.unique(np.linspace(0, len(entries) - 1, most).astype(int))
    return [entries[k] for k in places]

"""Finds the smallest case of a failure, why it fails and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from backproof.conformance.explaining.accuracy import in_words
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.diagnosis import OF_NUMBERS, Diagnosis, Evidence, Inexact, diagnose, error_of
from backproof.conformance.explaining.reduce import plainer, reduced
from backproof.conformance.explaining.region import RegionSearch
from backproof.conformance.explaining.rules import Rule
from backproof.conformance.explaining.search import Search
from backproof.conformance.judging.failure import Failure, failure
from backproof.conformance.judging.item_cases import FailedCase
from backproof.conformance.judging.properties.memory_layout import arrangements
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.results import Discrepancy, Kind, Status

#: What else is accepted without meaning, named in the sentence.
MOST_FLAWS = 4
#: When, of an item's time, making the case smaller ends, then trying whatever is smaller, then looking for causes; the
#: rest is for the region.
REDUCING, SEARCHING, DIAGNOSING = 0.3, 0.5, 0.8
#: So often a case has to fail before it is said to fail every time.
STEADY = 5


class PartExplainer:
    """What the failures of one part have in common, a search or a diagnosis, is found once."""

    def __init__(self, runner: PartRunner) -> None:
        self._runner = runner
        self._searches: dict[str, Search] = {}
        self._diagnoses: dict[tuple[str, Kind], Diagnosis] = {}

    def explained(self, failure: Failure, until: float, causes: bool) -> Counterexample:
        """The smallest case of a failure and, with `causes`, why and where it fails."""
        property_, start = failure.property_, failure.smallest
        case, reference = start.case, start.reference
        tried = _Tried(failure)
        begun = now()
        reducing, searching, diagnosing = (
            begun + share * (until - begun) for share in (REDUCING, SEARCHING, DIAGNOSING)
        )
        proved, smaller, plain = False, 0, False
        steady = tried.fails(reference, case)
        if steady and property_.is_listed:
            proved, smaller = self._smaller_listed(failure, case)
        elif steady:
            case, plain = self._reduced(case, reference, tried, reducing)
            found = self._search(failure).smaller(failure.item.check, failure.kind, case.configuration.size, searching)
            if found.case is not None and found.reference is not None:
                reference = found.reference
                case = found.case
                if property_.in_memory_layouts:
                    case = self._in_layouts(case, reference, tried)
                fails = partial(tried.fails, reference)
                case, plain = plainer(case, fails, self._runner.layer, reference.space, searching)
            proved, smaller = found.complete, found.cases
        steady = steady and all(tried.fails(reference, case) for _ in range(STEADY))
        if steady:
            smallest = FailedCase(case, reference, tried.found[case])
        else:
            smallest, proved, smaller, plain = start, False, 0, False
        diagnosis, rule = None, None
        if causes:
            diagnosis = self._diagnosis(failure, smallest, diagnosing)
            rule = self._rule(failure, smallest.case, until) if steady else None
        return shown(
            failure,
            smallest,
            proved=proved,
            smaller_cases=smaller,
            steady=steady,
            plain=plain,
            diagnosis=diagnosis,
            rule=rule,
        )

    # The smallest case

    def _reduced(self, case: Case, reference: Reference, tried: _Tried, until: float) -> tuple[Case, bool]:
        """The case made smaller: first as few arrays as possible in another layout, then the rest, in those layouts."""
        for name in list(case.layouts):
            fewer = {other: layout for other, layout in case.layouts.items() if other != name}
            trial = replace(case, layouts=fewer)
            if fewer and tried.fails(reference, trial):
                case = trial
        return reduced(case, partial(tried.fails, reference), self._runner.layer, reference.space, until)

    def _in_layouts(self, case: Case, reference: Reference, tried: _Tried) -> Case:
        """The arrangement in which a case fails that was found without one."""
        trials = arrangements(case, self._runner.candidate, reference)
        return next((trial for trial in trials if tried.fails(reference, trial)), case)

    def _smaller_listed(self, failure: Failure, case: Case) -> tuple[bool, int]:
        """A list is judged whole and begins with the smallest that there are."""
        size = case.configuration.size
        asked = self._runner.asked(failure.item.check)
        smaller = [other for _, other in asked if other.configuration.size < size]
        return not smaller, len(smaller)

    def _search(self, failure: Failure) -> Search:
        property_, profile = failure.property_, self._runner.profile
        # Tensors share one search.
        if property_.name not in self._searches:
            self._searches[property_.name] = Search(
                self._runner.references,
                lambda case, reference: property_.judge(case, self._runner.candidate, reference),
                profile.search_cases,
                profile.search_seconds,
            )
        return self._searches[property_.name]

    # Why it fails

    def _diagnosis(self, failure: Failure, smallest: FailedCase, until: float) -> Diagnosis:
        key = failure.item.check, failure.kind
        if key not in self._diagnoses:
            self._diagnoses[key] = self._diagnosed(failure, smallest, until)
        return self._diagnoses[key]

    def _diagnosed(self, failure: Failure, smallest: FailedCase, until: float) -> Diagnosis:
        property_, runner = failure.property_, self._runner
        others = [entry for entry in failure.smallest_first if entry.case is not smallest.case]
        passed, beside = [*failure.passed], list[FailedCase]()
        beyond = property_.judges_results and failure.item.check not in runner.tensors
        named = self._named(until) if property_.compares_calls or beyond else {}
        known: Sequence[Mistake] | None = None
        if failure.kind in OF_NUMBERS:
            kinds = (*OF_NUMBERS, "crash")
            beside = [
                entry
                for entry in failure.cases.failed
                if entry.discrepancy.kind in kinds and entry.discrepancy.kind != failure.kind
            ]
        tensor = smallest.discrepancy.tensor
        if beyond and tensor is not None:
            own = runner.item_cases(tensor)
            known = named.get(tensor, ()) if own.failed else None
            passed += own.passed
        references = {reference.space.rank: reference for reference in runner.references}
        by_size = sorted(passed, key=lambda case: case.configuration.size)
        passing = [(case, references[case.configuration.rank]) for case in by_size]
        evidence = Evidence(failure.item.check, property_, failure.candidate, [smallest, *others], passing, beside)
        compares = property_.compares_calls or (property_.in_memory_layouts and runner.tensors_judged)
        inexact = self._inexact(until) if compares else {}
        return diagnose(evidence, named, known, until, inexact)

    def _tensor_failures(self) -> Iterator[Failure]:
        """The failures of the tensors, whatever was asked for before."""
        for item in self._runner.items:
            if item.check in self._runner.tensors:
                failed = self._runner.item_cases(item.check).failed
                for kind in dict.fromkeys(entry.discrepancy.kind for entry in failed):
                    yield failure(self._runner, item, kind)

    def _named(self, until: float) -> dict[str, tuple[Mistake, ...]]:
        """The mistakes that explain the tensors, by the tensor."""
        named: dict[str, tuple[Mistake, ...]] = {}
        for each in self._tensor_failures():
            found = self._diagnosis(each, each.smallest, until)
            tensor = each.item.check
            named[tensor] = (*named.get(tensor, ()), *found.mistakes)
        return named

    def _inexact(self, until: float) -> dict[str, Inexact]:
        """The tensors that are right but for their rounding."""
        inexact = {}
        for each in self._tensor_failures():
            if each.kind == "value":
                sentence = self._diagnosis(each, each.smallest, until).inexact
                if sentence is not None:
                    inexact[each.item.check] = Inexact(sentence, max(map(error_of, each.failed)))
        return inexact

    # Where it fails

    def _rule(self, failure: Failure, start: Case, until: float) -> Rule | None:
        """Where the item fails in this kind; None if no rule says it."""
        property_, check = failure.property_, failure.item.check

        def judge(case: Case, reference: Reference) -> bool | None:
            found = property_.judge(case, failure.candidate, reference).get(check)
            if isinstance(found, Discrepancy):
                return True if found.kind == failure.kind else None
            return False if found is Status.RIGHT else None

        bad = [entry.case for entry in failure.failed]
        if property_.in_memory_layouts and not start.layouts:
            start = min((case for case in bad if case.layouts), key=lambda case: case.key, default=start)
        search = RegionSearch(
            self._runner.references,
            judge,
            seed=self._runner.seed,
            seconds=max(0.0, until - now()),
            arranged=property_.in_memory_layouts,
            closed=property_.takes_invalid_cases,
        )
        return search.rule(start, bad, failure.passed, self._beside(failure))

    def _beside(self, failure: Failure) -> list[Case]:
        """What is right beside the cases of a list: a case with meaning is no failure to reject, and what a list asks
        of a tensor the tensor's own cases ask too.
        """
        runner = self._runner
        if failure.property_.takes_invalid_cases:
            return [case for _, cases in (*runner.swept, *runner.drawn) for case in cases]
        if not failure.property_.judges_results or not failure.property_.is_listed:
            return []
        tensors = dict.fromkeys(entry.discrepancy.tensor for entry in failure.cases.failed)
        return [case for name in tensors if name for case in runner.item_cases(name).passed]


class _Tried:
    """Asks whether a failure shows in further cases, and keeps what was found there."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure
        self.found: dict[Case, Discrepancy] = {}

    def fails(self, reference: Reference, case: Case) -> bool:
        """Whether the item fails in the same kind."""
        failure = self._failure
        judged = failure.property_.judge(case, failure.candidate, reference).get(failure.item.check)
        if isinstance(judged, Discrepancy) and judged.kind == failure.kind:
            self.found[case] = judged
            return True
        return False


def shown(
    failure: Failure,
    smallest: FailedCase,
    *,
    proved: bool = False,
    smaller_cases: int = 0,
    steady: bool = True,
    plain: bool = False,
    diagnosis: Diagnosis | None = None,
    rule: Rule | None = None,
    unexplained: str | None = None,
) -> Counterexample:
    """A failure by one of its cases, with what was found out about it."""
    case, reference, found = smallest
    if case.invalidity is not None:
        flaws = [
            invalidity
            for entry in failure.failed
            if (invalidity := entry.case.invalidity) is not None and invalidity != case.invalidity
        ]
        message = found.message + _also(list(dict.fromkeys(invalidity.words for invalidity in flaws)))
    else:
        reference.confirm(case)
        message = in_words(failure.item.check, found.message, failure.failed, failure.candidate)
    diagnosis = diagnosis or Diagnosis()
    return Counterexample(
        replace(found, message=message),
        case,
        reference,
        proved=proved,
        smaller_cases=smaller_cases,
        region=None if rule is None else rule.words,
        failed=len(failure.failed) if rule is None else rule.failed,
        passed=len(failure.passed) if rule is None else rule.passed,
        inside=0 if rule is None else rule.inside,
        configurations=rule is not None and rule.configurations,
        steady=steady,
        plain=plain,
        diagnosis=diagnosis.sentences,
        step=diagnosis.step,
        site=diagnosis.site,
        unexplained=unexplained,
        property_=failure.property_,
    )


def _also(flaws: Sequence[str]) -> str:
    """Such as " It also accepts eps=0; eps=-1e-05 and 3 more." """
    if not flaws:
        return ""
    more = f" and {len(flaws) - MOST_FLAWS} more" if len(flaws) > MOST_FLAWS else ""
    return f" It also accepts {'; '.join(flaws[:MOST_FLAWS])}{more}."

"""What a failing item is told with: its smallest cases, where it fails, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from backproof.conformance.explaining.accuracy import in_words
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.diagnosis import (
    OF_NUMBERS,
    Diagnosis,
    Evidence,
    Failing,
    Inexact,
    diagnose,
    error_of,
)
from backproof.conformance.explaining.reduce import plainer, reduced
from backproof.conformance.explaining.region import RegionSearch
from backproof.conformance.explaining.rules import EVERYWHERE, Rule
from backproof.conformance.explaining.search import Search
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import PROPERTIES, property_of
from backproof.conformance.judging.properties.memory_layout import arrangements
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake
from backproof.conformance.spec.results import Discrepancy, Kind, Status

if TYPE_CHECKING:
    from backproof.conformance.explaining.budget import Budget
    from backproof.conformance.judging.runner import PartRunner

#: Kinds of failure that one item reports, each with a case of its own.
MOST_FAILURES = 3
#: What else is accepted without meaning, named in the sentence.
MOST_FLAWS = 4
#: When, of an item's time, making the case smaller ends, then trying whatever is smaller, then looking for causes; the
#: rest is for the region.
REDUCING, SEARCHING, DIAGNOSING = 0.3, 0.5, 0.8
#: So often a case has to fail before it is said to fail every time.
STEADY = 5

USED_UP = "failures before this one used up the time for explaining: run it alone for its smallest case and its cause"
KNOWN = "it is a known failure"


class Explainer:
    """Of one runner. What its items have in common, a search or a mistake, is found once."""

    def __init__(self, runner: PartRunner) -> None:
        self._runner = runner
        self._searches: dict[str, Search] = {}
        self._diagnoses: dict[tuple[str, Kind], Diagnosis] = {}

    def counterexamples(
        self, check: str, budget: Budget, *, known: bool = False, causes: bool = True
    ) -> list[Counterexample]:
        """A smallest failing case for each kind in which the item fails, the most frequent kind first.

        Without `causes` it is not said why and where. A `known` failure, or one that the budget has no time left
        for, is told by the smallest of the cases that were judged anyway.
        """
        item_cases = self._runner.item_cases(check)
        kinds = [
            kind for kind, _ in Counter(found.kind for _, _, found in item_cases.failed).most_common(MOST_FAILURES)
        ]
        if not kinds:
            return []
        if known or budget.used_up:
            return [self._first(check, kind, item_cases, KNOWN if known else USED_UP) for kind in kinds]
        with budget.deadline() as until:
            each = (until - now()) / len(kinds)
            return [self._explained(check, kind, item_cases, now() + each, causes) for kind in kinds]

    def refusal(self, check: str, discrepancy: Discrepancy) -> Counterexample:
        """The failure of a layer that refused everything, shown on the first case that it refused."""
        item_cases = self._runner.item_cases(check)
        configuration = min((case.configuration for case in item_cases.refused), key=lambda c: c.size)
        reference = next(
            reference for reference in self._runner.references if reference.space.rank == configuration.rank
        )
        case = next(iter(self._runner.layer.fills(configuration, reference.space)))
        return Counterexample(discrepancy, case, reference, False, 0, EVERYWHERE, len(item_cases.refused), 0)

    def _first(self, check: str, kind: Kind, item_cases: ItemCases, why: str) -> Counterexample:
        failing = _failing(item_cases, kind)
        case, reference, found = min(failing, key=lambda entry: entry[0].key)
        return self._told(check, found, case, reference, failing, item_cases, unexplained=why)

    def _explained(self, check: str, kind: Kind, item_cases: ItemCases, until: float, causes: bool) -> Counterexample:
        failing = _failing(item_cases, kind)
        start = first, reference, discrepancy = min(failing, key=lambda entry: entry[0].key)
        property_ = property_of(check)
        candidate, layer = self._runner.candidate, self._runner.layer
        told = {first: discrepancy}

        def fails(reference: Reference, trial: Case) -> bool:
            judged = property_.judge(trial, candidate, reference).get(check)
            if isinstance(judged, Discrepancy) and judged.kind == kind:
                told[trial] = judged
                return True
            return False

        begun = now()
        reducing, searching, diagnosing = (
            begun + share * (until - begun) for share in (REDUCING, SEARCHING, DIAGNOSING)
        )
        case, proved, smaller, plain = first, False, 0, False
        steady = fails(reference, first)
        if steady and property_.is_listed:
            proved, smaller = self._smaller_listed(check, case)
        elif steady:
            case, plain = self._reduced(case, reference, fails, reducing)
            found = self._search(check).smaller(check, kind, case.configuration.size, searching)
            if found.case is not None and found.reference is not None:
                reference = found.reference
                case = self._in_layouts(found.case, reference, fails) if check == "memory_layout" else found.case
                case, plain = plainer(case, partial(fails, reference), layer, reference.space, searching)
            proved, smaller = found.complete, found.cases
        steady = steady and all(fails(reference, case) for _ in range(STEADY))
        if not steady:
            case, reference, told[first] = start
            proved, smaller, plain = False, 0, False
        smallest, diagnosis, rule = (case, reference, told[case]), None, None
        if causes:
            diagnosis = self._diagnosis(check, kind, smallest, failing, item_cases, diagnosing)
            rule = self._rule(check, kind, case, failing, item_cases, until) if steady else None
        return self._told(
            check,
            told[case],
            case,
            reference,
            failing,
            item_cases,
            proved=proved,
            smaller_cases=smaller,
            steady=steady,
            plain=plain,
            diagnosis=diagnosis,
            rule=rule,
        )

    def _told(
        self,
        check: str,
        found: Discrepancy,
        case: Case,
        reference: Reference,
        failing: Sequence[Failing],
        item_cases: ItemCases,
        *,
        proved: bool = False,
        smaller_cases: int = 0,
        steady: bool = True,
        plain: bool = False,
        diagnosis: Diagnosis | None = None,
        rule: Rule | None = None,
        unexplained: str | None = None,
    ) -> Counterexample:
        if case.flaw is not None:
            flaws = [flaw for entry in failing if (flaw := entry[0].flaw) is not None and flaw != case.flaw]
            message = found.message + _also(list(dict.fromkeys(flaw.words for flaw in flaws)))
        else:
            reference.confirm(case)
            message = in_words(check, found.message, failing, self._runner.candidate)
        diagnosis = diagnosis or Diagnosis()
        return Counterexample(
            replace(found, message=message),
            case,
            reference,
            proved,
            smaller_cases,
            None if rule is None else rule.words,
            len(failing) if rule is None else rule.failed,
            len(item_cases.passed) if rule is None else rule.passed,
            0 if rule is None else rule.inside,
            rule is not None and rule.configurations,
            steady,
            plain,
            diagnosis.sentences,
            diagnosis.step,
            diagnosis.site,
            unexplained,
        )

    def _diagnosis(
        self, check: str, kind: Kind, smallest: Failing, failing: Sequence[Failing], item_cases: ItemCases, until: float
    ) -> Diagnosis:
        key, property_ = (check, kind), property_of(check)
        of_results = property_.judges_results and check in PROPERTIES
        if key not in self._diagnoses:
            references = {reference.space.rank: reference for reference in self._runner.references}
            smallest_first = sorted(failing, key=lambda entry: _size(entry[0]))
            others = [entry for entry in smallest_first if entry[0] is not smallest[0]]
            passed, beside = [*item_cases.passed], list[Failing]()
            named = self._named(until) if property_.compares_calls or of_results else {}
            known: Sequence[Mistake] | None = None
            if kind in OF_NUMBERS:
                kinds = (*OF_NUMBERS, "crash")
                beside = [entry for entry in item_cases.failed if entry[2].kind in kinds and entry[2].kind != kind]
            tensor = smallest[2].tensor
            if of_results and tensor is not None:
                own = self._runner.item_cases(tensor)
                known = named.get(tensor, ()) if own.failed else None
                passed += own.passed
            passing = [(case, references[case.configuration.rank]) for case in sorted(passed, key=_size)]
            evidence = Evidence(check, self._runner.candidate, [smallest, *others], passing, beside)
            compares = property_.compares_calls or (check == "memory_layout" and self._runner.tensors_judged)
            inexact = self._inexact(until) if compares else {}
            self._diagnoses[key] = diagnose(evidence, named, known, until, inexact)
        return self._diagnoses[key]

    def _rule(
        self, check: str, kind: Kind, start: Case, failing: Sequence[Failing], item_cases: ItemCases, until: float
    ) -> Rule | None:
        """Where the item fails in this kind; None if no rule says it."""
        property_, candidate = property_of(check), self._runner.candidate

        def judge(case: Case, reference: Reference) -> bool | None:
            found = property_.judge(case, candidate, reference).get(check)
            if isinstance(found, Discrepancy):
                return True if found.kind == kind else None
            return False if found is Status.RIGHT else None

        bad = [case for case, _, _ in failing]
        if check == "memory_layout" and not start.layouts:
            start = min((case for case in bad if case.layouts), key=lambda case: case.key, default=start)
        return self._region_search(check, judge, until).rule(start, bad, item_cases.passed, self._beside(check))

    def _beside(self, check: str) -> list[Case]:
        """What is right beside the cases of a list: a case with meaning is no failure to reject, and what a list asks
        of a tensor the tensor's own cases ask too.
        """
        if check == "rejection":
            return [case for _, cases in (*self._runner.swept, *self._runner.drawn) for case in cases]
        tensors = (
            [found.tensor for _, _, found in self._runner.item_cases(check).failed]
            if property_of(check).is_listed and property_of(check).judges_results
            else []
        )
        return [case for name in dict.fromkeys(tensors) if name for case in self._runner.item_cases(name).passed]

    def refused_where(self, check: str, until: float) -> Rule | None:
        """Where the candidate refuses; None if no rule says it."""
        property_, candidate = property_of(check), self._runner.candidate
        item_cases = self._runner.item_cases(check)

        def judge(case: Case, reference: Reference) -> bool | None:
            found = property_.judge(case, candidate, reference).get(check)
            if found is Status.UNSUPPORTED:
                return True
            return False if found is Status.RIGHT or isinstance(found, Discrepancy) else None

        accepted = [*item_cases.passed, *(case for case, _, _ in item_cases.failed)]
        start = min(item_cases.refused, key=lambda case: case.key)
        return self._region_search(check, judge, until).rule(start, item_cases.refused, accepted)

    def _region_search(self, check: str, judge: Callable[[Case, Reference], bool | None], until: float) -> RegionSearch:
        return RegionSearch(
            self._runner.references,
            judge,
            seed=self._runner.seed,
            seconds=max(0.0, until - now()),
            arranged=check == "memory_layout",
            closed=check == "rejection",
        )

    def _named(self, until: float) -> dict[str, tuple[Mistake, ...]]:
        """The mistakes that explain the tensors of this runner, by the tensor, whatever was asked for before."""
        named: dict[str, tuple[Mistake, ...]] = {}
        for tensor in self._runner.checks:
            item_cases = self._runner.item_cases(tensor) if tensor not in PROPERTIES else ItemCases()
            for kind in dict.fromkeys(found.kind for _, _, found in item_cases.failed):
                found = self._of_tensor(tensor, kind, until)
                named[tensor] = (*named.get(tensor, ()), *found.mistakes)
        return named

    def _inexact(self, until: float) -> dict[str, Inexact]:
        """The tensors of this runner that are right but for their rounding."""
        inexact = {}
        for tensor in self._runner.checks:
            failing = _failing(self._runner.item_cases(tensor), "value") if tensor not in PROPERTIES else []
            sentence = self._of_tensor(tensor, "value", until).inexact if failing else None
            if sentence is not None:
                inexact[tensor] = Inexact(sentence, max(map(error_of, failing)))
        return inexact

    def _of_tensor(self, tensor: str, kind: Kind, until: float) -> Diagnosis:
        """What explains a tensor's own item, by the cases that were judged if it has not been explained before."""
        item_cases = self._runner.item_cases(tensor)
        failing = _failing(item_cases, kind)
        return self._diagnosis(tensor, kind, min(failing, key=lambda entry: entry[0].key), failing, item_cases, until)

    def _reduced(
        self, case: Case, reference: Reference, fails: Callable[[Reference, Case], bool], until: float
    ) -> tuple[Case, bool]:
        """The case made smaller: first as few arrays as possible in another layout, then the rest, in those layouts."""
        for name in list(case.layouts):
            fewer = {other: layout for other, layout in case.layouts.items() if other != name}
            trial = replace(case, layouts=fewer)
            if fewer and fails(reference, trial):
                case = trial
        return reduced(case, partial(fails, reference), self._runner.layer, reference.space, until)

    def _in_layouts(self, case: Case, reference: Reference, fails: Callable[[Reference, Case], bool]) -> Case:
        """The arrangement in which a case fails that was found without one."""
        return next(
            (trial for trial in arrangements(case, self._runner.candidate, reference) if fails(reference, trial)), case
        )

    def _smaller_listed(self, check: str, case: Case) -> tuple[bool, int]:
        """A list is judged whole and begins with the smallest that there are."""
        size = case.configuration.size
        smaller = [other for _, other in self._runner.asked(check) if other.configuration.size < size]
        return not smaller, len(smaller)

    def _search(self, check: str) -> Search:
        other = check in PROPERTIES
        key = check if other else ""  # tensors share one search
        if key not in self._searches:
            property_, candidate = property_of(check), self._runner.candidate
            profile = self._runner.profile
            self._searches[key] = Search(
                self._runner.references,
                lambda case, reference: property_.judge(case, candidate, reference),
                profile.search_cases,
                profile.search_seconds,
            )
        return self._searches[key]


def _failing(item_cases: ItemCases, kind: Kind) -> list[Failing]:
    return [entry for entry in item_cases.failed if entry[2].kind == kind]


def _size(case: Case) -> tuple[int, int]:
    return case.configuration.size


def _also(flaws: Sequence[str]) -> str:
    """Such as " It also accepts eps=0; eps=-1e-05 and 3 more." """
    if not flaws:
        return ""
    more = f" and {len(flaws) - MOST_FLAWS} more" if len(flaws) > MOST_FLAWS else ""
    return f" It also accepts {'; '.join(flaws[:MOST_FLAWS])}{more}."

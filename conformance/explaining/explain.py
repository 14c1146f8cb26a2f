"""Explains the failing items of a run: their smallest cases, where they fail, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from backproof.conformance.cases.profile import Profile
from backproof.conformance.explaining.budget import Budget, now
from backproof.conformance.explaining.counterexample import EVERYWHERE, Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.judging.failure import Failure, failures
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.runner import PartRunner, quiet
from backproof.conformance.judging.session import Judged, Session
from backproof.conformance.spec.results import Discrepancy, Status

USED_UP = "failures before this one used up the time for explaining: run it alone for its smallest case and its cause"
KNOWN = "it is a known failure"


class Explainer:
    """Explains the failing items of a run, for as many seconds as its profile allows."""

    def __init__(self, profile: Profile) -> None:
        self._budget = Budget(profile.item_seconds, profile.run_seconds)
        #: What explains the failures of each part.
        self._parts: dict[PartRunner, Any] = {}

    def result(self, judged: Judged, *, known: bool = False) -> ItemResult:
        """A judged item with its counterexamples, and with the words for what was refused.

        A `known` failure is shown by the smallest of its cases, without looking for a smaller one or a cause.
        """
        start, counts = perf_counter(), judged.cases.counts
        refused = self._refusals(judged)
        found: Sequence[Counterexample] = ()
        if judged.refused_everything is not None:
            found = [_refusal(judged, judged.refused_everything)]
        elif judged.failures:
            found = self.counterexamples(judged.failures, known=known)
        return ItemResult(
            judged.item,
            judged.outcome,
            judged.cases.examples,
            counts[Status.UNSUPPORTED],
            counts[Status.UNJUDGED],
            judged.duration + perf_counter() - start,
            found,
            (refused or _why_unjudged(judged.item, counts)) if judged.outcome == "skipped" else None,
            refused,
            property_=judged.property_,
        )

    @staticmethod
    def _refusals(judged: Judged) -> str | None:
        if not judged.cases.counts[Status.UNSUPPORTED]:
            return None
        # Here, so that a run in which nothing is refused does not import the search for regions.
        from backproof.conformance.explaining.refusals import refusals

        return refusals(judged.part, judged.item.check)

    def counterexamples(
        self, failures: Sequence[Failure], *, known: bool = False, causes: bool = True
    ) -> list[Counterexample]:
        """A smallest failing case for each failure of one item.

        Without `causes` it is not said why and where. A `known` failure, or one that the budget has no time left for,
        is shown by the smallest of the cases that were judged anyway.
        """
        if not failures:
            return []
        # Here, so that a run in which all passes imports neither the search for causes nor that for regions.
        from backproof.conformance.explaining.part import PartExplainer, shown

        runner = failures[0].part
        if runner not in self._parts:
            self._parts[runner] = PartExplainer(runner)
        part = self._parts[runner]
        with quiet(runner.warned):
            if known or self._budget.used_up:
                return [shown(each, each.smallest, unexplained=KNOWN if known else USED_UP) for each in failures]
            with self._budget.deadline() as until:
                each = (until - now()) / len(failures)
                return [part.explained(failure, now() + each, causes) for failure in failures]


def results(session: Session, *, known: bool = False) -> list[ItemResult]:
    """Every item of a session, judged and explained; as `known` failures, without causes. Raises ReferencesDisagree."""
    explainer = Explainer(session.profile)
    return [explainer.result(session.judge(item, session.items), known=known) for item in session.items]


def counterexamples(part: PartRunner, check: str, *, known: bool = False, causes: bool = True) -> list[Counterexample]:
    """A smallest failing case for each kind in which one item fails, explained by itself."""
    return Explainer(part.profile).counterexamples(failures(part, part.item(check)), known=known, causes=causes)


def _refusal(judged: Judged, discrepancy: Discrepancy) -> Counterexample:
    """The failure of a layer that refused everything, shown on the first case that it refused."""
    part, refused = judged.part, judged.cases.refused
    configuration = min((case.configuration for case in refused), key=lambda c: c.size)
    reference = next(one for one in part.references if one.space.rank == configuration.rank)
    case = next(iter(part.layer.fills(configuration, reference.space)))
    counts = False, 0, EVERYWHERE, len(refused), 0
    return Counterexample(discrepancy, case, reference, *counts, property_=judged.property_)


def _why_unjudged(item: Item, counts: Counter[Status]) -> str:
    if counts[Status.UNJUDGED]:
        return f"in all {counts[Status.UNJUDGED]} cases rounding could hide a fault in {item.check}"
    if counts[Status.LEFT_OUT]:
        return f"in every case a call fails before {item.check} is asked, or plain cases are wrong in the same way"
    return f"no case asks for {item.check}"

"""One part of a layer before the court, in one dtype: its cases are drawn once and judged for every item."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import Adapter
from backproof.conformance.cases.coverage import cells_of
from backproof.conformance.cases.draw import drawn
from backproof.conformance.cases.profile import Profile
from backproof.conformance.cases.sweep import swept
from backproof.conformance.explaining.budget import Budget, now
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.rules import Rule
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import PROPERTIES, TENSORS
from backproof.conformance.judging.properties.memory_layout import refused
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec import memory_layouts as layouts
from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.layer import Layer, Part, Space
from backproof.conformance.spec.results import Discrepancy, Status

if TYPE_CHECKING:
    from backproof.conformance.explaining.explain import Explainer

#: How often each case of `memory_layout` is asked, in different layouts.
ARRANGEMENTS = 3

#: For finding out where an item's cases are refused.
REFUSAL_SECONDS = 0.5

#: Added to the seed for cases that are drawn in the place of others.
REDRAWN = 2**64

Progress = Callable[[str, int, int], None]


class PartRunner:
    """A part, "conv2d" say, in one dtype. Nothing is judged before an item is asked for; what it needs is then kept."""

    def __init__(
        self,
        layer: Layer,
        part: Part,
        dtype: str,
        adapter: Adapter,
        profile: Profile,
        seed: int,
        progress: Progress,
    ) -> None:
        implementation = adapter.implementations[layer.name]
        self.layer, self.part, self.dtype = layer, part, dtype
        self.profile, self.seed, self._progress = profile, seed, progress
        self.candidate = Candidate(adapter, implementation, layer)
        exact = bool(adapter.settings["exact"])
        self.references = tuple(
            Reference(layer, Space(implementation.signature, implementation.settings, rank, dtype, exact))
            for rank in part.ranks
        )
        #: What the candidate warned of, and how often.
        self.warned: Counter[str] = Counter()
        #: Failing cases of earlier runs, judged before all others.
        self.kept: Mapping[str, Sequence[Case]] = {}
        #: How often each array was judged in each memory layout, and how often from_numpy did not take it.
        self.layouts_judged: Counter[tuple[str, str]] = Counter()
        self.layouts_refused: Counter[tuple[str, str]] = Counter()
        self._others: dict[str, ItemCases] = {}
        self._refusals: dict[str, Rule | None] = {}
        self._cells: dict[Configuration, frozenset[str]] = {}

    @property
    def title(self) -> str:
        """Such as "conv2d::float64"."""
        return f"{self.part.title}::{self.dtype}"

    @cached_property
    def checks(self) -> tuple[str, ...]:
        """The names of the items."""
        return (*self.layer.tensors(self.candidate.signature), *filter(self._asks, PROPERTIES))

    def _asks(self, check: str) -> bool:
        """Whether the layer, and what the candidate declares, has this item."""
        if not PROPERTIES[check].is_asked(self.candidate):
            return False
        references = self.references if PROPERTIES[check].is_listed else ()
        return not references or any(True for reference in references for _ in self._listed(check, reference))

    def _listed(self, check: str, reference: Reference) -> Iterator[Case]:
        return PROPERTIES[check].cases(self.layer, reference.space)

    def admits(self, case: Case) -> bool:
        """Whether a swept, drawn or listed case is asked at all: every one is."""
        return True

    def item_cases(self, check: str) -> ItemCases:
        """What became of the cases of an item."""
        if check not in PROPERTIES:
            return self._tensors[check]
        if check not in self._others:
            self._others[check] = self._heard(check)
        return self._others[check]

    @property
    def tensors_judged(self) -> bool:
        """Whether the tensors' cases have been judged: an item that is run alone does without."""
        return "_tensors" in vars(self)

    @cached_property
    def swept(self) -> tuple[tuple[Reference, tuple[Case, ...]], ...]:
        """The smallest-first sweep: for each rank."""
        profile = self.profile
        return tuple(
            (reference, tuple(filter(self.admits, swept(self.layer, reference.space, profile))))
            for reference in self.references
        )

    @cached_property
    def drawn(self) -> tuple[tuple[Reference, tuple[Case, ...]], ...]:
        """The cases that Hypothesis drew, for each rank."""
        return tuple(
            (
                reference,
                tuple(filter(self.admits, drawn(self.layer, reference.space, self.profile.examples, self.seed))),
            )
            for reference in self.references
        )

    @cached_property
    def _tensors(self) -> dict[str, ItemCases]:
        """One run for all tensors: they share their cases."""
        item_cases = {name: ItemCases() for name in self.layer.tensors(self.candidate.signature)}
        unjudged: Counter[Reference] = Counter()
        with quiet(self.warned):
            kept = [
                (reference, case)
                for reference in self.references
                for name in item_cases
                for case in self._kept(name, reference)
            ]
            swept = [(reference, case) for reference, cases in self.swept for case in cases]
            asked = [(reference, case) for reference, cases in self.drawn for case in cases]
            everything = kept + swept + asked
            for done, (reference, case) in enumerate(everything):
                self._progress(self.title, done, len(everything))
                if self._judge_tensors(reference, case, item_cases) and case.origin == "drawn":
                    unjudged[reference] += 1
            for reference, count in unjudged.items():
                # Others in the place of those that were not judged for some tensor.
                for case in filter(self.admits, drawn(self.layer, reference.space, count, self.seed + REDRAWN)):
                    self._judge_tensors(reference, case, item_cases)
        return item_cases

    def _judge_tensors(self, reference: Reference, case: Case, item_cases: Mapping[str, ItemCases]) -> bool:
        """Judges one case for all tensors; whether one of them could not be judged in it."""
        if case.origin != "sweep":
            reference.confirm(case)
        found = TENSORS.judge(case, self.candidate, reference)
        for name, judged in found.items():
            item_cases[name].add(case, reference, judged)
        return Status.UNJUDGED in found.values()

    def _heard(self, check: str) -> ItemCases:
        item_cases, judge = ItemCases(), PROPERTIES[check].judge
        with quiet(self.warned):
            cases = self.asked(check)
            for reference, case in self._laid_out(cases, item_cases) if check == "memory_layout" else cases:
                item_cases.add(case, reference, judge(case, self.candidate, reference)[check])
        return item_cases

    def asked(self, check: str) -> Iterator[tuple[Reference, Case]]:
        """The cases of an item that is no tensor's: those kept, then its list, or some of the swept and the drawn."""
        for reference in self.references:
            for case in self._kept(check, reference):
                yield reference, case
        if PROPERTIES[check].is_listed:
            for reference in self.references:
                for case in filter(self.admits, self._listed(check, reference)):
                    if case.flaw is None:
                        reference.confirm(case)
                    yield reference, case
            return
        most = self.profile.others // PROPERTIES[check].one_of
        # Every so many of the swept cases, so that all fills and the larger shapes are among them.
        for reference, cases in self.swept:
            step = max(1, len(cases) // most)
            step += step % 2 == 0
            yield from ((reference, case) for case in cases[::step])
        for reference, cases in self.drawn:
            yield from ((reference, case) for case in islice(cases, most))

    @staticmethod
    def _arranged(case: Case, decks: layouts.Decks) -> list[Case]:
        return [case] if case.layouts else [decks.arrange(case) for _ in range(ARRANGEMENTS)]

    def _laid_out(
        self, cases: Iterator[tuple[Reference, Case]], item_cases: ItemCases
    ) -> Iterator[tuple[Reference, Case]]:
        """The cases with drawn memory layouts, those that from_numpy does not take left out and counted."""
        state = self.layer.contract.state
        decks = layouts.Decks(state, self.layer.has_meaning, np.random.Generator(np.random.PCG64(self.seed)))
        arranged = ((reference, trial) for reference, question in cases for trial in self._arranged(question, decks))
        for reference, case in arranged:
            if not case.layouts or not self.admits(case):
                continue
            not_taken = refused(case, self.candidate)
            self.layouts_refused.update(not_taken.items())
            if not_taken:
                item_cases.counts[Status.UNSUPPORTED] += 1
                kept = {name: layout for name, layout in case.layouts.items() if name not in not_taken}
                case = replace(case, layouts=kept)
            if case.layouts:
                self.layouts_judged.update(case.layouts.items())
                yield reference, case

    def _kept(self, check: str, reference: Reference) -> Iterator[Case]:
        return (case for case in self.kept.get(check, ()) if case.configuration.rank == reference.space.rank)

    def layouts(self) -> Counter[str]:
        """In how many judged cases of `memory_layout` each array lay in each layout: "dout, negative stride"."""
        state = self.layer.contract.state
        asked: dict[str, int] = {}
        for reference in self.references:
            configuration = self.layer.build(self.layer.base(reference.space), reference.space)
            for name, shape in {} if configuration is None else configuration.shapes.items():
                choices = () if shape is None else layouts.choices(name, len(shape), state)
                taken = [layout for layout in choices if not self.layouts_refused[name, layout]]
                asked |= {f"{name}: {layout}": 0 for layout in taken}
        return Counter(asked | {f"{name}: {layout}": n for (name, layout), n in self.layouts_judged.items()})

    @cached_property
    def cells(self) -> Counter[str]:
        """In how many judged cases each cell was hit, and each pair that real bugs needed."""
        counts: Counter[str] = Counter(dict.fromkeys(self.layer.cells, 0))
        counts.update({f"{one} and {other}": 0 for one, other in self.layer.cell_pairs})
        item_cases = self._tensors["out"]
        for judged in (*item_cases.passed, *(case for case, _, _ in item_cases.failed)):
            cells = self._cells_of(judged)
            counts.update(cells)
            counts.update(
                f"{one} and {other}" for one, other in self.layer.cell_pairs if one in cells and other in cells
            )
        return counts

    def _cells_of(self, case: Case) -> frozenset[str]:
        configuration = case.configuration
        if configuration not in self._cells:
            self._cells[configuration] = cells_of(self.layer, configuration)
        found = self._cells[configuration]
        return found.union(layouts.cells_of(case)) if case.layouts else found

    def refusals(self, check: str) -> str | None:
        """Where the implementation refused, in words; None if it did not."""
        item_cases, told = self.item_cases(check), []
        if check == "memory_layout" and self.layouts_refused:
            told.append(self._refused_layouts())
        if item_cases.refused:
            accepted = [*item_cases.passed, *(case for case, _, _ in item_cases.failed)]
            count = len(item_cases.refused)
            rule = self._refused_where(check) if accepted else None
            if rule is None or any(map(rule.holds, accepted)):
                told.append(f"refused {count} of {count + len(accepted)} cases")
            else:
                told.append(f"refused where {rule.words}: {count} of {count}")
        return "; ".join(told) or None

    def _refused_where(self, check: str) -> Rule | None:
        if check not in self._refusals:
            with quiet(self.warned):
                self._refusals[check] = self._explainer.refused_where(check, now() + REFUSAL_SECONDS)
        return self._refusals[check]

    def _refused_layouts(self) -> str:
        """Such as "from_numpy does not take: negative stride (x, w, dout), 31 of 31"."""
        told = []
        for layout in dict.fromkeys(layout for _, layout in self.layouts_refused):
            names = [name for name, other in self.layouts_refused if other == layout]
            count = sum(self.layouts_refused[name, layout] for name in names)
            total = count + sum(self.layouts_judged[name, layout] for name in names)
            told.append(f"{layout} ({', '.join(names)}), {count} of {total}")
        return f"from_numpy does not take {'; '.join(told)}"

    def counterexamples(
        self, check: str, budget: Budget | None = None, *, known: bool = False, causes: bool = True
    ) -> list[Counterexample]:
        """A smallest failing case for each kind in which the item fails, explained as far as the budget lasts.

        Without `causes` it is not said why and where.
        """
        budget = budget or Budget(self.profile.item_seconds, self.profile.run_seconds)
        with quiet(self.warned):
            return self._explainer.counterexamples(check, budget, known=known, causes=causes)

    def refusal(self, check: str, discrepancy: Discrepancy) -> Counterexample:
        """The failure of a layer that refused everything, shown on the first case that it refused."""
        return self._explainer.refusal(check, discrepancy)

    @cached_property
    def _explainer(self) -> Explainer:
        # Late: where all passes nothing of this is imported.
        from backproof.conformance.explaining.explain import Explainer

        return Explainer(self)


@contextmanager
def quiet(warned: Counter[str]) -> Iterator[None]:
    """Neither warnings nor NumPy's error state decide: they are ignored, and the warnings counted."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: warned.update([f"{category.__name__}: {message}"])
        yield

"""Judges all items of one part of a layer in one dtype, on a shared set of cases."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import Adapter
from backproof.conformance.cases import coverage
from backproof.conformance.cases.draw import drawn
from backproof.conformance.cases.profile import Profile
from backproof.conformance.cases.sweep import swept
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.judging.properties import PROPERTIES, TENSORS, Property
from backproof.conformance.judging.properties.memory_layout import refused
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec import memory_layouts
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Part, Space
from backproof.conformance.spec.results import Status

#: How often each case that is asked in memory layouts is asked, in different ones.
ARRANGEMENTS = 3
#: Added to the seed for cases that are drawn in the place of others.
REDRAWN = 2**64

Progress = Callable[[str, int, int], None]
#: The cases of each rank.
Asked = tuple[tuple[Reference, tuple[Case, ...]], ...]


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
        progress: Progress = lambda title, done, total: None,
        properties: Mapping[str, Property] = PROPERTIES,
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
        #: Failing cases of earlier runs, by item, judged before all others.
        self.kept: Mapping[str, Sequence[Case]] = {}
        #: How often each array was judged in each memory layout, and how often from_numpy did not take it.
        self.layouts_judged: Counter[tuple[str, str]] = Counter()
        self.layouts_refused: Counter[tuple[str, str]] = Counter()
        self._properties = properties
        self._others: dict[str, ItemCases] = {}

    @property
    def title(self) -> str:
        """Such as "conv2d::float64"."""
        return f"{self.part.title}::{self.dtype}"

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The items of the tensors."""
        return TENSORS.items(self.layer, self.candidate.signature)

    @cached_property
    def checks(self) -> tuple[str, ...]:
        """The names of the items."""
        return (*self.tensors, *(name for name, each in self._properties.items() if self._asks(each)))

    @property
    def items(self) -> tuple[Item, ...]:
        """The items."""
        return tuple(map(self.item, self.checks))

    def item(self, check: str) -> Item:
        """The item of this name."""
        return Item(self.layer.name, self.part.title, self.part.spatial_dims, check, self.dtype)

    def property_of(self, check: str) -> Property:
        """The property that decides an item."""
        return self._properties.get(check, TENSORS)

    def _asks(self, property_: Property) -> bool:
        """Whether the layer, and what the candidate declares, has the item."""
        if not property_.is_asked(self.candidate):
            return False
        return not property_.is_listed or any(True for _ in self._listed(property_))

    def _listed(self, property_: Property) -> Iterator[tuple[Reference, Case]]:
        return (
            (reference, case) for reference in self.references for case in property_.cases(self.layer, reference.space)
        )

    def admits(self, case: Case) -> bool:
        """Whether a swept, drawn or listed case is asked at all: every one is."""
        return True

    def item_cases(self, check: str) -> ItemCases:
        """What became of the cases of an item."""
        if check in self.tensors:
            return self._tensors[check]
        if check not in self._others:
            self._others[check] = self._judged(check)
        return self._others[check]

    @property
    def tensors_judged(self) -> bool:
        """Whether the tensors' cases have been judged: an item that is run alone does without."""
        return "_tensors" in vars(self)

    @cached_property
    def swept(self) -> Asked:
        """The smallest-first sweep: for each rank."""
        return tuple(
            (reference, tuple(filter(self.admits, swept(self.layer, reference.space, self.profile))))
            for reference in self.references
        )

    @cached_property
    def drawn(self) -> Asked:
        """The cases that Hypothesis drew, for each rank."""
        return tuple(
            (reference, self._drawn(reference, self.profile.examples, self.seed)) for reference in self.references
        )

    def _drawn(self, reference: Reference, count: int, seed: int) -> tuple[Case, ...]:
        return tuple(filter(self.admits, drawn(self.layer, reference.space, count, seed)))

    @cached_property
    def _tensors(self) -> dict[str, ItemCases]:
        """One run for all tensors: they share their cases."""
        judged = {name: ItemCases() for name in self.tensors}
        unjudged: Counter[Reference] = Counter()
        with quiet(self.warned):
            kept = [(one, case) for one in self.references for name in judged for case in self._kept(name, one)]
            swept = [(reference, case) for reference, cases in self.swept for case in cases]
            asked = [(reference, case) for reference, cases in self.drawn for case in cases]
            everything = kept + swept + asked
            for done, (reference, case) in enumerate(everything):
                self._progress(self.title, done, len(everything))
                if self._judge_tensors(reference, case, judged) and case.origin == "drawn":
                    unjudged[reference] += 1
            for reference, count in unjudged.items():
                # Others in the place of those that were not judged for some tensor.
                for case in self._drawn(reference, count, self.seed + REDRAWN):
                    self._judge_tensors(reference, case, judged)
        return judged

    def _judge_tensors(self, reference: Reference, case: Case, judged: Mapping[str, ItemCases]) -> bool:
        """Judges one case for all tensors; whether one of them could not be judged in it."""
        if case.origin != "sweep":
            reference.confirm(case)
        found = TENSORS.judge(case, self.candidate, reference)
        for name, outcome in found.items():
            judged[name].add(case, reference, outcome)
        return Status.UNJUDGED in found.values()

    def _judged(self, check: str) -> ItemCases:
        judged, property_ = ItemCases(), self._properties[check]
        with quiet(self.warned):
            for reference, case in self.questions(check, judged):
                judged.add(case, reference, property_.judge(case, self.candidate, reference)[check])
        return judged

    def questions(self, check: str, judged: ItemCases) -> Iterator[tuple[Reference, Case]]:
        """The cases of an item that is no tensor's, as they are judged; what `from_numpy` refuses is counted."""
        asked = self.asked(check)
        return self._laid_out(asked, judged) if self._properties[check].in_memory_layouts else asked

    def asked(self, check: str) -> Iterator[tuple[Reference, Case]]:
        """The cases of an item that is no tensor's: those kept, then its list, or some of the swept and the drawn."""
        property_ = self._properties[check]
        for reference in self.references:
            for case in self._kept(check, reference):
                yield reference, case
        if property_.is_listed:
            for reference, case in self._listed(property_):
                if self.admits(case):
                    if case.invalidity is None:
                        reference.confirm(case)
                    yield reference, case
            return
        most = self.profile.others // property_.one_of
        # Every so many of the swept cases, so that all fills and the larger shapes are among them.
        for reference, cases in self.swept:
            step = max(1, len(cases) // most)
            step += step % 2 == 0
            yield from ((reference, case) for case in cases[::step])
        for reference, cases in self.drawn:
            yield from ((reference, case) for case in islice(cases, most))

    def _laid_out(self, asked: Iterator[tuple[Reference, Case]], judged: ItemCases) -> Iterator[tuple[Reference, Case]]:
        """The cases with drawn memory layouts, those that from_numpy does not take left out and counted."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        decks = memory_layouts.Decks(self.layer.contract.state, self.layer.has_meaning, generator)
        for reference, question in asked:
            # A kept case has its layouts.
            trials = [question] if question.layouts else [decks.arrange(question) for _ in range(ARRANGEMENTS)]
            for case in trials:
                if not case.layouts or not self.admits(case):
                    continue
                not_taken = refused(case, self.candidate)
                self.layouts_refused.update(not_taken.items())
                if not_taken:
                    judged.counts[Status.UNSUPPORTED] += 1
                    left = {name: layout for name, layout in case.layouts.items() if name not in not_taken}
                    case = replace(case, layouts=left)
                if case.layouts:
                    self.layouts_judged.update(case.layouts.items())
                    yield reference, case

    def _kept(self, check: str, reference: Reference) -> Iterator[Case]:
        return (case for case in self.kept.get(check, ()) if case.configuration.rank == reference.space.rank)

    def layouts(self) -> Counter[str]:
        """In how many judged cases each array lay in each memory layout: "dout: negative stride"."""
        spaces = [reference.space for reference in self.references]
        return coverage.layouts(self.layer, spaces, self.layouts_judged, self.layouts_refused)

    @cached_property
    def cells(self) -> Counter[str]:
        """In how many judged cases each cell was hit, and each pair that real bugs needed."""
        return coverage.cells(self.layer, self._tensors[self.tensors[0]].accepted)


@contextmanager
def quiet(warned: Counter[str]) -> Iterator[None]:
    """Neither warnings nor NumPy's error state decide: they are ignored, and the warnings counted."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: warned.update([f"{category.__name__}: {message}"])
        yield

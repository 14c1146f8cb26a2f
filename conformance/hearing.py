"""One part of a layer before the court, in one dtype: its cases are drawn once and judged for every item."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from time import perf_counter

import numpy as np

from backproof.conformance.adapter import Adapter
from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Case, Configuration
from backproof.conformance.draw import drawn
from backproof.conformance.law import Law
from backproof.conformance.layer import Layer, Part, Space
from backproof.conformance.profile import Profile
from backproof.conformance.properties import OTHERS, Property, tensors
from backproof.conformance.reduce import plainer, reduced
from backproof.conformance.region import EVERYWHERE, cells_of, region
from backproof.conformance.search import Search
from backproof.conformance.sweep import swept
from backproof.conformance.verdict import Discrepancy, Kind, Status

REDUCING_SECONDS = 2.0
#: Kinds of failure that one item reports, each with a case of its own.
MOST_FAILURES = 3

#: Added to the seed for cases that are drawn in the place of others.
REDRAWN = 2**64

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Counterexample:
    """The smallest failing case found for one item and one kind of failure.

    `proved`: every configuration with meaning that is smaller was judged with every fill, and none failed alike; else
    `smaller_cases` says how many were.
    """

    discrepancy: Discrepancy
    case: Case
    law: Law
    proved: bool
    smaller_cases: int
    region: str | None
    failed: int
    passed: int
    #: False where the case failed once and did not when it was asked again.
    steady: bool = True


@dataclass
class Tally:
    """What became of one item's cases."""

    counts: Counter[Status] = field(default_factory=Counter)
    failed: list[tuple[Case, Law, Discrepancy]] = field(default_factory=list)
    passed: list[Configuration] = field(default_factory=list)
    refused: list[Configuration] = field(default_factory=list)
    #: How many of the judged cases were kept from earlier runs.
    kept: int = 0

    @property
    def examples(self) -> int:
        """The swept and drawn cases among those judged."""
        return self.judged - self.kept

    @property
    def judged(self) -> int:
        """The cases in which the item was right or wrong."""
        return self.counts[Status.RIGHT] + len(self.failed)

    def add(self, case: Case, law: Law, judged: Status | Discrepancy) -> None:
        """Counts one case."""
        if case.origin == "kept" and (judged is Status.RIGHT or isinstance(judged, Discrepancy)):
            self.kept += 1
        if isinstance(judged, Discrepancy):
            self.failed.append((case, law, judged))
            return
        self.counts[judged] += 1
        if judged is Status.RIGHT:
            self.passed.append(case.configuration)
        elif judged is Status.UNSUPPORTED:
            self.refused.append(case.configuration)


class Hearing:
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
        self.laws = tuple(
            Law(layer, Space(implementation.signature, implementation.settings, rank, dtype, exact))
            for rank in part.ranks
        )
        #: What the candidate warned of, and how often.
        self.warned: Counter[str] = Counter()
        #: Failing cases of earlier runs, judged before all others.
        self.kept: Mapping[str, Sequence[Case]] = {}
        self._searches: dict[str, Search] = {}
        self._cells: dict[Configuration, frozenset[str]] = {}

    @property
    def title(self) -> str:
        """Such as "conv2d::float64"."""
        return f"{self.part.title}::{self.dtype}"

    @cached_property
    def checks(self) -> tuple[str, ...]:
        """The names of the items."""
        others = [
            name for name in OTHERS if name != "edges" or any(True for law in self.laws for _ in self._edges(law))
        ]
        return (*self.layer.tensors(self.candidate.signature), *others)

    def _edges(self, law: Law) -> Iterator[Case]:
        return self.layer.edges(law.space)

    def tally(self, check: str) -> Tally:
        """What became of the cases of an item."""
        return self._others[check] if check in OTHERS else self._tensors[check]

    @cached_property
    def swept(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The smallest-first sweep: for each rank."""
        profile = self.profile
        return tuple(
            (law, tuple(swept(self.layer, law.space, profile.sweep, profile.sweep_shapes, profile.tile_edges)))
            for law in self.laws
        )

    @cached_property
    def drawn(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The cases that Hypothesis drew, for each rank."""
        return tuple((law, tuple(drawn(self.layer, law.space, self.profile.examples, self.seed))) for law in self.laws)

    @cached_property
    def _tensors(self) -> dict[str, Tally]:
        """One run for all tensors: they share their cases."""
        tallies = {name: Tally() for name in self.layer.tensors(self.candidate.signature)}
        unjudged: Counter[Law] = Counter()
        with quiet(self.warned):
            kept = [(law, case) for law in self.laws for name in tallies for case in self._kept(name, law)]
            swept = [(law, case) for law, cases in self.swept for case in cases]
            asked = [(law, case) for law, cases in self.drawn for case in cases]
            everything = kept + swept + asked
            for done, (law, case) in enumerate(everything):
                self._progress(self.title, done, len(everything))
                if self._judge_tensors(law, case, tallies) and case.origin == "drawn":
                    unjudged[law] += 1
            for law, count in unjudged.items():
                # Others in the place of those that were not judged for some tensor.
                for case in drawn(self.layer, law.space, count, self.seed + REDRAWN):
                    self._judge_tensors(law, case, tallies)
        return tallies

    def _judge_tensors(self, law: Law, case: Case, tallies: Mapping[str, Tally]) -> bool:
        """Judges one case for all tensors; whether one of them could not be judged in it."""
        if case.origin != "sweep":
            law.confirm(case)
        found = tensors(case, self.candidate, law)
        for name, judged in found.items():
            tallies[name].add(case, law, judged)
        return Status.UNJUDGED in found.values()

    @cached_property
    def _others(self) -> dict[str, Tally]:
        tallies = {name: Tally() for name in self.checks if name in OTHERS}
        with quiet(self.warned):
            for name, tally in tallies.items():
                for law, case in self._cases_of(name):
                    tally.add(case, law, OTHERS[name](case, self.candidate, law)[name])
        return tallies

    def _cases_of(self, check: str) -> Iterator[tuple[Law, Case]]:
        if check == "edges":
            for law in self.laws:
                for case in self._edges(law):
                    law.confirm(case)
                    yield law, case
            return
        for law in self.laws:
            for case in self._kept(check, law):
                yield law, case
        # Every so many of the swept cases, so that all fills and the larger shapes are among them.
        for law, cases in self.swept:
            step = max(1, len(cases) // self.profile.others)
            step += step % 2 == 0
            yield from ((law, case) for case in cases[::step])
        for law, cases in self.drawn:
            yield from ((law, case) for case in islice(cases, self.profile.others))

    def _kept(self, check: str, law: Law) -> Iterator[Case]:
        return (case for case in self.kept.get(check, ()) if case.configuration.rank == law.space.rank)

    def cells(self) -> Counter[str]:
        """In how many judged cases each cell was hit, and each pair that real bugs needed."""
        counts: Counter[str] = Counter(dict.fromkeys(self.layer.cells, 0))
        counts.update({f"{one} and {other}": 0 for one, other in self.layer.cell_pairs})
        tally = self._tensors["out"]
        for configuration in (*tally.passed, *(case.configuration for case, _, _ in tally.failed)):
            cells = self._cells_of(configuration)
            counts.update(cells)
            counts.update(
                f"{one} and {other}" for one, other in self.layer.cell_pairs if one in cells and other in cells
            )
        return counts

    def _cells_of(self, configuration: Configuration) -> frozenset[str]:
        if configuration not in self._cells:
            self._cells[configuration] = cells_of(self.layer, configuration)
        return self._cells[configuration]

    def refusals(self, check: str) -> str | None:
        """Where the implementation refused, in words; None if it did not."""
        tally = self.tally(check)
        if not tally.refused:
            return None
        accepted = [*tally.passed, *(case.configuration for case, _, _ in tally.failed)]
        for configuration in (*tally.refused, *accepted):
            self._cells_of(configuration)
        where = region(self.layer, tally.refused, accepted, self._cells)
        count = len(tally.refused)
        if where is None or not accepted:
            return f"refused {count} of {count + len(accepted)} cases"
        return f"refused where {where}: {count} of {count}"

    def counterexamples(self, check: str, *, explain: bool = True) -> list[Counterexample]:
        """A smallest failing case for each kind in which the item fails, the most frequent kind first.

        `explain` False: the smallest of the cases that were judged anyway.
        """
        tally = self.tally(check)
        kinds = Counter(discrepancy.kind for _, _, discrepancy in tally.failed)
        with quiet(self.warned):
            return [self._smallest(check, kind, tally, explain) for kind, _ in kinds.most_common(MOST_FAILURES)]

    def refusal(self, check: str, discrepancy: Discrepancy) -> Counterexample:
        """The failure of a layer that refused everything, shown on the first case that it refused."""
        tally = self.tally(check)
        configuration = min(tally.refused, key=lambda c: c.size)
        law = next(law for law in self.laws if law.space.rank == configuration.rank)
        case = next(iter(self.layer.fills(configuration, law.space)))
        return Counterexample(discrepancy, case, law, False, 0, EVERYWHERE, len(tally.refused), 0)

    def _smallest(self, check: str, kind: Kind, tally: Tally, explain: bool) -> Counterexample:
        failing = [entry for entry in tally.failed if entry[2].kind == kind]
        start = first, law, discrepancy = min(failing, key=lambda entry: entry[0].key)
        property_: Property = OTHERS.get(check, tensors)
        told = {first: discrepancy}

        def fails(law: Law, trial: Case) -> bool:
            judged = property_(trial, self.candidate, law).get(check)
            if isinstance(judged, Discrepancy) and judged.kind == kind:
                told[trial] = judged
                return True
            return False

        case, proved, smaller = first, False, 0
        steady = not explain or fails(law, first)
        if explain and steady:
            if check == "edges":
                proved, smaller = self._smaller_edges(case)
            else:
                case = reduced(case, partial(fails, law), self.layer, law.space, REDUCING_SECONDS)
                found = self._search(check).smaller(check, kind, case.configuration.size)
                if found.case is not None and found.law is not None:
                    law = found.law
                    until = perf_counter() + REDUCING_SECONDS
                    case = plainer(found.case, partial(fails, law), self.layer, law.space, until)
                proved, smaller = found.complete, found.cases
            steady = fails(law, case)
        if not steady:
            case, law, told[first] = start
            proved, smaller = False, 0
        law.confirm(case)
        bad = [entry[0].configuration for entry in failing]
        for configuration in (*bad, *tally.passed):
            self._cells_of(configuration)
        where = region(self.layer, bad, tally.passed, self._cells)
        return Counterexample(told[case], case, law, proved, smaller, where, len(bad), len(tally.passed), steady)

    def _smaller_edges(self, case: Case) -> tuple[bool, int]:
        """The edges are a list that was judged whole and begins with the smallest that there are."""
        smaller = [other for _, other in self._cases_of("edges") if other.configuration.size < case.configuration.size]
        return not smaller, len(smaller)

    def _search(self, check: str) -> Search:
        other = check in OTHERS
        key = check if other else ""  # tensors share one search
        if key not in self._searches:
            property_ = OTHERS[check] if other else tensors
            self._searches[key] = Search(
                self.laws,
                lambda case, law: property_(case, self.candidate, law),
                self.profile.search_cases,
                self.profile.search_seconds,
            )
        return self._searches[key]


@contextmanager
def quiet(warned: Counter[str]) -> Iterator[None]:
    """Neither warnings nor NumPy's error state decide: they are ignored, and the warnings counted."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: warned.update([f"{category.__name__}: {message}"])
        yield

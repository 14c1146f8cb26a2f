"""One part of a layer before the court, in one dtype: its cases are drawn once and judged for every item."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from time import perf_counter

import numpy as np

from backproof.conformance import layouts
from backproof.conformance.accuracy import in_words
from backproof.conformance.adapter import Adapter
from backproof.conformance.candidate import Candidate
from backproof.conformance.case import Case, Configuration
from backproof.conformance.draw import drawn
from backproof.conformance.law import Law
from backproof.conformance.layer import Layer, Part, Space
from backproof.conformance.profile import Profile
from backproof.conformance.properties import LISTED, OF_SOME, OTHERS, Property, tensors
from backproof.conformance.properties.memory_layout import arrangements, refused
from backproof.conformance.reduce import plainer, reduced
from backproof.conformance.region import EVERYWHERE, cells_of, region
from backproof.conformance.search import Search
from backproof.conformance.sweep import swept
from backproof.conformance.tally import Counterexample, Tally
from backproof.conformance.verdict import Discrepancy, Kind, Status

REDUCING_SECONDS = 2.0
#: Kinds of failure that one item reports, each with a case of its own.
MOST_FAILURES = 3

#: How often each case of `memory_layout` is asked, in different layouts.
ARRANGEMENTS = 3
#: Relations ask other shapes than the case's own: so many cases of the others are one of theirs.
SELDOM = 3

#: What else is accepted without meaning, named in the sentence.
MOST_FLAWS = 4

#: Added to the seed for cases that are drawn in the place of others.
REDRAWN = 2**64

Progress = Callable[[str, int, int], None]


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
        #: How often each array was judged in each memory layout, and how often from_numpy did not take it.
        self.layouts_judged: Counter[tuple[str, str]] = Counter()
        self.layouts_refused: Counter[tuple[str, str]] = Counter()
        self._others: dict[str, Tally] = {}
        self._searches: dict[str, Search] = {}
        self._cells: dict[Configuration, frozenset[str]] = {}

    @property
    def title(self) -> str:
        """Such as "conv2d::float64"."""
        return f"{self.part.title}::{self.dtype}"

    @cached_property
    def checks(self) -> tuple[str, ...]:
        """The names of the items."""
        return (*self.layer.tensors(self.candidate.signature), *filter(self._asks, OTHERS))

    def _asks(self, check: str) -> bool:
        """Whether the layer, and what the candidate declares, has this item."""
        if check == "rejection" and not self.candidate.adapter.settings["rejects"]:
            return False
        method = OF_SOME.get(check)
        if method is not None and getattr(type(self.layer), method) is getattr(Layer, method):
            return False
        return check not in LISTED or any(True for law in self.laws for _ in self._listed(check, law))

    def _listed(self, check: str, law: Law) -> Iterator[Case]:
        found: Iterator[Case] = getattr(self.layer, LISTED[check])(law.space)
        return found

    def admits(self, case: Case) -> bool:
        """Whether a swept, drawn or listed case is asked at all: every one is."""
        return True

    def tally(self, check: str) -> Tally:
        """What became of the cases of an item."""
        if check not in OTHERS:
            return self._tensors[check]
        if check not in self._others:
            self._others[check] = self._heard(check)
        return self._others[check]

    @cached_property
    def swept(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The smallest-first sweep: for each rank."""
        profile = self.profile
        return tuple((law, tuple(filter(self.admits, swept(self.layer, law.space, profile)))) for law in self.laws)

    @cached_property
    def drawn(self) -> tuple[tuple[Law, tuple[Case, ...]], ...]:
        """The cases that Hypothesis drew, for each rank."""
        return tuple(
            (law, tuple(filter(self.admits, drawn(self.layer, law.space, self.profile.examples, self.seed))))
            for law in self.laws
        )

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
                for case in filter(self.admits, drawn(self.layer, law.space, count, self.seed + REDRAWN)):
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

    def _heard(self, check: str) -> Tally:
        tally, judge = Tally(), OTHERS[check]
        with quiet(self.warned):
            cases = self.asked(check)
            for law, case in self._laid_out(cases, tally) if check == "memory_layout" else cases:
                tally.add(case, law, judge(case, self.candidate, law)[check])
        return tally

    def asked(self, check: str) -> Iterator[tuple[Law, Case]]:
        """The cases of an item that is no tensor's: those kept, then its list, or some of the swept and the drawn."""
        for law in self.laws:
            for case in self._kept(check, law):
                yield law, case
        if check in LISTED:
            for law in self.laws:
                for case in filter(self.admits, self._listed(check, law)):
                    if case.flaw is None:
                        law.confirm(case)
                    yield law, case
            return
        most = self.profile.others // SELDOM if check == "relations" else self.profile.others
        # Every so many of the swept cases, so that all fills and the larger shapes are among them.
        for law, cases in self.swept:
            step = max(1, len(cases) // most)
            step += step % 2 == 0
            yield from ((law, case) for case in cases[::step])
        for law, cases in self.drawn:
            yield from ((law, case) for case in islice(cases, most))

    @staticmethod
    def _arranged(case: Case, decks: layouts.Decks) -> list[Case]:
        return [case] if case.layouts else [decks.arrange(case) for _ in range(ARRANGEMENTS)]

    def _laid_out(self, cases: Iterator[tuple[Law, Case]], tally: Tally) -> Iterator[tuple[Law, Case]]:
        """The cases with drawn memory layouts, those that from_numpy does not take left out and counted."""
        state = self.layer.contract.state
        decks = layouts.Decks(state, self.layer.has_meaning, np.random.Generator(np.random.PCG64(self.seed)))
        arranged = ((law, trial) for law, question in cases for trial in self._arranged(question, decks))
        for law, case in arranged:
            if not case.layouts or not self.admits(case):
                continue
            not_taken = refused(case, self.candidate)
            self.layouts_refused.update(not_taken.items())
            if not_taken:
                tally.counts[Status.UNSUPPORTED] += 1
                kept = {name: layout for name, layout in case.layouts.items() if name not in not_taken}
                case = replace(case, layouts=kept)
            if case.layouts:
                self.layouts_judged.update(case.layouts.items())
                yield law, case

    def _kept(self, check: str, law: Law) -> Iterator[Case]:
        return (case for case in self.kept.get(check, ()) if case.configuration.rank == law.space.rank)

    def layouts(self) -> Counter[str]:
        """In how many judged cases of `memory_layout` each array lay in each layout: "dout, negative stride"."""
        state = self.layer.contract.state
        asked: dict[str, int] = {}
        for law in self.laws:
            configuration = self.layer.build(self.layer.base(law.space), law.space)
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
        tally = self._tensors["out"]
        for judged in (*tally.passed, *(case for case, _, _ in tally.failed)):
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

    def _region(self, failed: Sequence[Case], passed: Sequence[Case]) -> str | None:
        in_memory = dict.fromkeys(cell for case in failed for cell in layouts.cells_of(case))
        cells_of = self._cells_of
        order = (*in_memory, *self.layer.cells)
        return region(order, [cells_of(case) for case in failed], [cells_of(case) for case in passed])

    def refusals(self, check: str) -> str | None:
        """Where the implementation refused, in words; None if it did not."""
        tally, told = self.tally(check), []
        if check == "memory_layout" and self.layouts_refused:
            told.append(self._refused_layouts())
        if tally.refused:
            accepted = [*tally.passed, *(case for case, _, _ in tally.failed)]
            where, count = self._region(tally.refused, accepted), len(tally.refused)
            unknown = where is None or not accepted
            told.append(
                f"refused {count} of {count + len(accepted)} cases"
                if unknown
                else f"refused where {where}: {count} of {count}"
            )
        return "; ".join(told) or None

    def _refused_layouts(self) -> str:
        """Such as "from_numpy does not take: negative stride (x, w, dout), 31 of 31"."""
        told = []
        for layout in dict.fromkeys(layout for _, layout in self.layouts_refused):
            names = [name for name, other in self.layouts_refused if other == layout]
            count = sum(self.layouts_refused[name, layout] for name in names)
            total = count + sum(self.layouts_judged[name, layout] for name in names)
            told.append(f"{layout} ({', '.join(names)}), {count} of {total}")
        return f"from_numpy does not take {'; '.join(told)}"

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
        configuration = min((case.configuration for case in tally.refused), key=lambda c: c.size)
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
            if check in LISTED:
                proved, smaller = self._smaller_listed(check, case)
            else:
                case = self._reduced(case, law, fails)
                found = self._search(check).smaller(check, kind, case.configuration.size)
                if found.case is not None and found.law is not None:
                    law = found.law
                    until = perf_counter() + REDUCING_SECONDS
                    case = self._in_layouts(found.case, law, fails) if check == "memory_layout" else found.case
                    case = plainer(case, partial(fails, law), self.layer, law.space, until)
                proved, smaller = found.complete, found.cases
            steady = fails(law, case)
        if not steady:
            case, law, told[first] = start
            proved, smaller = False, 0
        if case.flaw is not None:
            flaws = [flaw for entry in failing if (flaw := entry[0].flaw) is not None and flaw != case.flaw]
            others = [flaw.words for flaw in flaws]
            message = f"{told[case].message}{_also(list(dict.fromkeys(others)))}"
            return Counterexample(
                replace(told[case], message=message),
                case,
                law,
                proved,
                smaller,
                None,
                len(failing),
                len(tally.passed),
                steady,
            )
        law.confirm(case)
        bad = [entry[0] for entry in failing]
        where = self._region(bad, tally.passed)
        message = in_words(check, told[case].message, failing, self.candidate)
        discrepancy = replace(told[case], message=message)
        return Counterexample(discrepancy, case, law, proved, smaller, where, len(bad), len(tally.passed), steady)

    def _reduced(self, case: Case, law: Law, fails: Callable[[Law, Case], bool]) -> Case:
        """The case made smaller: first as few arrays as possible in another layout, then the rest, in those layouts."""
        for name in list(case.layouts):
            fewer = {other: layout for other, layout in case.layouts.items() if other != name}
            trial = replace(case, layouts=fewer)
            if fewer and fails(law, trial):
                case = trial
        return reduced(case, partial(fails, law), self.layer, law.space, REDUCING_SECONDS)

    def _in_layouts(self, case: Case, law: Law, fails: Callable[[Law, Case], bool]) -> Case:
        """The arrangement in which a case fails that was found without one."""
        return next((trial for trial in arrangements(case, self.candidate, law) if fails(law, trial)), case)

    def _smaller_listed(self, check: str, case: Case) -> tuple[bool, int]:
        """A list is judged whole and begins with the smallest that there are."""
        size = case.configuration.size
        smaller = [other for _, other in self.asked(check) if other.configuration.size < size]
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


def _also(flaws: Sequence[str]) -> str:
    """Such as " It also accepts eps=0; eps=-1e-05 and 3 more." """
    if not flaws:
        return ""
    more = f" and {len(flaws) - MOST_FLAWS} more" if len(flaws) > MOST_FLAWS else ""
    return f" It also accepts {'; '.join(flaws[:MOST_FLAWS])}{more}."


@contextmanager
def quiet(warned: Counter[str]) -> Iterator[None]:
    """Neither warnings nor NumPy's error state decide: they are ignored, and the warnings counted."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: warned.update([f"{category.__name__}: {message}"])
        yield

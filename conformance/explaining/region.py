"""What a rule is held against: the cases that were judged, and further ones that decide between rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backproof.conformance.cases.draw import CONFIGURATION, NUMBERS
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.rules import (
    SOMEHOW_EVERYWHERE,
    Candidate,
    Rule,
    Table,
    Vocabulary,
    features_of,
    narrowest,
    shortest,
)
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec import memory_layouts as layouts
from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.tape import Tape

#: Whether a case fails, None: that cannot be said of it.
Judge = Callable[[Case, Reference], bool | None]
Key = tuple[object, ...]

#: So many of the cases of a item_cases are looked at, of those that failed and of those that passed.
MOST_OF_AN_ITEM = 400
#: Configurations among which those are found that decide between rules.
POOL = 240
#: At most so many rounds of finding rules and trying them, so many cases in each, all together.
ROUNDS, OF_A_ROUND, MOST_JUDGED = 10, 40, 500
#: So many of the first rules must stay the same.
FIRST = 4
#: Two rounds without a change, and the rule stands.
STEADY = 2
#: A rule on the numbers as well may be so much longer than one that no numbers are told in.
MORE_FOR_NUMBERS = 2
#: What kernels take at a time.
TILES = (4, 8, 16)
#: Larger configurations are not asked beside the ones that failed.
LARGEST = 2000


@dataclass
class Evidence:
    """Judged cases with what is said of each, and which configuration it is of."""

    vocabulary: Vocabulary
    cases: list[Case] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    facts: list[Mapping[str, bool | int | float]] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    #: Whether it is one of the item's own, which are counted, or stands beside them.
    own: list[bool] = field(default_factory=list)

    def add(self, case: Case, failed: bool, *, own: bool = True) -> None:
        """Takes one case."""
        self.own.append(own)
        facts = self.vocabulary.facts(case)
        if not self.facts:
            self.numbers |= facts.keys() - self.vocabulary.facts(case, numbers=False).keys()
        self.cases.append(case)
        self.failed.append(failed)
        self.facts.append(facts)

    def of_configurations(self) -> tuple[list[int], Array]:
        """A case of each configuration, and whether it failed with any numbers; those that passed with dense ones."""
        found: dict[Key, int] = {}
        dense: set[Key] = set()
        for k, case in enumerate(self.cases):
            key = key_of(case)
            if key not in found or (self.failed[k] and not self.failed[found[key]]):
                found[key] = k
            if self.failed[k] or is_dense(case):
                dense.add(key)
        chosen = [k for key, k in found.items() if key in dense]
        return chosen, np.array([self.failed[k] for k in chosen], bool)


def key_of(case: Case) -> Key:
    """What is one configuration: everything but the numbers."""
    configuration = case.configuration
    flawed = (case.flaw, *configuration.shapes.values()) if case.flaw else ()
    return (configuration.rank, *configuration.parameters.values(), *case.layouts.items(), *flawed)


def is_dense(case: Case) -> bool:
    """Whether few numbers are 0 and few arrays hold one number alone: hardly a fault hides behind such numbers."""
    for name, a in case.arrays.items():
        if a is None or name in case.layouts or not a.size:
            continue
        if 4 * np.count_nonzero(a) < 3 * a.size or (a.size > 1 and bool((a == a.flat[0]).all())):
            return False
    return True


def dense(reference: Reference, configuration: Configuration, generator: np.random.Generator) -> Case | None:
    """The configuration with normal numbers, the states positive; None where that has no meaning."""
    state = reference.layer.contract.state
    arrays: dict[str, Array | None] = {}
    for name, shape in configuration.shapes.items():
        numbers = None if shape is None else np.asarray(generator.standard_normal(shape))
        arrays[name] = np.abs(numbers) + 0.5 if numbers is not None and name in state else numbers
    case = Case(
        configuration, reference.space.dtype, rounded(arrays, reference.layer.dtypes(reference.space)), "region"
    )
    return case if reference.layer.has_meaning(case) else None


class RegionSearch:
    """Finds the rule of one item's failures by asking more cases: those that some of the shortest rules disagree on.

    `decks` is given where cases are asked in memory layouts. A list of cases that is judged whole is `closed`: nothing
    is asked beside it.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        judge: Judge,
        *,
        seed: int = 0,
        seconds: float = 0.5,
        arranged: bool = False,
        closed: bool = False,
    ) -> None:
        self._references = {reference.space.rank: reference for reference in references}
        self._judge, self._until = judge, now() + seconds
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._layer = references[0].layer
        self._arranged, self._closed = arranged, closed
        self.evidence = Evidence(Vocabulary(self._layer))
        self.asked = 0
        self._pool: list[Case] = []
        self._pool_facts: list[Mapping[str, bool | int | float]] = []

    # --- what is asked ---

    def _open(self) -> bool:
        return not self._closed and self.asked < MOST_JUDGED and now() < self._until

    def _ask(self, case: Case) -> bool | None:
        if not self._open():
            return None
        self.asked += 1
        failed = self._judge(case, self._references[case.configuration.rank])
        if failed is not None:
            self.evidence.add(case, failed)
        return failed

    def _ask_configuration(self, case: Case) -> None:
        """With the first of the fixed fills and with dense numbers, until it fails."""
        reference = self._references[case.configuration.rank]
        for trial in self._filled(reference, case):
            if self._ask(trial):
                return

    def _filled(self, reference: Reference, case: Case) -> Iterator[Case]:
        fills = (
            fill
            for fill in reference.layer.fills(case.configuration, reference.space)
            if reference.layer.has_meaning(fill)
        )
        trials = (*list(fills)[:1], *(dense(reference, case.configuration, self._generator) for _ in range(2)))
        for trial in trials:
            if trial is None:
                continue
            if not self._arranged:
                yield trial
            elif (laid := layouts.arranged(trial, case.layouts, reference.layer.has_meaning)).layouts == case.layouts:
                yield laid

    # --- configurations to ask ---

    def _build(self, parameters: Mapping[str, int], rank: int) -> Configuration | None:
        reference = self._references[rank]
        found = reference.layer.build(parameters, reference.space)
        return found if found is not None and found.elements <= max(LARGEST, self._largest) else None

    def _neighbours(self, case: Case) -> Iterator[Configuration | None]:
        """One parameter another, and two of them neutral."""
        parameters, rank = case.configuration.parameters, case.configuration.rank
        base = self._layer.base(self._references[rank].space)
        for name, value in parameters.items():
            near = (base[name], value - 1, value + 1, value - 2, value + 2, value // 2, 2 * value, 0, 1, 2, 3)
            for other in dict.fromkeys(near):
                if other != value and other >= 0:
                    yield self._build({**parameters, name: other}, rank)
        names = list(parameters)
        for one in names:
            second = names[int(self._generator.integers(len(names)))]
            yield self._build({**parameters, one: base[one], second: base[second]}, rank)

    def _multiples(self, case: Case) -> Iterator[Configuration | None]:
        """One size the next multiples of what kernels take at a time: few cases have those by chance."""
        parameters, rank = case.configuration.parameters, case.configuration.rank
        for name, value in parameters.items():
            sizes = [tile * (value // tile + step) for tile in TILES for step in (1, 2)] if value > 3 else []
            for size in dict.fromkeys(sizes):
                yield self._build({**parameters, name: size}, rank)

    def _edges(self, case: Case) -> None:
        """How small each size can be for the case still to fail."""
        parameters, rank = case.configuration.parameters, case.configuration.rank
        base = self._layer.base(self._references[rank].space)
        for name, value in parameters.items():
            low, high = base[name], value
            while high - low > 1 and self._open():
                middle = (low + high) // 2
                found = self._build({**parameters, name: middle}, rank)
                if found is None:
                    break
                before = len(self.evidence.cases)
                self._ask_configuration(replace(case, configuration=found))
                if any(self.evidence.failed[before:]):
                    high = middle
                else:
                    low = middle

    def _plainest(self, like: Case) -> Configuration:
        reference = self._references[like.configuration.rank]
        return reference.layer.build(self._layer.base(reference.space), reference.space) or like.configuration

    def _mixed(self, one: Case, other: Case) -> Configuration | None:
        """Some parameters of the one, the rest of the other."""
        first, second = one.configuration, other.configuration
        if first.rank != second.rank:
            return None
        share = self._generator.choice((0.2, 0.5, 0.8))
        mixed = {
            name: value if self._generator.random() < share else second.parameters[name]
            for name, value in first.parameters.items()
        }
        return self._build(mixed, first.rank)

    def _fill_pool(self, start: Case) -> None:
        """Configurations beside those that failed, between those and others, and drawn ones; each once."""
        bad = [case for case, failed in zip(self.evidence.cases, self.evidence.failed, strict=True) if failed]
        good = [case for case, failed in zip(self.evidence.cases, self.evidence.failed, strict=True) if not failed]
        pool: list[Configuration | None] = list(self._neighbours(start))
        for _ in range(2):
            pool += self._neighbours(bad[int(self._generator.integers(len(bad)))])
        for _ in range(POOL):
            one, other = (some[int(self._generator.integers(len(some)))] for some in (bad, good or bad))
            pool.append(self._mixed(one, other))
        for reference in self._references.values():
            for _ in range(POOL // 2):
                drawn = reference.layer.draw(Tape(self._generator.bytes(CONFIGURATION)), reference.space)
                pool.append(drawn if drawn.elements <= max(LARGEST, self._largest) else None)
        seen = {key_of(case) for case in self.evidence.cases}
        state = self._layer.contract.state
        for configuration in pool:
            if configuration is None:
                continue
            case = Case(configuration, start.dtype, start.arrays)
            if self._arranged:
                case = self._in_some_layout(case, bad, state)
            key = key_of(case)
            if key not in seen and (case.layouts or not self._arranged):
                seen.add(key)
                self._pool.append(case)
                self._pool_facts.append(self.evidence.vocabulary.facts(case, numbers=False))

    def _in_some_layout(self, case: Case, bad: Sequence[Case], state: Sequence[str]) -> Case:
        """One array in any layout, or as in a case that failed."""
        reference = self._references[case.configuration.rank]
        case = next(fill for fill in reference.layer.fills(case.configuration, reference.space))
        like = bad[int(self._generator.integers(len(bad)))]
        if like.configuration.rank == case.configuration.rank and self._generator.random() < 0.5:
            return layouts.arranged(case, like.layouts, reference.layer.has_meaning)
        names = [name for name, a in case.arrays.items() if a is not None]
        name = names[int(self._generator.integers(len(names)))]
        choices = layouts.choices(name, len(case.configuration.shape(name)), state)
        layout = choices[int(self._generator.integers(len(choices)))]
        return layouts.arranged(case, {name: layout}, reference.layer.has_meaning)

    # --- the rule ---

    def rule(
        self, start: Case, failed: Sequence[Case], passed: Sequence[Case], beside: Sequence[Case] = ()
    ) -> Rule | None:
        """The shortest rule that nothing contradicts; `start` is the smallest case that fails.

        The cases `beside` are right and none of the item's own: the rule is held against them, and does not count them.
        """
        self._largest = start.configuration.elements
        for case in _some(failed):
            self.evidence.add(case, True)
        for case in _some(passed):
            self.evidence.add(case, False)
        for case in _some(beside):
            self.evidence.add(case, False, own=False)
        if not self._closed:
            self._ask_configuration(start)
            for configuration in self._neighbours(start):
                if configuration is not None and self.asked < MOST_JUDGED // 4:
                    self._ask_configuration(self._placed(configuration, start))
            for configuration in self._multiples(start):
                if configuration is not None:
                    self._ask_configuration(self._placed(configuration, start))
            if all(self.evidence.failed):
                # Before it is said to fail everywhere the plainest configurations are asked.
                plainest = replace(start, configuration=self._plainest(start), layouts=start.layouts)
                for configuration in self._neighbours(plainest):
                    if configuration is not None and self.asked < MOST_JUDGED // 2:
                        self._ask_configuration(self._placed(configuration, start))
            self._edges(start)
            self._fill_pool(start)
        steady, before = 0, ""
        for _ in range(ROUNDS):
            found, of_configurations = self._candidates()
            words = "|".join(candidate.words for candidate in found[:FIRST])
            steady = steady + 1 if words == before else 0
            before = words
            if steady >= STEADY or not self._open():
                break
            self._try(found, of_configurations)
        rule = self._best()
        if rule is not None and not rule.holds(start):
            # What is shown is no exception.
            self.evidence.add(start, True)
            rule = self._best()
        return rule

    def _best(self) -> Rule | None:
        found, of_configurations = self._candidates()
        return self._told(found[0], of_configurations) if found else None

    def _placed(self, configuration: Configuration, like: Case) -> Case:
        case = Case(configuration, like.dtype, like.arrays)
        return replace(case, layouts=like.layouts)

    def _candidates(self) -> tuple[list[Candidate], bool]:
        """The shortest rules, on cases if nothing contradicts them there, else on configurations; or the narrowest."""
        evidence = self.evidence
        chosen, failed = evidence.of_configurations()
        table = Table([evidence.facts[k] for k in chosen])
        plain = [f for f in features_of(table, failed, frozenset(evidence.numbers)) if not f.of_numbers]
        found = shortest(plain, table, failed)
        found = [candidate for candidate in found if len(candidate.features) < 2 or not self._closed]
        everything, outcome = Table(evidence.facts), np.array(evidence.failed, bool)
        if found and not (found[0].holds(everything) & ~outcome).any():
            return found, False
        more = features_of(everything, outcome, frozenset(evidence.numbers))
        if self._closed:
            # The numbers of a list are the same in all of its cases, but for their shapes.
            more = [feature for feature in more if not feature.of_numbers]
        exact = shortest(more, everything, outcome)
        exact = [candidate for candidate in exact if len(candidate.features) < 2 or not self._closed]
        if exact and (not found or exact[0].length <= found[0].length + MORE_FOR_NUMBERS):
            return exact, False
        if self._closed:
            # Of a few cases some pair of things can always be said that tells them apart.
            return found, True
        found = found or narrowest(plain, table, failed)
        return (found, True) if found else (narrowest(more, everything, outcome), False)

    def _try(self, found: Sequence[Candidate], of_configurations: bool) -> None:
        """Asks what the candidates disagree on, and where the first of them may be wrong."""
        if not found:
            self._ask_again()
            return
        left = self._pool
        if left:
            table = Table(self._pool_facts)
            held = np.array([candidate.holds(table) for candidate in found]).mean(axis=0)
            split = np.minimum(held, 1 - held)
            order = np.argsort(-split + 1e-3 * self._generator.random(len(split)), kind="stable")
            disputed = [k for k in order if split[k] > 0][: OF_A_ROUND // 2]
            sure = [k for k in self._generator.permutation(len(left)) if split[k] == 0]
            inside = [k for k in sure if held[k]][: OF_A_ROUND // 4]
            outside = [k for k in sure if not held[k]][: OF_A_ROUND // 4]
            taken = {*disputed, *inside, *outside}
            for k in sorted(taken):
                self._ask_configuration(left[int(k)])
            self._pool = [case for k, case in enumerate(left) if k not in taken]
            self._pool_facts = [facts for k, facts in enumerate(self._pool_facts) if k not in taken]
        if any(feature.of_numbers for candidate in found for feature in candidate.features):
            for case in self._other_numbers():
                self._ask(case)
        if of_configurations:
            self._ask_again()

    def _ask_again(self) -> None:
        """Configurations that passed, with other dense numbers."""
        chosen, failed = self.evidence.of_configurations()
        passed = [self.evidence.cases[k] for k, bad in zip(chosen, failed, strict=True) if not bad]
        for k in self._generator.permutation(len(passed))[:OF_A_ROUND]:
            self._ask_configuration(passed[int(k)])

    def _other_numbers(self) -> Iterator[Case]:
        """Cases that failed and that passed, with drawn numbers, and with one array changed."""
        cases, generator = self.evidence.cases, self._generator
        state = self._layer.contract.state
        for k in generator.permutation(len(cases))[: OF_A_ROUND // 2]:
            case = cases[int(k)]
            if case.layouts:
                continue
            reference = self._references[case.configuration.rank]
            drawn = reference.layer.fill(case.configuration, Tape(generator.bytes(NUMBERS)), reference.space)
            names = [name for name, a in case.arrays.items() if a is not None and name not in state]
            name = names[int(generator.integers(len(names)))]
            array = case.array(name)
            changes = (array * 0, array * 0 + 1, np.abs(array), -np.abs(array), np.rint(array), array * 1024)
            changed = changes[int(generator.integers(len(changes)))]
            other = case.with_arrays(
                rounded({**case.wide, name: changed}, reference.layer.dtypes(reference.space)), "region"
            )
            for trial in (drawn, other):
                if reference.layer.has_meaning(trial):
                    yield trial

    def _told(self, candidate: Candidate, of_configurations: bool) -> Rule:
        evidence = self.evidence
        if of_configurations:
            chosen, failed = evidence.of_configurations()
        else:
            chosen, failed = list(range(len(evidence.cases))), np.array(evidence.failed, bool)
        own = np.array([evidence.own[k] for k in chosen], bool)
        chosen, failed = [k for k in chosen if evidence.own[k]], failed[own]
        vocabulary = evidence.vocabulary
        count = int(failed.sum())
        inside = int((candidate.holds(Table([evidence.facts[k] for k in chosen])) & ~failed).sum())

        def holds(case: Case) -> bool:
            return bool(candidate.holds(Table([vocabulary.facts(case)]))[0])

        words = candidate.words if candidate.features or not of_configurations else SOMEHOW_EVERYWHERE
        return Rule(words, holds, count, len(failed) - count, inside, of_configurations)


def _some(cases: Sequence[Case]) -> Sequence[Case]:
    """So many of them, evenly spread."""
    step = -(-len(cases) // MOST_OF_AN_ITEM)
    return cases[:: max(1, step)]

"""Finds where an item fails: judges further cases that decide between candidate rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backproof.conformance.cases.draw import CONFIGURATION, NUMBERS
from backproof.conformance.explaining.budget import now
from backproof.conformance.explaining.counterexample import SOMEHOW_EVERYWHERE
from backproof.conformance.explaining.rules import (
    Rule,
    RuleCandidate,
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

#: Whether a case fails; None where it does not count.
Judge = Callable[[Case, Reference], bool | None]
Key = tuple[object, ...]

#: The most cases of an item that are looked at, of those that failed and of those that passed.
MOST_OF_AN_ITEM = 400
#: The number of configurations among which to find those that decide between rules.
POOL = 240
#: The most rounds of finding rules and trying them, cases in each, and cases in all.
ROUNDS, OF_A_ROUND, MOST_JUDGED = 10, 40, 500
#: The rules at the head of the list that must stay the same,
FIRST = 4
#: for so many rounds, for the rule to stand.
STEADY = 2
#: How much longer a rule may be that also has conditions on the numbers.
MORE_FOR_NUMBERS = 2
#: Tile sizes of kernels.
TILES = (4, 8, 16)
#: The most elements of a further case, unless a failing one is larger.
LARGEST = 2000


@dataclass
class LabelledCases:
    """Judged cases, each with its facts and whether it failed."""

    vocabulary: Vocabulary
    cases: list[Case] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    facts: list[Mapping[str, bool | int | float]] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    #: Whether the case is one of the item's own, which are counted.
    own: list[bool] = field(default_factory=list)

    def add(self, case: Case, failed: bool, *, own: bool = True) -> None:
        """Adds one case."""
        self.own.append(own)
        facts = self.vocabulary.facts(case)
        if not self.facts:
            self.numbers |= facts.keys() - self.vocabulary.facts(case, numbers=False).keys()
        self.cases.append(case)
        self.failed.append(failed)
        self.facts.append(facts)

    def of_configurations(self) -> tuple[list[int], Array]:
        """A case of each configuration, and whether the configuration failed with any numbers.

        A configuration counts as passed only if it was judged with dense numbers.
        """
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
    """What identifies a configuration: everything except the numbers."""
    configuration = case.configuration
    flawed = (case.invalidity, *configuration.shapes.values()) if case.invalidity else ()
    return (configuration.rank, *configuration.parameters.values(), *case.layouts.items(), *flawed)


def is_dense(case: Case) -> bool:
    """Whether few numbers are 0 and no array is constant: such numbers hide hardly any fault."""
    for name, a in case.arrays.items():
        if a is None or name in case.layouts or not a.size:
            continue
        if 4 * np.count_nonzero(a) < 3 * a.size or (a.size > 1 and bool((a == a.flat[0]).all())):
            return False
    return True


def dense(reference: Reference, configuration: Configuration, generator: np.random.Generator) -> Case | None:
    """The configuration with normally distributed numbers, positive in the state; None where that has no meaning."""
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
    """Finds the rule of one item's failures by judging further cases: those on which the shortest rules disagree.

    `arranged`: the item's cases have memory layouts. `closed`: the item has a fixed list of cases, and no others are
    judged.
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
        self.labelled = LabelledCases(Vocabulary(self._layer))
        self.asked = 0
        self._pool: list[Case] = []
        self._pool_facts: list[Mapping[str, bool | int | float]] = []

    # --- judging further cases ---

    def _open(self) -> bool:
        return not self._closed and self.asked < MOST_JUDGED and now() < self._until

    def _ask(self, case: Case) -> bool | None:
        if not self._open():
            return None
        self.asked += 1
        failed = self._judge(case, self._references[case.configuration.rank])
        if failed is not None:
            self.labelled.add(case, failed)
        return failed

    def _ask_configuration(self, case: Case) -> None:
        """Judges it with the first of the fixed fills and with dense numbers, until it fails."""
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

    # --- which configurations ---

    def _build(self, parameters: Mapping[str, int], rank: int) -> Configuration | None:
        reference = self._references[rank]
        found = reference.layer.build(parameters, reference.space)
        return found if found is not None and found.elements <= max(LARGEST, self._largest) else None

    def _neighbours(self, case: Case) -> Iterator[Configuration | None]:
        """Configurations with one parameter changed, or two at their base values."""
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
        """Configurations with one size at the next multiples of tile sizes, which few cases have by chance."""
        parameters, rank = case.configuration.parameters, case.configuration.rank
        for name, value in parameters.items():
            sizes = [tile * (value // tile + step) for tile in TILES for step in (1, 2)] if value > 3 else []
            for size in dict.fromkeys(sizes):
                yield self._build({**parameters, name: size}, rank)

    def _edges(self, case: Case) -> None:
        """Judges how small each size can become with the case still failing."""
        parameters, rank = case.configuration.parameters, case.configuration.rank
        base = self._layer.base(self._references[rank].space)
        for name, value in parameters.items():
            low, high = base[name], value
            while high - low > 1 and self._open():
                middle = (low + high) // 2
                found = self._build({**parameters, name: middle}, rank)
                if found is None:
                    break
                before = len(self.labelled.cases)
                self._ask_configuration(replace(case, configuration=found))
                if any(self.labelled.failed[before:]):
                    high = middle
                else:
                    low = middle

    def _plainest(self, like: Case) -> Configuration:
        reference = self._references[like.configuration.rank]
        return reference.layer.build(self._layer.base(reference.space), reference.space) or like.configuration

    def _mixed(self, one: Case, other: Case) -> Configuration | None:
        """Some parameters of the one case, the rest of the other."""
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
        """Configurations near those that failed, mixtures of failed and other ones, and drawn ones; each once."""
        bad = [case for case, failed in zip(self.labelled.cases, self.labelled.failed, strict=True) if failed]
        good = [case for case, failed in zip(self.labelled.cases, self.labelled.failed, strict=True) if not failed]
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
        seen = {key_of(case) for case in self.labelled.cases}
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
                self._pool_facts.append(self.labelled.vocabulary.facts(case, numbers=False))

    def _in_some_layout(self, case: Case, bad: Sequence[Case], state: Sequence[str]) -> Case:
        """The case with one array in any layout, or in the layouts of a case that failed."""
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
        """The shortest rule that no case contradicts; `start` is the smallest failing case.

        The cases `beside` are right but not the item's own: the rule must exclude them, and does not count them.
        """
        self._largest = start.configuration.elements
        for case in _some(failed):
            self.labelled.add(case, True)
        for case in _some(passed):
            self.labelled.add(case, False)
        for case in _some(beside):
            self.labelled.add(case, False, own=False)
        if not self._closed:
            self._ask_configuration(start)
            for configuration in self._neighbours(start):
                if configuration is not None and self.asked < MOST_JUDGED // 4:
                    self._ask_configuration(self._placed(configuration, start))
            for configuration in self._multiples(start):
                if configuration is not None:
                    self._ask_configuration(self._placed(configuration, start))
            if all(self.labelled.failed):
                # Before saying that it fails everywhere, judge the plainest configurations.
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
            # The case that is shown must not be an exception.
            self.labelled.add(start, True)
            rule = self._best()
        return rule

    def _best(self) -> Rule | None:
        found, of_configurations = self._candidates()
        return self._rule_of(found[0], of_configurations) if found else None

    def _placed(self, configuration: Configuration, like: Case) -> Case:
        case = Case(configuration, like.dtype, like.arrays)
        return replace(case, layouts=like.layouts)

    def _candidates(self) -> tuple[list[RuleCandidate], bool]:
        """The shortest rules, of cases if no case contradicts them, else of configurations; or the narrowest."""
        labelled = self.labelled
        chosen, failed = labelled.of_configurations()
        table = Table([labelled.facts[k] for k in chosen])
        plain = [f for f in features_of(table, failed, frozenset(labelled.numbers)) if not f.of_numbers]
        found = shortest(plain, table, failed)
        found = [candidate for candidate in found if len(candidate.features) < 2 or not self._closed]
        everything, outcome = Table(labelled.facts), np.array(labelled.failed, bool)
        if found and not (found[0].holds(everything) & ~outcome).any():
            return found, False
        more = features_of(everything, outcome, frozenset(labelled.numbers))
        if self._closed:
            # All cases of a list have the same numbers, except for their shapes.
            more = [feature for feature in more if not feature.of_numbers]
        exact = shortest(more, everything, outcome)
        exact = [candidate for candidate in exact if len(candidate.features) < 2 or not self._closed]
        if exact and (not found or exact[0].length <= found[0].length + MORE_FOR_NUMBERS):
            return exact, False
        if self._closed:
            # Some pair of conditions can always separate a few cases.
            return found, True
        found = found or narrowest(plain, table, failed)
        return (found, True) if found else (narrowest(more, everything, outcome), False)

    def _try(self, found: Sequence[RuleCandidate], of_configurations: bool) -> None:
        """Judges cases on which the candidate rules disagree, and some on which the first may be wrong."""
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
        """Judges configurations that passed again, with other dense numbers."""
        chosen, failed = self.labelled.of_configurations()
        passed = [self.labelled.cases[k] for k, bad in zip(chosen, failed, strict=True) if not bad]
        for k in self._generator.permutation(len(passed))[:OF_A_ROUND]:
            self._ask_configuration(passed[int(k)])

    def _other_numbers(self) -> Iterator[Case]:
        """Judged cases with drawn numbers, and with one array changed."""
        cases, generator = self.labelled.cases, self._generator
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

    def _rule_of(self, candidate: RuleCandidate, of_configurations: bool) -> Rule:
        labelled = self.labelled
        if of_configurations:
            chosen, failed = labelled.of_configurations()
        else:
            chosen, failed = list(range(len(labelled.cases))), np.array(labelled.failed, bool)
        own = np.array([labelled.own[k] for k in chosen], bool)
        chosen, failed = [k for k in chosen if labelled.own[k]], failed[own]
        vocabulary = labelled.vocabulary
        count = int(failed.sum())
        inside = int((candidate.holds(Table([labelled.facts[k] for k in chosen])) & ~failed).sum())

        def holds(case: Case) -> bool:
            return bool(candidate.holds(Table([vocabulary.facts(case)]))[0])

        words = candidate.words if candidate.features or not of_configurations else SOMEHOW_EVERYWHERE
        return Rule(words, holds, count, len(failed) - count, inside, of_configurations)


def _some(cases: Sequence[Case]) -> Sequence[Case]:
    """At most MOST_OF_AN_ITEM of them, evenly spread."""
    step = -(-len(cases) // MOST_OF_AN_ITEM)
    return cases[:: max(1, step)]

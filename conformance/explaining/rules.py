"""Finds the shortest rule that separates the cases that failed from those that passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backproof.conformance.explaining.counterexample import EVERYWHERE
from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.traits import NONE, Facts, general

#: The most conditions in a rule.
LONGEST = 3
#: The most rules of the same length that are kept, the plainest first.
MOST_RULES = 24
#: The most features that are combined in twos and threes, the plainest first.
MOST_FEATURES = 240
#: Each condition of a rule must alone decide at least SUPPORT cases, where there are MANY.
SUPPORT, MANY = 3, 40
#: Where no rule is exact: the largest share of passed cases inside a rule, and what each further condition must save.
MOST_INSIDE, OF_A_THING = 0.5, 0.08
DIVISORS = (2, 4, 8, 16, 32)

#: How far from plain a condition is: a named one, a size above 1, a threshold, a multiple, one on the numbers.
_NAMED, _SEVERAL, _THRESHOLD, _MULTIPLE, _OF_NUMBERS = 0.0, 0.2, 0.45, 0.55, 0.5


@dataclass(frozen=True)
class Feature:
    """One condition that a rule may contain. `holds` evaluates it for every case of a table at once.

    `length` counts the conditions that it stands for, `weight` says how far from plain it is. `of_numbers`: it is about
    the values in the arrays, not about the configuration.
    """

    words: str
    holds: Callable[[Table], Array]
    length: int
    weight: float
    of_numbers: bool


@dataclass(frozen=True)
class Rule:
    """A rule, in words and as a predicate, with the counts that support it.

    It holds for all of the `failed` cases, and for `inside` of those that `passed`: if there are any, the rule only
    says where the failures lie. With `configurations` the counts are of configurations, which fail if any of their
    cases does.
    """

    words: str
    holds: Callable[[Case], bool]
    failed: int
    passed: int
    inside: int = 0
    configurations: bool = False


class Vocabulary:
    """All facts about a layer's cases; those of a configuration are computed once."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self._traits = layer, layer.traits() or NONE
        self._known: dict[Configuration, dict[str, Any]] = {}

    def facts(self, case: Case, *, numbers: bool = True) -> Facts:
        """All facts about a case; those that make no sense for it are left out."""
        configuration = case.configuration
        if configuration not in self._known:
            cells = self._layer.cells.items()
            found: dict[str, Any] = {name: bool(_tried(holds, configuration, False)) for name, holds in cells}
            self._known[configuration] = found | _tried(self._traits.configuration, configuration, {})
        facts: dict[str, Any] = dict(general(case, self._layer.contract)) | self._known[configuration]
        return facts | _tried(self._traits.numbers, case, {}) if numbers else facts


def _tried(function: Callable[[Any], Any], argument: Any, otherwise: Any) -> Any:
    """The function's value; it may fail for cases without meaning."""
    try:
        return function(argument)
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return otherwise


class Table:
    """The facts of many cases, by name: an array with an entry for each case, NaN where the case lacks the fact."""

    def __init__(self, facts: Sequence[Facts]) -> None:
        self.size = len(facts)
        self.kinds: dict[str, type] = {}
        schemas: dict[tuple[str, ...], list[int]] = {}
        for k, each in enumerate(facts):
            schemas.setdefault(tuple(each), []).append(k)
        for rows in schemas.values():
            self.kinds |= {name: type(value) for name, value in facts[rows[0]].items() if name not in self.kinds}
        index = {name: k for k, name in enumerate(self.kinds)}
        values = np.full((len(index), self.size), np.nan)
        for schema, rows in schemas.items():
            place = np.ix_([index[name] for name in schema], rows)
            values[place] = np.array([list(facts[row].values()) for row in rows], dtype=np.float64).T
        self._values, self._index = values, index

    def __getitem__(self, name: str) -> Array:
        at = self._index.get(name)
        return np.full(self.size, np.nan) if at is None else self._values[at]


def features_of(table: Table, failed: Array, numbers: frozenset[str] = frozenset()) -> list[Feature]:
    """All conditions on these cases; thresholds lie between the cases that failed and those that passed.

    `numbers` are the names of the facts about the numbers in the arrays.
    """
    found: list[Feature] = []
    count = max(1, len(table.kinds))
    for position, (name, kind) in enumerate(table.kinds.items()):
        of_numbers = name in numbers
        plain = 0.15 * position / count + _OF_NUMBERS * of_numbers
        if issubclass(kind, (bool, np.bool_)):
            length = 1 + name.count(" and ")
            found.append(Feature(name, _is(name, 1.0), length, _NAMED + plain, of_numbers))
        else:
            found += _of_size(name, table[name], failed, plain, of_numbers)
    return found


def _of_size(name: str, values: Array, failed: Array, plain: float, of_numbers: bool) -> Iterator[Feature]:
    bad, good = values[failed], values[~failed]
    if not of_numbers:
        yield Feature(f"{name} > 1", _above(name, 1), 1, _SEVERAL + plain, False)
        yield Feature(f"{name} = 1", _is(name, 1.0), 1, _SEVERAL + plain, False)
        yield Feature(f"{name} = 0", _is(name, 0.0), 1, _SEVERAL + plain, False)
        for divisor in DIVISORS if np.nanmax(values, initial=0.0) > 2 else ():
            weight = _MULTIPLE + plain + 0.001 * divisor
            words = f"{name} not a multiple of {divisor}" if divisor > 2 else f"an odd number of {name}"
            yield Feature(words, _not_multiple(name, divisor), 1, weight, False)
            yield Feature(f"{name} a multiple of {divisor}", _multiple(name, divisor), 1, weight + 0.05, False)
    for number in sorted(_thresholds(bad, good)):
        weight = _THRESHOLD + plain
        yield Feature(f"{name} > {number:g}", _above(name, number), 1, weight, of_numbers)
        # Code rarely fails only on small sizes.
        yield Feature(f"{name} <= {number:g}", _at_most(name, number), 2, weight, of_numbers)


def _thresholds(bad: Array, good: Array) -> set[float]:
    """Round numbers between the smallest or largest value of one side and the next one of the other."""
    found: set[float] = set()
    for one, other in ((bad, good), (good, bad)):
        one, other = one[np.isfinite(one)], other[np.isfinite(other)]
        if one.size and other.size:
            below, above = other[other < one.min()], other[other > one.max()]
            if below.size:
                found.add(_round_number(float(below.max()), float(one.min())))
            if above.size:
                found.add(_round_number(float(one.max()), float(above.min())))
    return found - {1.0}


def _round_number(low: float, high: float) -> float:
    """A number from `low` up to, and not including, `high`: a power of ten below 1, else of many factors of two."""
    if 0 < low < high <= 1:
        number = float(10.0 ** np.ceil(np.log10(low)))
        return number if low <= number < high else low
    step = 2.0 ** np.ceil(np.log2(max(high - low, 1e-300)) + 1)
    while True:
        number = float(np.ceil(low / step) * step)
        if low <= number < high:
            return number
        step /= 2
        if step < 1e-12 * max(1.0, abs(low)):
            return low


def _is(name: str, value: float) -> Callable[[Table], Array]:
    return lambda table: table[name] == value


def _above(name: str, number: float) -> Callable[[Table], Array]:
    return lambda table: table[name] > number


def _at_most(name: str, number: float) -> Callable[[Table], Array]:
    return lambda table: table[name] <= number


def _multiple(name: str, divisor: int) -> Callable[[Table], Array]:
    return lambda table: table[name] % divisor == 0


def _not_multiple(name: str, divisor: int) -> Callable[[Table], Array]:
    return lambda table: table[name] % divisor > 0


@dataclass(frozen=True)
class RuleCandidate:
    """A rule that is being tried: all of its features must hold, or, with `either`, at least one."""

    features: tuple[Feature, ...]
    either: bool = False

    @property
    def words(self) -> str:
        """Such as "stride > 1 and remainder > 0"."""
        return (" or " if self.either else " and ").join(f.words for f in self.features) or EVERYWHERE

    @property
    def length(self) -> int:
        """The number of its conditions."""
        return sum(feature.length for feature in self.features)

    def holds(self, table: Table) -> Array:
        """For each case of the table."""
        columns = [feature.holds(table) for feature in self.features] or [np.ones(table.size, bool)]
        return np.asarray(np.logical_or.reduce(columns) if self.either else np.logical_and.reduce(columns))


def shortest(features: Sequence[Feature], table: Table, failed: Array) -> list[RuleCandidate]:
    """The shortest rules that hold for every failed case and for no passed one, the plainest first."""
    if not failed.any():
        return []
    if failed.all():
        return [RuleCandidate(())]
    order = sorted(features, key=lambda f: (f.length, f.weight))
    columns = np.array([f.holds(table) for f in order])
    held = columns[:, failed].all(axis=1)
    conjuncts = [order[k] for k in np.flatnonzero(held).tolist()]
    excluded = ~columns[held][:, ~failed]
    for length in range(1, LONGEST + 1):
        found = list(_conjunctions(conjuncts, excluded, length))
        if length == 2:
            found += _disjunctions(order, columns, failed)
        found = [candidate for candidate in found if is_supported(candidate, table, failed)]
        if found:
            return sorted(found, key=lambda c: sum(f.weight for f in c.features) + 0.5 * c.either)[:MOST_RULES]
    return []


def is_supported(candidate: RuleCandidate, table: Table, failed: Array) -> bool:
    """Whether each feature is needed for more than a chance case or two, where there are many cases."""
    decided = failed if candidate.either else ~failed
    needed = SUPPORT if decided.sum() >= MANY else 1
    columns = np.array([f.holds(table) for f in candidate.features])[:, decided]
    decides = columns if candidate.either else ~columns
    alone = decides & (decides.sum(axis=0) == 1)
    return bool((alone.sum(axis=1) >= needed).all())


def narrowest(features: Sequence[Feature], table: Table, failed: Array) -> list[RuleCandidate]:
    """Rules that hold for every failed case and few passed ones, by the share of passed cases and their length.

    At least half of the passed cases lie outside, and no more of them inside than failed ones.
    """
    order = sorted((f for f in features if f.length < LONGEST), key=lambda f: (f.length, f.weight))
    columns = np.array([f.holds(table) for f in order])
    held = columns[:, failed].all(axis=1)
    excluded = ~columns[held][:, ~failed]
    some = [order[k] for k in np.flatnonzero(held).tolist()]
    use = _useful(some, excluded)
    some, kept = [some[k] for k in use], (~excluded[use]).astype(np.float32)
    scored: list[tuple[float, RuleCandidate]] = []
    inside = kept @ kept.T
    count = int(failed.sum())
    for j, one in enumerate(some):
        for k in range(j, len(some)):
            both = (one,) if j == k else (one, some[k])
            share = inside[j, k] / (count + inside[j, k])
            if share <= MOST_INSIDE and 2 * inside[j, k] <= kept.shape[1]:
                weight = sum(f.length * OF_A_THING + 0.05 * f.weight for f in both)
                scored.append((share + weight, RuleCandidate(both)))
    return [candidate for _, candidate in sorted(scored, key=lambda each: each[0])[:MOST_RULES]]


def _conjunctions(features: Sequence[Feature], excluded: Array, length: int) -> Iterator[RuleCandidate]:
    """Rules of this length whose features together exclude every passed case."""
    lengths = np.array([f.length for f in features], int)
    for k in np.flatnonzero(excluded.all(axis=1) & (lengths == length)).tolist() if len(features) else ():
        yield RuleCandidate((features[k],))
    use = _useful(features, excluded)
    few, kept, sizes = [features[k] for k in use], ~excluded[use], lengths[use]
    if length > 1 and len(few) > 1:
        for j, k in _together(kept):
            if sizes[j] + sizes[k] == length:
                yield RuleCandidate((few[j], few[k]))
    if length > 2:
        single = np.flatnonzero(sizes == 1).tolist()
        few, kept = [few[k] for k in single], kept[single]
        for i in range(len(few)):
            rest = kept[i + 1 :][:, kept[i]]
            for j, k in _together(rest):
                yield RuleCandidate((few[i], few[i + 1 + j], few[i + 1 + k]))


def _useful(features: Sequence[Feature], excluded: Array) -> list[int]:
    """The plainest features; of those that exclude the same cases, the first."""
    seen: dict[bytes, int] = {}
    for k in range(len(features)):
        if excluded[k].any():
            seen.setdefault(np.packbits(excluded[k]).tobytes(), k)
    return list(seen.values())[:MOST_FEATURES]


def _together(kept: Array) -> Iterator[tuple[int, int]]:
    """The pairs of rows that keep no case in common."""
    if len(kept) < 2:
        return
    dense = kept.astype(np.float32)
    apart = np.triu(dense @ dense.T == 0, 1)
    first, second = np.nonzero(apart)
    yield from zip(first.tolist(), second.tolist(), strict=True)


def _disjunctions(order: Sequence[Feature], columns: Array, failed: Array) -> Iterator[RuleCandidate]:
    """Two plain features: neither holds for a passed case, and each failed case has one of them."""
    never = ~columns[:, ~failed].any(axis=1) & np.array([f.length == 1 for f in order], bool)
    features, missed = [order[k] for k in np.flatnonzero(never).tolist()], ~columns[never][:, failed]
    use = _useful(features, ~missed)
    for j, k in _together(missed[use]):
        yield RuleCandidate((features[use[j]], features[use[k]]), either=True)

"""Where it fails: the shortest rule that separates the cases that failed from those that passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.traits import NONE, Facts, general

EVERYWHERE = "every case"
#: Where every configuration fails, though not with any numbers.
SOMEHOW_EVERYWHERE = "every configuration"
#: A rule says at most so many things.
LONGEST = 3
#: So many rules of the same length are kept, the plainest first.
MOST_RULES = 24
#: So many features are put together in twos and threes, the plainest first.
MOST_FEATURES = 240
#: Each thing that a rule says must decide at least so many of the cases alone, where there are many.
SUPPORT, MANY = 3, 40
#: Of what lies where the failures lie, at most this share may have passed, and a further thing must be worth that much.
MOST_INSIDE, OF_A_THING = 0.5, 0.08
DIVISORS = (2, 4, 8, 16, 32)

#: How plain a condition is: on the configuration, a size above 1, another size, a multiple, a number.
_NAMED, _SEVERAL, _THRESHOLD, _MULTIPLE, _OF_NUMBERS = 0.0, 0.2, 0.45, 0.55, 0.5


@dataclass(frozen=True)
class Feature:
    """One thing that a rule may say. `holds` reads it off a table, for every case at once.

    `length` is the number of things that it says, `weight` how far from plain it is.
    """

    words: str
    holds: Callable[[Table], Array]
    length: int
    weight: float
    of_numbers: bool


@dataclass(frozen=True)
class Rule:
    """A rule, in words and as a predicate, and how many pieces of evidence it was held against.

    It holds for all of the `failed`, and for none of the `passed` but those `inside`: where there are any it says only
    where the failures lie, not that every case there fails. They are cases; where `configurations` is True they are
    configurations, one of which failed if it did with any numbers.
    """

    words: str
    holds: Callable[[Case], bool]
    failed: int
    passed: int
    inside: int = 0
    configurations: bool = False


class Vocabulary:
    """What may be said of a layer's cases; of one configuration it is worked out once."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self._traits = layer, layer.traits() or NONE
        self._known: dict[Configuration, dict[str, Any]] = {}

    def facts(self, case: Case, *, numbers: bool = True) -> Facts:
        """All that is said of a case. A trait that has no meaning in it is left out."""
        configuration = case.configuration
        if configuration not in self._known:
            cells = self._layer.cells.items()
            found: dict[str, Any] = {name: bool(_tried(holds, configuration, False)) for name, holds in cells}
            self._known[configuration] = found | _tried(self._traits.configuration, configuration, {})
        facts: dict[str, Any] = dict(general(case)) | self._known[configuration]
        return facts | _tried(self._traits.numbers, case, {}) if numbers else facts


def _tried(function: Callable[[Any], Any], argument: Any, otherwise: Any) -> Any:
    """What the function says; of cases without meaning a page need not know anything."""
    try:
        return function(argument)
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return otherwise


class Table:
    """The facts of many cases, by name: an array with an entry for each case, NaN where it is not said of it."""

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
    """Everything that can be said of these cases; thresholds lie between those that failed and those that passed.

    `numbers` are the names of what is said of the numbers in the arrays.
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
        # Hardly any code fails on what is small and not on what is large.
        yield Feature(f"{name} <= {number:g}", _at_most(name, number), 2, weight, of_numbers)


def _thresholds(bad: Array, good: Array) -> set[float]:
    """Round numbers between the outermost that failed, or passed, and the next that did not."""
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
class Candidate:
    """Features that a rule puts together: all of them, or one or the other."""

    features: tuple[Feature, ...]
    either: bool = False

    @property
    def words(self) -> str:
        """Such as "stride > 1 and remainder > 0"."""
        return (" or " if self.either else " and ").join(f.words for f in self.features) or EVERYWHERE

    @property
    def length(self) -> int:
        """How many things it says."""
        return sum(feature.length for feature in self.features)

    def holds(self, table: Table) -> Array:
        """For each case of the table."""
        columns = [feature.holds(table) for feature in self.features] or [np.ones(table.size, bool)]
        return np.asarray(np.logical_or.reduce(columns) if self.either else np.logical_and.reduce(columns))


def shortest(features: Sequence[Feature], table: Table, failed: Array) -> list[Candidate]:
    """The shortest candidates that hold on everything that failed and on nothing that passed, the plainest first."""
    if not failed.any():
        return []
    if failed.all():
        return [Candidate(())]
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


def is_supported(candidate: Candidate, table: Table, failed: Array) -> bool:
    """Whether each thing that a candidate says is needed for more than a chance case or two, where there are many."""
    decided = failed if candidate.either else ~failed
    needed = SUPPORT if decided.sum() >= MANY else 1
    columns = np.array([f.holds(table) for f in candidate.features])[:, decided]
    told = columns if candidate.either else ~columns
    alone = told & (told.sum(axis=0) == 1)
    return bool((alone.sum(axis=1) >= needed).all())


def narrowest(features: Sequence[Feature], table: Table, failed: Array) -> list[Candidate]:
    """What holds on everything that failed, and on little that passed; the shortest for what it leaves out.

    At least half of what passed lies elsewhere, and no more of it there than what failed.
    """
    order = sorted((f for f in features if f.length < LONGEST), key=lambda f: (f.length, f.weight))
    columns = np.array([f.holds(table) for f in order])
    held = columns[:, failed].all(axis=1)
    excluded = ~columns[held][:, ~failed]
    some = [order[k] for k in np.flatnonzero(held).tolist()]
    use = _useful(some, excluded)
    some, kept = [some[k] for k in use], (~excluded[use]).astype(np.float32)
    scored: list[tuple[float, Candidate]] = []
    inside = kept @ kept.T
    count = int(failed.sum())
    for j, one in enumerate(some):
        for k in range(j, len(some)):
            both = (one,) if j == k else (one, some[k])
            share = inside[j, k] / (count + inside[j, k])
            if share <= MOST_INSIDE and 2 * inside[j, k] <= kept.shape[1]:
                weight = sum(f.length * OF_A_THING + 0.05 * f.weight for f in both)
                scored.append((share + weight, Candidate(both)))
    return [candidate for _, candidate in sorted(scored, key=lambda each: each[0])[:MOST_RULES]]


def _conjunctions(features: Sequence[Feature], excluded: Array, length: int) -> Iterator[Candidate]:
    """Those of this length whose features together exclude every case that passed."""
    lengths = np.array([f.length for f in features], int)
    for k in np.flatnonzero(excluded.all(axis=1) & (lengths == length)).tolist() if len(features) else ():
        yield Candidate((features[k],))
    use = _useful(features, excluded)
    few, kept, sizes = [features[k] for k in use], ~excluded[use], lengths[use]
    if length > 1 and len(few) > 1:
        for j, k in _together(kept):
            if sizes[j] + sizes[k] == length:
                yield Candidate((few[j], few[k]))
    if length > 2:
        single = np.flatnonzero(sizes == 1).tolist()
        few, kept = [few[k] for k in single], kept[single]
        for i in range(len(few)):
            rest = kept[i + 1 :][:, kept[i]]
            for j, k in _together(rest):
                yield Candidate((few[i], few[i + 1 + j], few[i + 1 + k]))


def _useful(features: Sequence[Feature], excluded: Array) -> list[int]:
    """The plainest features, of those that exclude the same the first."""
    seen: dict[bytes, int] = {}
    for k in range(len(features)):
        if excluded[k].any():
            seen.setdefault(np.packbits(excluded[k]).tobytes(), k)
    return list(seen.values())[:MOST_FEATURES]


def _together(kept: Array) -> Iterator[tuple[int, int]]:
    """The pairs that keep nothing in common."""
    if len(kept) < 2:
        return
    dense = kept.astype(np.float32)
    apart = np.triu(dense @ dense.T == 0, 1)
    first, second = np.nonzero(apart)
    yield from zip(first.tolist(), second.tolist(), strict=True)


def _disjunctions(order: Sequence[Feature], columns: Array, failed: Array) -> Iterator[Candidate]:
    """Two plain features, each of which holds on nothing that passed, and one or the other on all that failed."""
    never = ~columns[:, ~failed].any(axis=1) & np.array([f.length == 1 for f in order], bool)
    features, missed = [order[k] for k in np.flatnonzero(never).tolist()], ~columns[never][:, failed]
    use = _useful(features, ~missed)
    for j, k in _together(missed[use]):
        yield Candidate((features[use[j]], features[use[k]]), either=True)

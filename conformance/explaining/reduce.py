"""Makes a failing case smaller, as long as it fails in the same kind: first the configuration, then the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from backproof.conformance.explaining.budget import now
from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.layer import Layer, Space

Fails = Callable[[Case], bool]


def reduced(case: Case, fails: Fails, layer: Layer, space: Space, until: float) -> tuple[Case, bool]:
    """The smallest failing case that single moves and pairs of moves reach, with the plainest numbers.

    The case itself if no other fails. Stops when `until`, by `budget.now`, has come; whether the numbers were
    done by then.
    """
    filled = True  # whether a smaller configuration is tried with every fill, or with the case's own numbers alone
    while True:
        smaller = _smaller_configuration(case, fails, layer, space, until, filled)
        if smaller is not None:
            case, filled = smaller, True
            continue
        if not filled:
            return case, True
        plain, done = plainer(case, fails, layer, space, until)
        if plain is case or not done:
            return plain, done
        case, filled = plain, False


def plainer(case: Case, fails: Fails, layer: Layer, space: Space, until: float) -> tuple[Case, bool]:
    """The same configuration with the plainest numbers that still fail: whole arrays first, then entry by entry.

    And whether all was tried: no single entry can be made plainer, or a whole array 0 or 1.
    """
    improved = True
    while improved:
        improved = False
        for arrays in _plainer_numbers(case, layer, space):
            if now() >= until:
                return case, False
            trial = case.with_arrays(rounded(arrays, layer.dtypes(space)))
            if trial.plainness < case.plainness and layer.has_meaning(trial) and fails(trial):
                case, improved = trial, True
                break
    return case, True


def _smaller_configuration(
    case: Case, fails: Fails, layer: Layer, space: Space, until: float, filled: bool
) -> Case | None:
    seen: set[tuple[int, ...]] = set()
    for parameters in _moves(case.configuration.parameters):
        if now() >= until:
            return None
        key = tuple(parameters.values())
        if key in seen:
            continue
        seen.add(key)
        configuration = layer.build(parameters, space)
        if configuration is None or configuration.size >= case.configuration.size:
            continue
        for trial in _trials(case, configuration, layer, space, filled):
            if layer.has_meaning(trial) and fails(trial):
                return trial
    return None


def _trials(case: Case, configuration: Configuration, layer: Layer, space: Space, filled: bool) -> Iterator[Case]:
    """The configuration with the old numbers as far as they fit, then, if it is to be `filled`, with every fill."""
    arrays = {
        name: None if shape is None else refitted(case.arrays.get(name), shape)
        for name, shape in configuration.shapes.items()
    }
    yield Case(configuration, case.dtype, rounded(arrays, layer.dtypes(space)), "reduced", layouts=case.layouts)
    for fill in layer.fills(configuration, space) if filled else ():
        yield replace(fill, layouts=case.layouts)


def refitted(array: Array | None, shape: tuple[int, ...]) -> Array:
    """The array cut, or repeated, to another shape of as many axes; ones where there was none."""
    if array is None:
        return np.ones(shape)
    for axis, size in enumerate(shape):
        if array.shape[axis] == 0:
            return np.ones(shape)
        array = array.take(np.arange(size) % array.shape[axis], axis)
    return array


def _moves(parameters: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Parameters with one of them simpler, all of one family (stride0, stride1, ...) alike, or two at once."""
    single = {name: _simpler(value) for name, value in parameters.items()}
    for largest_first in (True, False):
        for name, values in single.items():
            for value in values[:1] if largest_first else values[1:]:
                yield {**parameters, name: value}
    for name, value in parameters.items():
        for nearer in _nearer(value):
            yield {**parameters, name: nearer}
    families: dict[str, list[str]] = {}
    for name in parameters:
        families.setdefault(name.rstrip("0123456789"), []).append(name)
    for members in families.values():
        if len(members) > 1:
            for value in sorted({value for name in members for value in _simpler(parameters[name])}):
                yield {**parameters, **dict.fromkeys(members, value)}
    for one, other in combinations(parameters, 2):
        for a in (parameters[one] + 1, *single[one]):
            for b in (parameters[other] + 1, *single[other]):
                yield {**parameters, one: a, other: b}


def _simpler(value: int) -> list[int]:
    return sorted({0, 1, value // 2, value - 1} - {value}) if value > 1 else [1 - value] if value in (0, 1) else []


def _nearer(value: int) -> Iterator[int]:
    """Less by 2, 4, 8 and so on, most first: what a tile does not divide stays so."""
    for power in range(value.bit_length() - 2, 0, -1):
        yield value - 2**power


def _plainer_numbers(case: Case, layer: Layer, space: Space) -> Iterator[dict[str, Array | None]]:
    arrays = dict(case.wide)
    for trial in layer.fills(case.configuration, space):
        yield dict(trial.wide)
    for name, array in arrays.items():
        if array is not None:
            for value in (0.0, 1.0):
                yield {**arrays, name: np.full(array.shape, value)}
    for name, array in arrays.items():
        if array is None:
            continue
        for index in np.ndindex(array.shape):
            old = float(array[index])
            for value in (0.0, 1.0, -1.0, 2.0, float(np.rint(old)), float(np.rint(old / 2))):
                if value != old and _cost(value) < _cost(old):
                    changed = array.copy()
                    changed[index] = value
                    yield {**arrays, name: changed}


def _cost(value: float) -> tuple[bool, bool, float, bool]:
    return value != np.rint(value), abs(value) > 1, abs(value), value < 0

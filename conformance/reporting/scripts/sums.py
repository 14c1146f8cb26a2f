"""Sums that a layer's page makes of results, as expressions: found by asking the page for the sum of single ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from backproof.conformance.spec.case import Array

Shape = tuple[int, ...]

#: Adds the entries of one array to those of another.
SPREAD = '''

def put(parts, places, shape):
    """Adds every entry of the parts to the place that it belongs to; those at -1 belong to none."""
    total = np.zeros(shape)
    for part, place in zip(parts, places):
        inside = place.ravel() >= 0
        np.add.at(total.reshape(-1), place.ravel()[inside], part.ravel()[inside])
    return total
'''


def side(
    function: Callable[[Mapping[str, Array]], Array], shapes: Mapping[str, Shape], arrays: Mapping[str, Array]
) -> tuple[str, dict[str, Array]]:
    """A linear function of results as an expression, such as "np.sum(x * {dx})", and its constants by name.

    A result stands in braces, a constant in angle brackets.
    """
    zeros = {tensor: np.zeros(shape) for tensor, shape in shapes.items()}
    still = np.asarray(function(zeros))
    terms: list[str] = []
    constants: dict[str, Array] = {}
    for tensor, shape in shapes.items():
        moved = function({**zeros, tensor: np.random.default_rng(1).uniform(1, 2, shape)})
        if np.array_equal(moved, still):
            continue
        weights = np.zeros((*still.shape, int(np.prod(shape))))
        for k in range(weights.shape[-1]):
            one = np.zeros(shape)
            one.flat[k] = 1.0
            weights[..., k] = function({**zeros, tensor: one}) - still
        text, constant = _term(tensor, shape, weights, arrays)
        terms.append(text)
        if constant is not None:
            constants[f"weights_of_{tensor}"] = constant
    if still.any() or not terms:
        total = _total_of_dout(still, arrays)
        terms.append(total or "<constant>")
        if total is None:
            constants["constant"] = still
    return " + ".join(terms), constants


def _term(tensor: str, shape: Shape, weights: Array, arrays: Mapping[str, Array]) -> tuple[str, Array | None]:
    """The sum of the entries of one result with these weights, shape (*sums, entries)."""
    flat = weights.reshape(-1, weights.shape[-1])
    factors, constant = _factors(tensor, flat.sum(axis=0).reshape(shape), arrays)
    if weights.shape[:-1] == shape and np.array_equal(flat, np.diag(np.diag(flat))):
        return factors, constant
    own = flat.sum(axis=0).reshape(shape)
    for axes in _axes(shape):
        if _sums(own, axes, weights):
            over = "" if len(axes) == len(shape) else f", axis={axes}"
            return f"np.sum({factors}{over})", constant
    return f"<weights_of_{tensor}> @ {{{tensor}}}.ravel()", weights


def _factors(tensor: str, factors: Array, arrays: Mapping[str, Array]) -> tuple[str, Array | None]:
    """The result times its weights, entry by entry, and the weights where they are no array of the case."""
    if (factors == 1).all():
        return f"{{{tensor}}}", None
    name = next((n for n, a in arrays.items() if a.shape == factors.shape and np.array_equal(a, factors)), None)
    return f"{name or f'<weights_of_{tensor}>'} * {{{tensor}}}", None if name else factors


def _axes(shape: Shape) -> list[tuple[int, ...]]:
    everything = tuple(range(len(shape)))
    return [everything, *[tuple(k for k in everything if k != kept) for kept in everything]]


def _sums(own: Array, axes: tuple[int, ...], weights: Array) -> bool:
    """Whether weighing with `own` and adding up along these axes is what the weights do."""
    left = tuple(size for k, size in enumerate(own.shape) if k not in axes)
    if weights.shape[:-1] != left:
        return False
    each = np.eye(own.size).reshape(*own.shape, own.size) * own[..., None]
    return bool(np.array_equal(each.sum(axis=axes), weights))


def _total_of_dout(still: Array, arrays: Mapping[str, Array]) -> str | None:
    dout = arrays.get("dout")
    if dout is None or not still.ndim:
        return None
    for axes in _axes(dout.shape)[1:]:
        total = dout.sum(axis=axes)
        if total.shape == still.shape and np.array_equal(total, still):
            return f'dout.astype("float64").sum(axis={axes})'
    return None


def joining(
    function: Callable[[Sequence[Array]], Array], shapes: Sequence[Shape], names: Sequence[str]
) -> tuple[str, dict[str, Array], list[str]]:
    """How parts are put together: an expression of their names, its constants, and a function that it needs."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    starts = np.cumsum([1, *sizes])
    parts = [
        np.arange(s, s + n, dtype=np.float64).reshape(shape) for s, n, shape in zip(starts, sizes, shapes, strict=False)
    ]
    whole = function(parts)
    for text, found in _plain_ways(parts, names):
        if found is not None and found.shape == whole.shape and np.array_equal(found, whole):
            return text, {}, []
    places = []
    for k, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        place = np.full(size, -1)
        for entry in range(size):
            one = [np.zeros(shape) for shape in shapes]
            one[k].flat[entry] = 1.0
            hit = np.flatnonzero(function(one))
            place[entry] = hit[0] if hit.size else -1
        places.append(place.reshape(part.shape))
    constants = {f"place_of_{name}": place for name, place in zip(names, places, strict=True)}
    listed = ", ".join(constants)
    return f"put([{', '.join(names)}], [{listed}], {whole.shape})", constants, SPREAD.rstrip().splitlines()


def _plain_ways(parts: Sequence[Array], names: Sequence[str]) -> list[tuple[str, Array | None]]:
    ways: list[tuple[str, Array | None]] = []
    if len(parts) == 1:
        ways.append((names[0], parts[0]))
    elif all(part.shape[1:] == parts[0].shape[1:] for part in parts):
        ways.append((f"np.concatenate([{', '.join(names)}])", np.concatenate(parts)))
    if len(parts) > 1 and all(part.shape == parts[0].shape for part in parts):
        ways.append((" + ".join(names), np.asarray(sum(parts))))
    return ways

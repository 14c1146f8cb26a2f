"""What goes wrong where a linear layer is computed in blocks: the left-overs, the overlaps, the offsets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.linear_rows import Rows, each, in_whole_blocks, made

BLOCKS = (4, 8, 16, 32, 64)
#: Into how many equal parts a large batch is split, and above which size: not 4 above 4, which are whole blocks of 4.
PARTS = (
    (2, 2),
    (2, 8),
    (2, 16),
    (2, 32),
    (2, 64),
    (4, 8),
    (4, 16),
    (4, 32),
    (4, 64),
    (8, 16),
    (8, 32),
    (8, 64),
)
#: Offsets that start again: those of 6, 7, 8 and 15 bits.
OFFSETS = (64, 128, 256, 32768)

#: What is summed behind each tensor.
TERMS = {"out": "inputs", "dx": "outputs", "dw": "samples", "db": "samples"}

Kept = Callable[[int], Array]


def _summed(rows: Rows, weigh: Kept) -> dict[str, Array]:
    """Every tensor with the terms of its sum counted as often as `weigh` says for so many of them."""
    n, d, c = (weigh(size) for size in rows.sizes)
    found = {
        "out": rows.stacked((rows.x * d) @ rows.w + rows.bias),
        "dx": rows.stacked((rows.dout * c) @ rows.w.T),
        "dw": (rows.x * n[:, None]).T @ rows.dout,
    }
    return found if rows.b is None else {**found, "db": n @ rows.dout}


def _first(size: int, count: int) -> Array:
    return (np.arange(size) < count).astype(np.float64)


def _twice(size: int, block: int) -> Array:
    """How often a term is counted where the last block is moved back to end with the size."""
    weights = np.ones(size)
    if size > block and size % block:
        weights[size - block : size - size % block] = 2
    return weights


def _sums(block: int) -> tuple[Mistake, ...]:
    everything = " ".join(TERMS)
    return (
        made(
            f"{{tensor}} is summed in whole blocks of {block}: the terms behind the last whole block are left out.",
            everything,
            lambda rows: _summed(rows, lambda size: _first(size, in_whole_blocks(size, block))),
        ),
        made(
            f"{{tensor}} is summed in whole blocks of {block}, of which there may be none: the terms behind the last "
            "whole block are left out.",
            everything,
            lambda rows: _summed(rows, lambda size: _first(size, size // block * block)),
        ),
        made(
            f"{{tensor}} stops summing after {block} terms.",
            everything,
            lambda rows: _summed(rows, lambda size: _first(size, block)),
        ),
        made(
            f"{{tensor}} is summed in blocks of {block}, the last of which is moved back to fit: the terms that it "
            "shares with the block before are counted twice.",
            everything,
            lambda rows: _summed(rows, lambda size: _twice(size, block)),
        ),
    )


def _written(tensor: str, axis: int, words: str, block: int) -> tuple[Mistake, ...]:
    """An axis of a result of which only whole blocks are written."""

    def cut(count: Callable[[int], int]) -> Callable[[Rows], dict[str, Array]]:
        def make(rows: Rows) -> dict[str, Array]:
            result = rows.results().get(tensor, np.zeros(rows.sizes[2]))
            flat = result.reshape(-1, result.shape[-1]).copy() if result.ndim > 1 else result.copy()
            flat.swapaxes(0, axis)[count(flat.shape[axis]) :] = 0
            return {tensor: flat.reshape(result.shape)}

        return make

    what = f"{{tensor}} is written in whole blocks of {block} {words}"
    return (
        made(f"{what}: those behind the last whole block stay zero.", tensor, cut(lambda n: in_whole_blocks(n, block))),
        made(
            f"{what}, of which there may be none: those behind the last whole block stay zero.",
            tensor,
            cut(lambda n: n // block * block),
        ),
        made(f"Only the first {block} {words} of {{tensor}} are written.", tensor, cut(lambda n: block)),
    )


WRITTEN = (
    ("out", 0, "samples"),
    ("out", 1, "outputs"),
    ("dx", 0, "samples"),
    ("dx", 1, "inputs"),
    ("dw", 0, "inputs"),
    ("dw", 1, "outputs"),
    ("db", 0, "outputs"),
)


def _in_blocks(block: int) -> tuple[Mistake, ...]:
    writes = tuple(mistake for place in WRITTEN for mistake in _written(*place, block))
    bias = made(
        f"The product is summed in blocks of {block} inputs, and b is added with each of them.",
        "out",
        lambda rows: {"out": rows.stacked(rows.x @ rows.w + -(-rows.sizes[1] // block) * rows.bias)},
    )
    return (*_sums(block), bias, *writes)


def _split(parts: int, above: int) -> Mistake:
    return made(
        f"A large batch is split into {parts} equal parts for {{tensor}}: the samples that are left over are in none.",
        "dw db",
        lambda rows: _summed(rows, lambda n: _first(n, n // parts * parts if n > above else n)),
    )


def _wrapped(array: Array, period: int) -> Array:
    return np.take(array, np.arange(array.size).reshape(array.shape) % period) if array.size else array


def _offsets(period: int) -> tuple[Mistake, ...]:
    words = f"at an offset that starts again at {period}: the number that holds it has too few bits"
    return (
        made(
            f"{{tensor}} finds the entries of x {words}.",
            "out dw",
            lambda rows: rows._replace(x=_wrapped(rows.x, period)).results(),
        ),
        made(
            f"{{tensor}} finds the entries of w {words}.",
            "out dx",
            lambda rows: rows._replace(w=_wrapped(rows.w, period)).results(),
        ),
        made(
            f"{{tensor}} finds the entries of dout {words}.",
            "dx dw db",
            lambda rows: rows._replace(dout=_wrapped(rows.dout, period)).results(),
        ),
    )


TILES = (*each(BLOCKS, _in_blocks), *(_split(parts, above) for parts, above in PARTS), *each(OFFSETS, _offsets))

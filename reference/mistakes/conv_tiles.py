"""Mistakes of tiles that do not cover a size, of numbers that are too small for one, and of fixed sizes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.conv_pieces import THINGS, Weights, counted, weighing
from backproof.reference.mistakes.convolution import Convolution, Makers, each, mistake

#: Of what a tile that is not full may be all that there is, so that nothing is left.
SHORT = ("sample", "filter", "channel", "window", "window along the last axis", "pixel along the last axis")


def tail_dropped(tile: int, *, short: bool) -> Weights:
    """Whole tiles alone; what is shorter than one tile is left out too, or counts."""
    return lambda n: counted(n, range(n // tile * tile)) if n % tile and (short or n > tile) else None


def tail_moved(tile: int) -> Weights:
    """The last tile moved back to fit, so that some count twice."""
    return lambda n: counted(n, range(n // tile * tile), range(n - tile, n)) if n > tile and n % tile else None


def cut_off(tile: int) -> Weights:
    """The first ones alone."""
    return lambda n: counted(n, range(tile)) if n > tile else None


def block_lost(tile: int, *, last: bool) -> Weights:
    """The blocks behind the first, or the last one alone, because it is assigned where it is to be added."""

    def weights(n: int) -> Array | None:
        return counted(n, range((n - 1) // tile * tile if last else tile, n)) if n > tile else None

    return weights


def power_of_two(n: int) -> Array | None:
    """As many as the largest power of two that there is room for."""
    return counted(n, range(1 << (n.bit_length() - 1))) if n & (n - 1) else None


TILES = (2, 3, 4, 8, 16, 32, 64)


def whole_tiles() -> Iterator[Mistake]:
    """What is left out behind the last whole tile."""
    for tile in TILES:
        for thing in THINGS:
            tensors = (*thing.summed, *thing.written)
            if tile <= thing.largest:
                words = f"counts whole tiles of {tile} {{many}}: the rest behind them is left out"
                yield weighing(words, thing, tail_dropped(tile, short=False), tensors)
                if thing.one in SHORT:
                    words = (
                        f"counts whole tiles of {tile} {{many}}: the rest is left out, also where it is all there is"
                    )
                    yield weighing(words, thing, tail_dropped(tile, short=True), tensors)
    for thing in THINGS:
        if thing.largest > 4:
            words = "counts only so many {many} as the largest power of two that fits"
            yield weighing(words, thing, power_of_two, (*thing.summed, *thing.written))


def other_tiles() -> Iterator[Mistake]:
    """What else becomes of the rest, or of the other tiles."""
    for tile in TILES:
        for thing in THINGS:
            if tile > thing.largest:
                continue
            yield weighing(
                f"counts the first {tile} {{many}} alone", thing, cut_off(tile), (*thing.summed, *thing.written)
            )
            if thing.summed:
                words = (
                    f"counts some {{many}} twice: the last tile of {tile} is moved back to fit, over the one before it"
                )
                yield weighing(words, thing, tail_moved(tile), thing.summed)
                words = f"loses the first {tile} {{many}}: the next block is assigned instead of added"
                yield weighing(words, thing, block_lost(tile, last=False), thing.summed)
                words = f"keeps the last block of {tile} {{many}} alone: every block is assigned instead of added"
                yield weighing(words, thing, block_lost(tile, last=True), thing.summed)


def first_entries(many: int) -> Mistake:
    """Flattened results are written up to some entry, and zero behind it."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        def written(a: Array) -> Array:
            return np.where((np.arange(a.size) < many).reshape(a.shape), a, 0.0)

        return each(right, [t for t in ("out", "dx", "dw") if right[t].size > many], written)

    return mistake(
        f"{{tensor}} is written in its first {many} entries alone: zeros stand behind them.", "out dx dw", makers
    )


def short_offsets(largest: int) -> Mistake:
    """Offsets into the padded x that wrap around."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        padded = conv.padded_x
        if padded.size <= largest:
            return None
        padded = padded.ravel()[np.arange(padded.size) % largest].reshape(padded.shape)
        windows = conv.cut(padded, conv.places)
        return {"out": lambda: conv.out(windows, conv.w), "dw": lambda: conv.dw(windows, conv.dout)}

    sentence = (
        f"{{tensor}} counts offsets into the padded x in integers that are too small: they wrap around at {largest}."
    )
    return mistake(sentence, "out dw", makers)


def rows_in_tiles(tile: int, which: str) -> Mistake:
    """What belongs to a wide image is added to the pixel a tile before it."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        axis = 2 if which == "first" else 1 + conv.rank
        size = conv.x.shape[axis]
        if size <= tile or (which == "first" and conv.rank == 1):
            return None

        def dx() -> Array:
            result = np.zeros_like(right["dx"])
            lines, own = np.moveaxis(result, axis, 0), np.moveaxis(right["dx"], axis, 0)
            np.add.at(lines, np.arange(size) % tile, own)
            return result

        return {"dx": dx}

    sentence = (
        f"{{tensor}} gathers the {which} axis in a tile of {tile} pixels: what is behind it is added {tile} before."
    )
    return mistake(sentence, "dx", makers)


def unmasked(tile: int) -> Mistake:
    """db reads on behind the pixels of a filter, in the last tile of them."""

    def makers(conv: Convolution, right: Results) -> Makers | None:
        batch, filters, *out = conv.dout.shape
        pixels = prod(out)
        if pixels % tile == 0 or pixels < tile:
            return None
        read = -(-pixels // tile) * tile
        at = np.arange(batch * filters)[:, None] * pixels + np.arange(read)
        flat = conv.dout.ravel()
        return {"db": lambda: flat[at % max(1, flat.size)].reshape(batch, filters, read).sum(axis=(0, 2))}

    sentence = (
        f"{{tensor}} reads the pixels of a filter in tiles of {tile}, and in the last one, unmasked, behind them too."
    )
    return mistake(sentence, "db", makers)


#: Those that may be one path's alone.
TILED: tuple[Mistake, ...] = (
    *whole_tiles(),
    *(first_entries(many) for many in (8, 16, 32, 64, 128, 256, 320)),
    *(rows_in_tiles(tile, which) for which in ("last", "first") for tile in (4, 8, 16, 32)),
)
BLOCKED: tuple[Mistake, ...] = (
    *other_tiles(),
    *(short_offsets(largest) for largest in (128, 256, 512, 1024)),
    *(unmasked(tile) for tile in (2, 4, 8, 16)),
)

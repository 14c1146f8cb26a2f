"""Mistakes of kernels that take whole tiles: the channels or elements behind the last whole tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.batchnorm_stages import Change, Stages, mistake, total

SIZES = (4, 8, 16, 32, 64)
STATISTICS = "out dx dgamma running_mean running_var"
#: Where the whole tiles of so many things end.
End = Callable[[int, int], int]


def _last_whole(count: int, size: int) -> int:
    """What is less than a tile is taken as it is."""
    return count // size * size or count


def _strictly_whole(count: int, size: int) -> int:
    """What is less than a tile is left out."""
    return count // size * size


def _first(count: int, size: int) -> int:
    """One tile."""
    return min(count, size)


def _ends(size: int) -> Iterator[tuple[str, End]]:
    """Where tiles may end, in words."""
    yield f"behind the last multiple of {size}", _last_whole
    # Of large tiles this would leave out nearly all that is ever asked.
    if size <= 8:
        yield f"behind the last multiple of {size} and, where they are fewer, all of them", _strictly_whole
    yield f"behind the first {size}", _first


def _channels(size: int) -> Iterator[Mistake]:
    for where, end in _ends(size):
        lost = f"the channels {where}"

        def here(s: Stages, end: End = end) -> Array | None:
            whole = end(s.channels, size)
            return None if whole == s.channels else np.arange(s.channels).reshape(1, -1, 1) < whole

        def statistics(s: Stages, here: Callable[[Stages], Array | None] = here) -> dict[str, Array] | None:
            kept = here(s)
            if kept is None:
                return None
            mean, var = np.where(kept, s.mean, 0.0), np.where(kept, s.var, 0.0)
            return s.normalized(mean, 1 / np.sqrt(var + s.eps)) | s.tracked(mean=mean, var=s.bessel * var)

        def zeros(s: Stages, here: Callable[[Stages], Array | None] = here) -> dict[str, Array] | None:
            kept = here(s)
            if kept is None:
                return None
            right = {"out": s.out, "dx": s.dx, "dgamma": s.dgamma, "dbeta": s.dbeta}
            found = {name: np.where(kept, a, 0.0) for name, a in right.items()}
            old = {"running_mean": s.running_mean, "running_var": s.running_var}
            return found | {name: np.where(kept, a, old[name]) for name, a in s.tracked().items()}

        def plain(s: Stages, here: Callable[[Stages], Array | None] = here) -> dict[str, Array] | None:
            kept = here(s)
            if kept is None:
                return None
            found = s.normalized(gamma=np.where(kept, s.gamma, 1.0), beta=np.where(kept, s.beta, 0.0))
            return {"out": found["out"], "dx": found["dx"]}

        yield mistake(f"{{tensor}} has mean and variance 0 in {lost}.", STATISTICS, statistics, mode="training")
        yield mistake(f"{{tensor}} leaves out {lost}: zeros stand there.", "out dx dgamma dbeta", zeros)
        yield mistake(f"{{tensor}} is not updated in {lost}.", "running_mean running_var", zeros, mode="training")
        yield mistake(f"{{tensor}} has neither gamma nor beta in {lost}.", "out dx", plain)

    def turned(s: Stages) -> dict[str, Array] | None:
        if s.channels <= size:
            return None
        index = np.arange(s.channels) % size
        found = s.normalized(gamma=s.gamma[:, index], beta=s.beta[:, index])
        return {"out": found["out"], "dx": found["dx"]}

    yield mistake(
        f"{{tensor}} has the gamma and beta of channel c - {size} behind the first {size} channels.", "out dx", turned
    )


def _flat(s: Stages, a: Array) -> Array:
    """(m, C): the elements sample by sample."""
    return np.moveaxis(a, 1, -1).reshape(-1, s.channels)


def _along(axis: str) -> Callable[[Stages], tuple[int, Callable[[Array, int], Array]] | None]:
    """How many things are tiled, and what is left of (N, C, P) if they end early."""

    def elements(s: Stages) -> tuple[int, Callable[[Array, int], Array]]:
        return int(s.m), lambda a, end: _flat(s, a)[:end].T.reshape(1, s.channels, -1)

    def samples(s: Stages) -> tuple[int, Callable[[Array, int], Array]] | None:
        return (s.samples, lambda a, end: a[:end]) if len(s.shape) > 2 else None

    def pixels(s: Stages) -> tuple[int, Callable[[Array, int], Array]] | None:
        return (s.pixels, lambda a, end: a[:, :, :end]) if len(s.shape) > 2 else None

    return {"elements": elements, "samples": samples, "pixels": pixels}[axis]


def _sums(size: int) -> Iterator[Mistake]:
    for things in ("elements", "samples", "pixels"):
        for where, end in _ends(size):
            lost = f"the {things} {where}"
            yield mistake(
                f"{{tensor}} leaves {lost} out of its sum.",
                "dgamma dbeta",
                _cut(
                    things,
                    size,
                    end,
                    lambda s, part: {"dgamma": total(part(s.dout * s.xhat)), "dbeta": total(part(s.dout))},
                ),
            )
            yield mistake(
                f"{{tensor}} leaves {lost} out of the sums of dgamma and dbeta in it.",
                "dx",
                _cut(things, size, end, _dx_of_sums),
                mode="training",
            )
            for how, fewer in (("", False), (", and divides by those that are left", True)):
                yield mistake(
                    f"{{tensor}} leaves {lost} out of mean and variance{how}.",
                    STATISTICS,
                    _cut(things, size, end, partial(_of_part, fewer=fewer)),
                    mode="training",
                )
            yield mistake(
                f"{{tensor}} is 0 in {lost}.",
                "out dx",
                _zeroed(things, size, end),
            )


def _cut(
    things: str, size: int, end: End, of: Callable[[Stages, Callable[[Array], Array]], dict[str, Array]]
) -> Change:
    def change(s: Stages) -> dict[str, Array] | None:
        tiled = _along(things)(s)
        if tiled is None or end(tiled[0], size) == tiled[0]:
            return None
        count, part = tiled
        return of(s, lambda a: part(a, end(count, size)))

    return change


def _dx_of_sums(s: Stages, part: Callable[[Array], Array]) -> dict[str, Array]:
    dgamma, dbeta = total(part(s.dout * s.xhat)), total(part(s.dout))
    return {"dx": s.gamma * s.scale * (s.dout - (dbeta + s.xhat * dgamma) / s.m)}


def _of_part(s: Stages, part: Callable[[Array], Array], fewer: bool) -> dict[str, Array]:
    kept = part(s.x)
    count: Any = np.float64(kept.size // s.channels) if fewer else s.m
    mean = total(kept) / count
    var = total(np.square(kept - mean)) / count
    return s.normalized(mean, 1 / np.sqrt(var + s.eps)) | s.tracked(mean=mean, var=s.bessel * var)


def _zeroed(things: str, size: int, end: End) -> Change:
    def change(s: Stages) -> dict[str, Array] | None:
        tiled = _along(things)(s)
        if tiled is None or end(tiled[0], size) == tiled[0]:
            return None
        whole = end(tiled[0], size)
        places = np.arange(s.samples * s.pixels).reshape(s.samples, 1, s.pixels)
        at = {"elements": places, "samples": places // s.pixels, "pixels": places % s.pixels}[things]
        return {"out": np.where(at < whole, s.out, 0.0), "dx": np.where(at < whole, s.dx, 0.0)}

    return change


def _padded(size: int) -> Iterator[Mistake]:
    """Zeros in the last tile that are taken for elements."""
    for things in ("elements", "pixels"):
        for least, guard in ((0, ""), (size, ", where there is more than one tile")):

            def padding(s: Stages, things: str = things, least: int = least) -> tuple[Any, Any] | None:
                tiled = _along(things)(s)
                if tiled is None or tiled[0] <= least or tiled[0] % size == 0:
                    return None
                more = -tiled[0] % size * (s.samples if things == "pixels" else 1)
                return np.float64(more), s.m + more

            def variance(s: Stages, padding: Callable[[Stages], Any] = padding) -> dict[str, Array] | None:
                found = padding(s)
                return None if found is None else _moved(s, s.mean, s.var + found[0] * s.mean**2 / s.m)

            def both(s: Stages, padding: Callable[[Stages], Any] = padding) -> dict[str, Array] | None:
                found = padding(s)
                if found is None:
                    return None
                more, count = found
                mean = total(s.x) / count
                return _moved(s, mean, (total(np.square(s.x - mean)) + more * mean**2) / count)

            def divisor(s: Stages, padding: Callable[[Stages], Any] = padding) -> dict[str, Array] | None:
                found = padding(s)
                if found is None:
                    return None
                mean = total(s.x) / found[1]
                return _moved(s, mean, total(np.square(s.x - mean)) / found[1])

            taken = f"{{tensor}} takes the zeros that fill up the last tile of {size} {things} for elements"
            yield mistake(
                f"{taken} in the variance{guard}: each adds mean^2.",
                "out dx dgamma running_var",
                variance,
                mode="training",
            )
            yield mistake(f"{taken} in mean and variance{guard}.", "out dx dgamma running_var", both, mode="training")
            yield mistake(
                f"{{tensor}} divides mean and variance by a count rounded up to tiles of {size} {things}{guard}.",
                STATISTICS,
                divisor,
                mode="training",
            )


def _moved(s: Stages, mean: Array, var: Array) -> dict[str, Array]:
    return s.normalized(mean, 1 / np.sqrt(var + s.eps)) | s.tracked(mean=mean, var=s.bessel * var)


MISTAKES: tuple[Mistake, ...] = tuple(
    entry for size in SIZES for entry in (*_channels(size), *_sums(size), *_padded(size))
)

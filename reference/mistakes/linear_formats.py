"""Number formats that are too short in a linear layer: for an array that is kept, and for a sum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.conformance.spec.precision import PRECISIONS
from backproof.reference.mistakes.linear_rows import Rows, changed, each, rows_of

#: Which tensors an array goes into.
USED = {"x": "out dw", "w": "out dx", "dout": "dx dw db"}
#: In how many terms a sum is kept in float32 before it is added in the shorter format.
BLOCKS = (1, 16, 32, 64, 128, 256)


def _rounded(array: Array, format_: str) -> Array:
    found: Array = array.astype(PRECISIONS[format_].dtype).astype(np.float64)
    return found


def _with(rows: Rows, name: str, array: Array) -> Rows:
    kept = {"x": rows.x, "w": rows.w, "dout": rows.dout, name: array}
    return rows._replace(x=kept["x"], w=kept["w"], dout=kept["dout"])


def _kept(name: str, words: str, change: Callable[[Array], Array]) -> Mistake:
    return changed(
        f"{name} is {words} in {{tensor}}.",
        USED[name],
        lambda rows: _with(rows, name, change(getattr(rows, name))),
    )


def _all_kept(format_: str) -> Mistake:
    def change(rows: Rows) -> Rows:
        x, w, dout = (_rounded(a, format_) for a in (rows.x, rows.w, rows.dout))
        return rows._replace(x=x, w=w, dout=dout, b=None if rows.b is None else _rounded(rows.b, format_))

    return changed(f"All arrays are rounded to {format_} for {{tensor}}.", "out dx dw", change)


ROUNDED = (
    *(
        _kept(name, f"rounded to {format_}", lambda a, format_=format_: _rounded(a, format_))  # type: ignore[misc]
        for format_ in ("float32", "float16", "bfloat16")
        for name in USED
    ),
    *(_all_kept(format_) for format_ in ("float32", "float16", "bfloat16")),
    *(
        _kept(name, words, change)
        for name in USED
        for words, change in (
            ("cut to integers", np.trunc),
            ("rounded to integers", np.rint),
            ("rounded down to integers", np.floor),
        )
    ),
)


def _terms(rows: Rows, tensor: str) -> Array:
    """The products behind a tensor, along the first axis."""
    if tensor == "out":
        return rows.x.T[:, :, None] * rows.w[:, None]
    if tensor == "dx":
        return rows.dout.T[:, :, None] * rows.w.T[:, None]
    return rows.x[:, :, None] * rows.dout[:, None] if tensor == "dw" else rows.dout


def _in_steps(terms: Array, block: int, format_: str) -> Array:
    """Their sum, kept in a short format from one block to the next, each of which is summed exactly."""
    starts = np.arange(0, len(terms), block)
    blocks = np.add.reduceat(terms, starts, axis=0) if len(terms) else terms
    dtype = PRECISIONS[format_].dtype
    sums = np.add.accumulate(blocks.astype(dtype), axis=0)
    return sums[-1].astype(np.float64) if len(sums) else np.zeros(terms.shape[1:])


#: More products than this are not summed one after the other.
MOST_TERMS = 200_000


def _sticking(block: int) -> tuple[Mistake, ...]:
    """Sums in the format of x itself, in 16 bits."""
    words = "after every term" if block == 1 else f"between blocks of {block} terms"

    def gives(case: Case, right: Results) -> Results | None:
        rows = rows_of(case)
        n, d, c = rows.sizes
        if not case.precision.low or n * d * c > MOST_TERMS:
            return None
        found = {name: _in_steps(_terms(rows, name), block, case.dtype) for name in right if name in SUMMED}
        if "out" in found:
            found["out"] = _rounded(found["out"] + rows.bias, case.dtype)
        return {name: rows.stacked(a) if name in ("out", "dx") else a for name, a in found.items()}

    return (
        Mistake(
            f"The sum behind {{tensor}} is kept in the 16 bits of x, rounded {words}: a long one sticks.",
            SUMMED,
            gives,
        ),
    )


SUMMED = ("out", "dx", "dw", "db")

FORMATS = (*ROUNDED, *each(BLOCKS, _sticking))

"""Linear: out[n, c] = sum over d of x[n, d] * w[d, c], plus b[c]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from backproof.reference.textbook.numerical import Array, precision


class LinearCache(NamedTuple):
    """What the backward needs of its forward."""

    x: Array
    w: Array
    b: Array | None


@np.errstate(all="ignore")  # what leaves the dtype's range is inf or NaN in the result, without a warning
def linear_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, LinearCache]:
    """Every row of x times w, plus b.

    x (*, D) with one leading axis or more, w (D, C), b (C,) or None for no bias; returns out (*, C), cache.
    Source: CS231n notes, "Linear classification".

    Raises ValueError where the shapes do not fit or a size other than a leading one is 0, TypeError for
    arrays that do not hold floating point numbers.
    """
    if x.ndim < 2 or w.ndim != 2:
        raise ValueError(f"x must be (*, D) and w (D, C), but their shapes are {x.shape} and {w.shape}.")
    inputs, outputs = w.shape
    if inputs < 1 or outputs < 1:
        raise ValueError(f"w needs at least one input and one output, but its shape is {w.shape}.")
    if x.shape[-1] != inputs:
        raise ValueError(f"The rows of x have {x.shape[-1]} entries, but w takes {inputs}.")
    if b is not None and b.shape != (outputs,):
        raise ValueError(f"b must have shape {(outputs,)}, but it has {b.shape}.")

    dtype = precision(x, w, b)
    rows, weight = x.reshape(-1, inputs).astype(dtype), w.astype(dtype)
    out = np.zeros((len(rows), outputs), dtype)
    if b is not None:
        out += b.astype(dtype)
    for n in range(len(rows)):
        for c in range(outputs):
            for d in range(inputs):
                out[n, c] += rows[n, d] * weight[d, c]
    return out.reshape(*x.shape[:-1], outputs).astype(x.dtype), LinearCache(x, w, b)


@np.errstate(all="ignore")
def linear_backward(dout: Array, cache: LinearCache) -> tuple[Array, Array, Array | None]:
    """The gradients of x, w and b; db is None where b was None.

        dx[n, d] = sum over c of dout[n, c] * w[d, c]
        dw[d, c] = sum over n of x[n, d] * dout[n, c]
        db[c] = sum over n of dout[n, c]

    Over an empty batch dw and db are zero: sums of nothing.

    Raises ValueError where dout is not of out's shape.
    """
    x, w, b = cache
    inputs, outputs = w.shape
    if dout.shape != (*x.shape[:-1], outputs):
        raise ValueError(f"dout must have shape {(*x.shape[:-1], outputs)}, but it has {dout.shape}.")

    dtype = precision(x, w, b)
    rows, weight = x.reshape(-1, inputs).astype(dtype), w.astype(dtype)
    upstream = dout.reshape(-1, outputs).astype(dtype)
    dx, dw, db = np.zeros_like(rows), np.zeros_like(weight), np.zeros(outputs, dtype)
    for n in range(len(rows)):
        for c in range(outputs):
            db[c] += upstream[n, c]
            for d in range(inputs):
                dx[n, d] += upstream[n, c] * weight[d, c]
                dw[d, c] += upstream[n, c] * rows[n, d]
    return dx.reshape(x.shape).astype(x.dtype), dw.astype(w.dtype), None if b is None else db.astype(b.dtype)

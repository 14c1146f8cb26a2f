"""Factors and sums of a linear layer that people get wrong."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.reference.mistakes.linear_rows import Rows, changed, made, scaled


def _batch(rows: Rows) -> int:
    return max(1, rows.sizes[0])


FACTORS = (
    scaled("{tensor} has the wrong sign.", "out dx dw db", lambda rows: -1.0),
    scaled("{tensor} is twice what it should be: a factor of 2 too many.", "out dx dw db", lambda rows: 2.0),
    scaled("{tensor} is half of what it should be: a factor of 1/2 too many.", "out dx dw db", lambda rows: 0.5),
    scaled("{tensor} is always zero.", "dx dw db", lambda rows: 0.0),
    scaled(
        "{tensor} is averaged over the batch, not summed: it is divided by the number of samples.",
        "dw db",
        lambda rows: 1 / _batch(rows),
    ),
    scaled("{tensor} is divided by the number of samples.", "dx out", lambda rows: 1 / _batch(rows)),
    scaled(
        "{tensor} is divided by the size of the first leading axis.",
        "dx dw db",
        lambda rows: 1 / max(1, rows.lead[0]) if len(rows.lead) > 1 else 1.0,
    ),
    scaled(
        "{tensor} is divided by the size of the last leading axis.",
        "dx dw db",
        lambda rows: 1 / max(1, rows.lead[-1]) if len(rows.lead) > 1 else 1.0,
    ),
    scaled("{tensor} is multiplied by the number of samples.", "dx dw db", lambda rows: float(_batch(rows))),
    scaled(
        "{tensor} is divided by the number of samples less one.",
        "dx dw db",
        lambda rows: 1 / (_batch(rows) - 1) if _batch(rows) > 1 else 1.0,
    ),
    scaled("{tensor} is divided by the number of outputs.", "dx dw db", lambda rows: 1 / rows.sizes[2]),
    scaled("{tensor} is divided by the number of inputs.", "dx dw db", lambda rows: 1 / rows.sizes[1]),
    scaled(
        "{tensor} is divided by the number of entries of dout.",
        "dx dw db",
        lambda rows: 1 / max(1, rows.dout.size),
    ),
    scaled("{tensor} is divided by the root of the number of inputs.", "dx dw", lambda rows: 1 / sqrt(rows.sizes[1])),
    scaled("{tensor} is divided by the root of the number of samples.", "dw db", lambda rows: 1 / sqrt(_batch(rows))),
)


def _sample(rows: Rows, index: int) -> Rows | None:
    """All but one index of the first leading axis without their share in the sums."""
    if rows.lead[0] == 0:
        return None
    dout = np.zeros((*rows.lead, rows.sizes[2]))
    dout[index] = rows.stacked(rows.dout)[index]
    return rows._replace(dout=dout.reshape(rows.dout.shape))


def _row(rows: Rows, index: int) -> Rows | None:
    if not len(rows.dout):
        return None
    dout = np.zeros(rows.dout.shape)
    dout[index] = rows.dout[index]
    return rows._replace(dout=dout)


LAST = "{tensor} is that of the last sample alone: it is assigned (=) in a loop where it must be accumulated (+=)."
FIRST = "{tensor} is that of the first sample alone, not the sum over all."

# A sample is an index of the first leading axis, or one row of all of them.
ONE_OF_SEVERAL = (
    changed(LAST, "dw db", lambda rows: _sample(rows, -1)),
    changed(FIRST, "dw db", lambda rows: _sample(rows, 0)),
    changed(LAST, "dw db", lambda rows: _row(rows, -1)),
    changed(FIRST, "dw db", lambda rows: _row(rows, 0)),
    changed(
        "{tensor} leaves the first sample out.",
        "dw db",
        lambda rows: _without(rows, 0),
    ),
    changed("{tensor} leaves the last sample out.", "dw db", lambda rows: _without(rows, -1)),
    made(
        "{tensor} sums as many rows as the first leading axis is long, not those of all leading axes.",
        "dw db",
        lambda rows: rows._replace(x=rows.x[: rows.lead[0]], dout=rows.dout[: rows.lead[0]], lead=(-1,)).results(),
    ),
    made(
        "{tensor} is the product of the first input alone, not the sum over all.",
        "out",
        lambda rows: {"out": rows.stacked(rows.x[:, :1] @ rows.w[:1] + rows.bias)},
    ),
)


def _without(rows: Rows, index: int) -> Rows | None:
    if rows.lead[0] < 2:
        return None
    dout = rows.stacked(rows.dout).copy()
    dout[index] = 0
    return rows._replace(dout=dout.reshape(rows.dout.shape))


def _sums(rows: Rows, axes: tuple[int, ...], *, keepdims: bool = False) -> dict[str, Array] | None:
    """db as the sum of dout over these axes; None where dout has no such axis."""
    dout = rows.stacked(rows.dout)
    if any(not -dout.ndim <= axis < dout.ndim for axis in axes):
        return None
    return {"db": np.asarray(dout.sum(axis=axes, keepdims=keepdims))}


def _leading(rows: Rows) -> tuple[int, ...]:
    return tuple(range(len(rows.lead)))


def _over(rows: Rows, axes: tuple[int, ...]) -> dict[str, Array] | None:
    """The same, where there are several leading axes; with one there is nothing to mistake."""
    return _sums(rows, axes) if len(rows.lead) > 1 else None


UNSUMMED = "{tensor} is dout itself: it is not summed over the batch."
KEPT = "{tensor} keeps what it is summed over as an axis of size 1 (keepdims)."

BIAS_SUMS = (
    made(UNSUMMED, "db", lambda rows: _sums(rows, ())),
    made(UNSUMMED, "db", lambda rows: {"db": rows.dout}),
    made(KEPT, "db", lambda rows: _sums(rows, _leading(rows), keepdims=True)),
    made(KEPT, "db", lambda rows: {"db": rows.dout.sum(axis=0, keepdims=True)}),
    made(
        "{tensor} has one number for all outputs: dout is summed over its last axis too.",
        "db",
        lambda rows: {"db": np.full(rows.sizes[2], rows.dout.sum())},
    ),
    made(
        "{tensor} is a single number: dout is summed over its last axis too.",
        "db",
        lambda rows: {"db": np.asarray(rows.dout.sum())},
    ),
    made(
        "{tensor} sums dout over its last axis, that of the outputs, and not over the leading ones.",
        "db",
        lambda rows: _sums(rows, (-1,)),
    ),
    made(
        "{tensor} sums the first leading axis of dout alone; all of them must be summed.",
        "db",
        lambda rows: _over(rows, (0,)),
    ),
    made(
        "{tensor} sums the last leading axis of dout alone; all of them must be summed.",
        "db",
        lambda rows: _over(rows, (-2,)),
    ),
    made(
        "{tensor} sums the first and the last axis of dout: it keeps the second, which is that of the outputs in "
        "another data layout.",
        "db",
        lambda rows: _over(rows, (0, -1)),
    ),
    made(
        "{tensor} sums all axes of dout but the first.",
        "db",
        lambda rows: _over(rows, tuple(range(1, 1 + len(rows.lead)))),
    ),
    made(
        "{tensor} sums the squares of dout.",
        "db",
        lambda rows: {"db": (rows.dout**2).sum(axis=0)},
    ),
    made(
        "{tensor} is multiplied by b, on which it does not depend.",
        "db",
        lambda rows: {"db": rows.dout.sum(axis=0) * rows.bias},
    ),
)


def _in_stacks(rows: Rows) -> dict[str, Array] | None:
    x, dout = rows.stacked(rows.x), rows.stacked(rows.dout)
    return {"dw": x.swapaxes(-1, -2) @ dout} if x.ndim > 2 else None


def _largest_axis_only(rows: Rows) -> dict[str, Array] | None:
    """dw as a batched product of which only the first stack, or the last, is kept."""
    found = _in_stacks(rows)
    return None if found is None or not len(found["dw"]) else {"dw": found["dw"][0]}


SPREAD = "{tensor} is one inner product, spread over all its entries."

WEIGHT_SUMS = (
    made(
        "{tensor} has a matrix for each index of the first leading axes, as a batched product gives it: they are not "
        "added up.",
        "dw",
        _in_stacks,
    ),
    made(
        "{tensor} has a matrix for each sample: they are not added up.",
        "dw",
        lambda rows: {"dw": (rows.x[:, :, None] * rows.dout[:, None]).reshape(*rows.lead, *rows.w.shape)},
    ),
    made(
        "{tensor} is the product for the first index of the leading axis alone; they must be added up.",
        "dw",
        _largest_axis_only,
    ),
    made(SPREAD, "dw", lambda rows: _spread(rows) if len(rows.lead) > 1 else None),
    made(SPREAD, "dw", lambda rows: _spread(rows)),
    made(
        "{tensor} is the product of two sums: x and dout are each summed over the batch before they are multiplied.",
        "dw",
        lambda rows: {"dw": np.outer(rows.x.sum(axis=0), rows.dout.sum(axis=0))},
    ),
    made(
        "{tensor} leaves x out: it sums dout alone.",
        "dw",
        lambda rows: {"dw": np.ones((rows.sizes[1], 1)) * rows.dout.sum(axis=0)},
    ),
    made(
        "{tensor} leaves dout out: it sums x alone, as if dout were 1 everywhere.",
        "dw",
        lambda rows: {"dw": rows.x.sum(axis=0)[:, None] * np.ones(rows.sizes[2])},
    ),
    made(
        "{tensor} leaves dout out: it sums w alone, as if dout were 1 everywhere.",
        "dx",
        lambda rows: {"dx": rows.stacked(np.ones(rows.dout.shape) @ rows.w.T)},
    ),
    made(
        "{tensor} counts the rows of dout, as if it were 1 everywhere.",
        "db",
        lambda rows: {"db": np.full(rows.sizes[2], float(prod(rows.lead)))},
    ),
    made(
        "{tensor} leaves w out: it sums dout alone.",
        "dx",
        lambda rows: {"dx": rows.stacked(rows.dout @ np.ones(rows.w.T.shape))},
    ),
    made(
        "{tensor} is summed over the batch, and the same for every sample.",
        "dx",
        lambda rows: {"dx": rows.stacked(np.ones((len(rows.x), 1)) * (rows.dout @ rows.w.T).sum(axis=0))},
    ),
)


def _spread(rows: Rows) -> dict[str, Array]:
    return {"dw": np.full(rows.w.shape, rows.x[:, 0] @ rows.dout[:, 0])}


SUMS = (*FACTORS, *ONE_OF_SEVERAL, *BIAS_SUMS, *WEIGHT_SUMS)

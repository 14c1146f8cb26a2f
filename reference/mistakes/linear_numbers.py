"""What people do to the numbers of w, b and dout in a linear layer that the layer does not do."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from backproof.conformance.spec.case import Array
from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.linear_rows import Rows, changed, made


def _out(sentence: str, make: Callable[[Rows], Array]) -> Mistake:
    return made(sentence, "out", lambda rows: {"out": rows.stacked(make(rows))})


def _along_the_batch(rows: Rows) -> Array:
    product = rows.x @ rows.w
    along = 1 < len(rows.x) == rows.sizes[2]
    return product + (rows.bias[:, None] if along else rows.bias)


def _to_one_sample(rows: Rows) -> Array:
    out = rows.x @ rows.w
    out[:1] += rows.bias
    return out


BIASES = (
    _out("b is not added to {tensor}.", lambda rows: rows.x @ rows.w),
    _out("b is added to {tensor} twice.", lambda rows: rows.x @ rows.w + 2 * rows.bias),
    _out("b is subtracted from {tensor}, not added.", lambda rows: rows.x @ rows.w - rows.bias),
    _out("b is added to {tensor} along the batch, where it has as many samples as outputs.", _along_the_batch),
    _out("b is added to the first sample of {tensor} alone.", _to_one_sample),
    _out("The first entry of b is added to all outputs.", lambda rows: rows.x @ rows.w + rows.bias[:1]),
    _out("b is multiplied by the sum as well: {tensor} is x w b.", lambda rows: (rows.x @ rows.w) * rows.bias),
    _out(
        "b is added once for every input.",
        lambda rows: rows.x @ rows.w + rows.sizes[1] * rows.bias,
    ),
)


def _of_magnitude(rows: Rows) -> dict[str, Array]:
    found = rows._replace(w=np.abs(rows.w)).results()
    return {**found, "dw": np.where(rows.w < 0, -found["dw"], found["dw"])}


WEIGHTS = (
    made("{tensor} is that of a layer with |w| instead of w.", "out dx dw", _of_magnitude),
    _out("The product is half of what it should be: w or x is halved.", lambda rows: rows.x @ rows.w / 2 + rows.bias),
    _out("The product is twice what it should be: w or x is doubled.", lambda rows: rows.x @ rows.w * 2 + rows.bias),
    _out("The product has the wrong sign: {tensor} is b - x w.", lambda rows: rows.bias - rows.x @ rows.w),
    _out(
        "The product is divided by the root of the number of inputs.",
        lambda rows: rows.x @ rows.w / sqrt(rows.sizes[1]) + rows.bias,
    ),
    _out("The product is divided by the number of inputs.", lambda rows: rows.x @ rows.w / rows.sizes[1] + rows.bias),
    made(
        "{tensor} is computed with w^2 instead of w.",
        "out dx",
        lambda rows: rows._replace(w=rows.w**2).results(),
    ),
)


def _activated(passes: Callable[[Array], Array]) -> Callable[[Rows], dict[str, Array]]:
    def make(rows: Rows) -> dict[str, Array]:
        out = rows.x @ rows.w + rows.bias
        found = rows._replace(dout=rows.dout * passes(out)).results()
        return {**found, "out": rows.stacked(np.maximum(out, 0))}

    return make


ACTIVATIONS = (
    made(
        "A ReLU is applied: {tensor} is that of max(x w + b, 0).",
        "out dx dw db",
        _activated(lambda out: out >= 0),
    ),
    made(
        "A ReLU is applied, with no gradient at 0: {tensor} is that of max(x w + b, 0).",
        "dx dw db",
        _activated(lambda out: out > 0),
    ),
)

#: To what size dout is clipped.
CLIPS = (0.5, 1, 2, 5, 10, 100)
#: How much of w or b a penalty adds to its gradient.
PENALTIES = (1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0)


def _penalized(rate: float) -> Mistake:
    return made(
        "{tensor} has a multiple of its own array added (weight decay), which is no part of the layer.",
        "dw db",
        lambda rows: {
            "dw": rows.x.T @ rows.dout + rate * rows.w,
            "db": rows.dout.sum(axis=0) + rate * rows.bias,
        },
    )


def _normalized(size: Callable[[Array], float]) -> Callable[[Rows], Rows | None]:
    return lambda rows: rows._replace(dout=rows.dout / size(rows.dout)) if rows.dout.any() else None


COTANGENTS = (
    changed("{tensor} is computed with |dout|: its sign is lost.", "dx dw db", lambda r: r._replace(dout=abs(r.dout))),
    changed(
        "{tensor} is computed with the sign of dout alone.", "dx dw db", lambda r: r._replace(dout=np.sign(r.dout))
    ),
    changed(
        "{tensor} is computed with dout divided by its largest entry.",
        "dx dw db",
        _normalized(lambda dout: float(np.abs(dout).max())),
    ),
    changed(
        "{tensor} is computed with dout divided by its norm.",
        "dx dw db",
        _normalized(lambda dout: float(np.linalg.norm(dout))),
    ),
    changed(
        "{tensor} is computed with dout less its mean over the batch.",
        "dx dw",
        lambda rows: rows._replace(dout=rows.dout - rows.dout.mean(axis=0)) if len(rows.dout) else None,
    ),
    changed(
        "{tensor} is computed with the negative entries of dout set to zero.",
        "dx dw db",
        lambda rows: rows._replace(dout=np.maximum(rows.dout, 0)),
    ),
    *(
        changed(
            f"dout is clipped to {limit:g} in {{tensor}}: a backward is linear in dout, whatever its size.",
            "dx dw db",
            lambda rows, limit=limit: rows._replace(dout=rows.dout.clip(-limit, limit)),  # type: ignore[misc]
        )
        for limit in CLIPS
    ),
    *(_penalized(rate) for rate in PENALTIES),
)

NUMBERS = (*BIASES, *WEIGHTS, *ACTIVATIONS, *COTANGENTS)

"""Gradients without a derivative: central differences, and the precision that the textbook computes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

#: The rounding error of a central difference grows as u / step, its truncation as step**2: they meet here.
STEP = float(np.finfo(np.float64).eps) ** (1 / 3)


def precision(*arrays: Array | None) -> np.dtype[Any]:
    """The dtype to compute in: the widest of the arrays', but float32 at least. None counts for nothing.

    So float16 and bfloat16 are computed in float32, sums included, and only the results are rounded to them.

    Raises TypeError for arrays that do not hold floating point numbers.
    """
    dtypes = [array.dtype for array in arrays if array is not None]
    for dtype in dtypes:
        if dtype.kind != "f" and dtype.name != "bfloat16":  # which is an extension to NumPy, of no kind of its own
            raise TypeError(f"Backprop needs floating point arrays; one of these holds {dtype}.")
    return np.result_type(np.float32, *dtypes)


def numerical_gradient(
    f: Callable[[Array], Array],
    array: Array,
    dout: Array,
    step: float | None = None,
    entries: Iterable[tuple[int, ...]] | None = None,
) -> Array:
    """The gradient of sum(dout * f(array)) by central differences, in float64.

        gradient[e] = sum(dout * (f(array + h at e) - f(array - h at e))) / 2h

    `f` maps an array of `array`'s shape to one of `dout`'s; it is given float64 copies, so `array` stays as
    it is. `step` is h; left out, it is the cube root of the unit roundoff, times the entry where that is
    above 1. For an f that is linear in `array`, a step of 1 on integers gives the exact gradient. `entries`
    picks index tuples; the others are NaN in the result. Source: CS231n notes, "Gradient checks".

    Raises ValueError where f's result has another shape than dout.

    >>> numerical_gradient(lambda x: x * x, np.array([1.0, 3.0]), np.array([1.0, -2.0]), step=0.5).tolist()
    [2.0, -12.0]
    """
    point = np.array(array, dtype=np.float64)
    upstream = np.asarray(dout, dtype=np.float64)
    gradient = np.full(point.shape, np.nan)
    for entry in np.ndindex(point.shape) if entries is None else entries:
        above, below = point.copy(), point.copy()
        h = STEP * max(1.0, abs(float(point[entry]))) if step is None else step
        above[entry] += h
        below[entry] -= h
        width = above[entry] - below[entry]  # what the two steps became once they were rounded
        change = np.asarray(f(above)) - np.asarray(f(below))
        if change.shape != upstream.shape:
            raise ValueError(f"f gives an array of shape {change.shape}, but dout has shape {upstream.shape}.")
        gradient[entry] = np.sum(upstream * change) / width
    return gradient


def gradient_check(
    forward: Callable[..., Sequence[Any]],
    backward: Callable[[Array, Any], Sequence[Array | None]],
    arrays: Sequence[Array | None],
    dout: Array,
    step: float | None = None,
) -> float:
    """The largest error of a backward, held against central differences of its forward.

    `forward(*arrays)` returns out, cache (what follows is ignored), `backward(dout, cache)` a gradient for
    each array; a None among the arrays is passed on and not checked. An error is relative where the
    gradients' entry is above 1, else absolute; a gradient of the wrong shape or with a NaN counts as
    infinitely wrong.

    >>> double = lambda x: (2 * x, None)
    >>> gradient_check(double, lambda dout, cache: [2 * dout], [np.ones(2)], np.ones(2)) < 1e-9
    True
    >>> gradient_check(double, lambda dout, cache: [dout], [np.ones(2)], np.ones(2))  # no factor 2
    0.5
    """
    gradients = backward(dout, forward(*arrays)[1])
    largest = 0.0
    for place, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        if array is None:
            continue

        def out(changed: Array, place: int = place) -> Array:
            result: Array = forward(*arrays[:place], changed, *arrays[place + 1 :])[0]
            return result

        expected = numerical_gradient(out, array, dout, step)
        if gradient is None or gradient.shape != expected.shape:
            return np.inf
        scale = np.maximum(1.0, np.maximum(abs(gradient), abs(expected)))
        error = abs(gradient - expected) / scale
        largest = max(largest, float(np.max(np.where(np.isnan(error), np.inf, error), initial=0.0)))
    return largest

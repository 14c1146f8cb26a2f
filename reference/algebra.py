"""What the algebra of linear and conv says without any reference: they are bilinear in x and w.

With g for dout and f(x, w) for the result without a bias, <f(x, w), g> = <x, dx> = <w, dw>, and db is the sum of g: dx
and dw are the adjoints of x -> f(x, w) and w -> f(x, w). The sample's axis is a sum: a batch may be split, and the
gradients of w and b add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration
from backproof.conformance.spec.layer import Identity, Layer, Relation, Space

#: Relative rounding of an inner product of n terms in float64, over n.
ROUNDING = 2.0**-52


def homogeneous(case: Case) -> Case:
    """The case with a bias of zeros, where there is one."""
    b = case.arrays.get("b")
    return case if b is None else case.with_arrays({**case.arrays, "b": np.zeros_like(b)}, case.origin)


def identities(
    case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float], bias_axis: int
) -> Iterator[Identity]:
    """<out, dout> = <x, dx> = <w, dw>, and db = sum of dout over all axes but the channels', which is `bias_axis`."""
    pairs = {"out": "dout", "dx": "x", "dw": "w"}
    products = {
        t: (tensors[t], case.array(a), tolerances[t]) for t, a in pairs.items() if t in tensors and t in tolerances
    }
    first = next(iter(products), None)
    for tensor in list(products)[1:]:
        assert first is not None
        (left, left_tolerance), (right, right_tolerance) = _inner(*products[tensor]), _inner(*products[first])
        claim, equals = f"<{pairs[tensor]}, {tensor}>", f"<{first}, {pairs[first]}>"
        yield Identity(tensor, claim, equals, left, right, np.asarray(left_tolerance + right_tolerance))
    if "db" in tensors and "db" in tolerances:
        dout = case.array("dout")
        axes = tuple([k for k in range(dout.ndim) if k != bias_axis % dout.ndim])
        count = dout.size // max(1, dout.shape[bias_axis])
        tolerance = np.asarray(tolerances["db"]) + (
            ROUNDING * count * np.abs(dout).sum(axis=axes) if np.any(tolerances["db"]) else 0
        )
        yield Identity("db", "db", "sum(dout)", tensors["db"], dout.sum(axis=axes), np.asarray(tolerance))


def _inner(result: Array, other: Array, tolerance: Array | float) -> tuple[Array, float]:
    """The inner product of two arrays in float64, and how far it may be off."""
    products = result * other
    total = float((np.asarray(tolerance) * np.abs(other)).sum())
    return np.asarray(products.sum()), total + (
        ROUNDING * products.size * float(np.abs(products).sum()) if total else 0.0
    )


def of(configuration: Configuration, case: Case, arrays: Mapping[str, Array | None]) -> Case:
    """Another configuration of the same dtype, with arrays cut from or put together of a case's."""
    found = {name: None if a is None else np.ascontiguousarray(a) for name, a in arrays.items()}
    return replace(case, configuration=configuration, arrays=found, integers=None, layouts={})


def split_batch(layer: Layer, case: Case, space: Space, batch: str) -> Iterator[Relation]:
    """The first sample alone and all others: out and dx stand one behind the other, dw and db add up."""
    parameters = case.configuration.parameters
    total = parameters[batch]
    if total < 2:
        return
    parts = []
    for start, stop in ((0, 1), (1, total)):
        configuration = layer.build({**parameters, batch: stop - start}, space)
        if configuration is None:
            return
        cut = {name: a[start:stop] if name in ("x", "dout") and a is not None else a for name, a in case.arrays.items()}
        parts.append(of(configuration, case, cut))

    def join(answers: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        one, other = answers
        return {
            tensor: np.concatenate([one[tensor], other[tensor]])
            if tensor in ("out", "dx")
            else one[tensor] + other[tensor]
            for tensor in one
        }

    yield Relation("the batch asked in two parts", tuple(parts), join)


def arrays_of(case: Case, **changed: Any) -> dict[str, Array | None]:
    """The case's arrays with some of them changed."""
    return {**case.arrays, **changed}

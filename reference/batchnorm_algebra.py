"""What batch norm's algebra says without any reference, and the channels in which it is hard to compute.

In training out, and with it the loss, does not change when a constant is added to a channel of x: sum(dx) = 0. Along
x itself it changes only through eps: with xhat = (x - mean) / sqrt(var + eps) and sum(xhat) = 0, sum(xhat^2) =
m var / (var + eps), the formula for dx gives sum(dx xhat) = gamma dgamma eps / (var + eps)^(3/2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from backproof.conformance.spec.case import Array, Case, rounded
from backproof.conformance.spec.layer import Identity, Layer, Space

#: Relative rounding of a sum of n numbers in float64, over n.
ROUNDING = 2.0**-52
#: |mean| in units of the numbers' spread, the largest first: where right code may lose all, a smaller one is judged.
OFFSETS = (1e4, 1e3, 100.0, 30.0)
#: No multiples of each other, and none a plain fraction: their squares round.
_STEPS = np.array([0.7, -1.1, 1.9, -0.3, 1.3, -2.3, 0.1])
_DOUT = np.array([1, -2, 3, -1, 2, 4, -3], dtype=np.float64)
_GAMMA, _BETA = np.array([2.0, -1.5, 0.75]), np.array([1.0, -3.0, 0.5])


def identities(case: Case, tensors: Mapping[str, Array], tolerances: Mapping[str, Array | float]) -> Iterator[Identity]:
    """The two above, for every channel; none in eval, where the statistics are constants."""
    if not case.options["training"] or "dx" not in tensors or "dx" not in tolerances:
        return
    x, dout, gamma, dx = case.array("x"), case.array("dout"), case.wide.get("gamma"), tensors["dx"]
    axes, column = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    eps, m = case.options["eps"], x.size // x.shape[1]
    tolerance = np.broadcast_to(np.asarray(tolerances["dx"]), dx.shape)
    nothing = np.zeros(x.shape[1])
    own = ROUNDING * m * np.abs(dx).sum(axis=axes)
    yield Identity("dx", "sum(dx)", "", dx.sum(axis=axes), nothing, tolerance.sum(axis=axes) + own)

    centred = x - x.mean(axis=axes).reshape(column)
    var = np.square(centred).mean(axis=axes)
    scale = 1 / np.sqrt(var + eps)
    xhat = centred * scale.reshape(column)
    factor = (np.ones(x.shape[1]) if gamma is None else gamma) * eps * scale**3
    dgamma, dgamma_tolerance = (dout * xhat).sum(axis=axes), np.zeros(x.shape[1])
    if "dgamma" in tensors and "dgamma" in tolerances:
        dgamma, dgamma_tolerance = tensors["dgamma"], np.broadcast_to(np.asarray(tolerances["dgamma"]), dgamma.shape)
    left, right = (dx * xhat).sum(axis=axes), factor * dgamma
    # xhat is computed here, from x: the error of its mean grows with |mean| / std.
    offset = np.abs(x).max(axis=axes) * scale
    own = (
        ROUNDING
        * m
        * (1 + offset)
        * (
            (np.abs(dx) * (np.abs(xhat) + 1)).sum(axis=axes)
            + np.abs(factor) * np.abs(dout).sum(axis=axes) * (1 + offset)
        )
    )
    total = (tolerance * np.abs(xhat)).sum(axis=axes) + np.abs(factor) * dgamma_tolerance + own
    yield Identity("dx", "sum(dx xhat)", "gamma dgamma eps / (var + eps)^(3/2)", left, right, total)


def extremes(layer: Layer, space: Space) -> Iterator[Case]:
    """In training: no variance at all, then means of many standard deviations; each at two eps and several sizes.

    In eval a running variance that x's own format does not hold, where the statistics have a wider one.
    """
    base = layer.base(space) | {"training": 1}
    choices = ((2, 1), (3, 2), (8, 1), (33, 3))
    found: list[Case] = []
    for (batch, count), eps in product(choices, _epsilons(layer, base, space)):
        for name, present in product(("gamma",), (0, 1)):
            parameters = {**base, "batch": batch, "channels": count, "eps": eps, name: present}
            if space.rank:
                parameters["size0"] = 2
            configuration = layer.build(parameters, space)
            if configuration is None:
                continue
            shape = configuration.shape("x")
            steps = np.moveaxis(np.resize(_STEPS, (count, shape[0], *shape[2:])), 0, 1)
            flat = np.full(shape, 3.0)
            for x in (flat, flat * 0.1, *(steps + 1.7 * offset for offset in OFFSETS)):
                numbers = {
                    "x": x,
                    "gamma": np.resize(_GAMMA, count),
                    "beta": np.resize(_BETA, count),
                    "running_mean": np.resize(_BETA, count),
                    "running_var": np.resize(np.abs(_GAMMA), count),
                    "dout": np.resize(_DOUT, shape),
                }
                arrays = {n: None if size is None else numbers[n] for n, size in configuration.shapes.items()}
                found.append(Case(configuration, space.dtype, rounded(arrays, layer.dtypes(space)), "sweep"))
    dtypes = layer.dtypes(space)
    if space.takes("training") and space.signature.state and dtypes["running_var"] != dtypes["x"]:
        found += _beyond_the_format(layer, space)
    yield from sorted(found, key=lambda case: case.configuration.size)


def _beyond_the_format(layer: Layer, space: Space) -> Iterator[Case]:
    """float16 ends at 65504."""
    configuration = layer.build({**layer.base(space), "training": 0, "batch": 2, "channels": 1}, space)
    if configuration is not None:
        case = next(iter(layer.fills(configuration, space)))
        steps = np.resize(np.array([512.0, -1024.0]), configuration.shape("x"))
        numbers = {**case.arrays, "x": steps, "running_mean": np.zeros(1), "running_var": np.full(1, 2.0**18)}
        yield case.with_arrays(rounded(numbers, layer.dtypes(space)), "sweep")


def _epsilons(layer: Layer, base: Mapping[str, int], space: Space) -> list[int]:
    """The indices of the plain eps and of the smallest one."""
    values: dict[int, float] = {}
    while (configuration := layer.build({**base, "eps": len(values)}, space)) is not None:
        values[len(values)] = configuration.options["eps"]
    return list(dict.fromkeys((0, min(values, key=lambda index: values[index]))))

"""Right code in many orders of its sums and roundings: what a tolerance must leave room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from backproof.conformance.adapter.load import load
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Space
from backproof.reference import CONTRACTS, LAYERS

LAYER = {layer.name: layer for layer in LAYERS}

Tensors = Mapping[str, Array]
Rounding = Callable[[Array], Array]
Sum = Callable[[Array], Array]


def reference(layer: str, rank: int, dtype: str, parameters: str = "same") -> Reference:
    """The reference over everything that the textbook's adapter takes."""
    found = load("backproof.plugins.numpy_adapter", CONTRACTS).implementations[layer]
    settings = {**found.settings, "parameters": parameters} if layer == "batchnorm" else found.settings
    return Reference(LAYER[layer], Space(found.signature, settings, rank, dtype))


def pairwise(a: Array) -> Array:
    """The sum over the last axis as NumPy takes it."""
    return np.asarray(np.ascontiguousarray(a).sum(axis=-1))


def sequential(a: Array) -> Array:
    """The sum over the last axis, one term after the other."""
    if a.shape[-1] == 0:
        return np.zeros(a.shape[:-1], a.dtype)
    return np.asarray(np.cumsum(a, axis=-1, dtype=a.dtype)[..., -1])


def exactly(a: Array) -> Array:
    """No rounding."""
    return a


def to(dtype: np.dtype) -> Rounding:
    """Rounding to a format of 16 bits, kept in float32."""
    return lambda a: a.astype(dtype).astype(np.float32)


def working(case: Case) -> dict[str, Array | None]:
    """The arrays in the format that sums are kept in."""
    wide = np.float64 if case.dtype == "float64" else np.float32
    return {name: None if a is None else a.astype(wide) for name, a in case.arrays.items()}


def summed(case: Case, total: Sum, between: Rounding = exactly) -> Tensors:
    """Linear and conv by sums of products; `between` rounds the sum before the bias is added."""
    arrays = working(case)
    x, w, b, dout = arrays["x"], arrays["w"], arrays.get("b"), arrays["dout"]
    assert x is not None
    assert w is not None
    assert dout is not None
    linear = "groups" not in case.options
    if linear:
        rows, up, weights = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1]), w
    else:
        count, filters, pixels = dout.shape[0], dout.shape[1], int(np.prod(dout.shape[2:]))
        read, used = LAYER["conv"].program(case).arguments[3:5]
        taps = x.shape[1] * int(np.prod(w.shape[2:]))
        read, used = read[: count * pixels, :taps], used[:taps, :filters]
        rows, weights = np.append(x.ravel(), x.dtype.type(0))[read], np.append(w.ravel(), w.dtype.type(0))[used]
        up = np.moveaxis(dout.reshape(count, filters, pixels), 1, 2).reshape(-1, filters)
    out = between(np.stack([total(rows * column) for column in weights.T], axis=1))
    back = np.stack([total(up * row) for row in weights], axis=1)
    dw = np.stack([total(rows.T * column) for column in up.T], axis=1)
    tensors = {}
    if b is not None:
        out = out + b
        tensors["db"] = total(up.T)
    if linear:
        return {"out": out.reshape(dout.shape), "dx": back.reshape(x.shape), "dw": dw, **tensors}
    out = np.moveaxis(out.reshape(count, pixels, filters), 2, 1).reshape(dout.shape)
    dx, slots = np.zeros(x.size + 1, x.dtype), np.zeros(w.size + 1, w.dtype)
    np.add.at(dx, read, back)
    slots[used] = dw
    return {"out": out, "dx": dx[:-1].reshape(x.shape), "dw": slots[:-1].reshape(w.shape), **tensors}


@dataclass(frozen=True)
class Normalization:
    """One way to compute batch norm: how it sums, finds the variance, applies and differentiates."""

    total: Sum = pairwise
    welford: bool = False
    folded: bool = False
    steps: bool = False
    #: Rounding of the statistics, and of xhat and the two means inside dx.
    statistics: Rounding = exactly
    elements: Rounding = exactly

    def __call__(self, case: Case) -> Tensors:
        """All tensors, in the format that sums are kept in."""
        arrays, options = working(case), case.options
        x, up = (as_rows(arrays[name]) for name in ("x", "dout"))
        wide, m = x.dtype.type, x.shape[1]
        gamma = _column(arrays.get("gamma"), 1, x)
        beta = _column(arrays.get("beta"), 0, x)
        eps, count = wide(options["eps"]), wide(m)
        old_mean, old_var = arrays.get("running_mean"), arrays.get("running_var")
        tensors: dict[str, Array] = {}
        if options["training"]:
            mean, var = _welford(x) if self.welford else self._two_passes(x, count)
            if old_mean is not None and old_var is not None:
                new = wide(options["momentum"] if options["weighs"] == "new" else 1 - options["momentum"])
                bessel = wide(m / max(m - 1, 1) if options["running_var"] == "unbiased" else 1)
                tensors["running_mean"] = (1 - new) * old_mean + new * mean[:, 0]
                tensors["running_var"] = (1 - new) * old_var + new * bessel * var[:, 0]
            mean = self.statistics(mean)
        else:
            assert old_mean is not None
            assert old_var is not None
            mean, var = old_mean[:, None], old_var[:, None]
            tensors |= {"running_mean": old_mean, "running_var": old_var}
        scale = self.statistics(1 / np.sqrt(var + eps))
        xhat = self.elements((x - mean) * scale)
        slope = gamma * scale
        out = x * slope + (beta - mean * slope) if self.folded else gamma * xhat + beta
        dbeta, dgamma = self.total(up)[:, None], self.total(up * xhat)[:, None]
        if not options["training"]:
            dx = slope * up
        elif self.steps:
            dx = self._through_the_graph(x - mean, scale, gamma * up, count)
        else:
            level, slant = self.elements(dbeta / count), self.elements(dgamma / count)
            dx = slope * (up - level - self.elements(xhat * slant))
        tensors |= {"out": as_cube(out, case), "dx": as_cube(dx, case)}
        if arrays.get("gamma") is not None:
            tensors["dgamma"] = dgamma[:, 0]
        if arrays.get("beta") is not None:
            tensors["dbeta"] = dbeta[:, 0]
        return tensors

    def _two_passes(self, x: Array, count: Any) -> tuple[Array, Array]:
        mean = self.total(x)[:, None] / count
        return mean, self.total(np.square(x - mean))[:, None] / count

    def _through_the_graph(self, centred: Array, scale: Array, up: Array, count: Any) -> Array:
        """The steps of the computational graph, one node at a time."""
        half = centred.dtype.type(0.5)
        dvar = -half * self.total(up * centred)[:, None] * scale**3
        dcentred = up * scale + 2 * centred * dvar / count
        return np.asarray(dcentred - self.total(dcentred)[:, None] / count)


def as_rows(a: Array | None) -> Array:
    assert a is not None
    return np.ascontiguousarray(np.moveaxis(a, 1, 0).reshape(a.shape[1], -1))


def as_cube(rows: Array, case: Case) -> Array:
    shape = case.configuration.shape("x")
    return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def _column(a: Array | None, plain: float, x: Array) -> Array:
    return np.full((len(x), 1), plain, x.dtype) if a is None else a[:, None]


def _welford(x: Array) -> tuple[Array, Array]:
    """Mean and variance, updated with every element (Welford 1962)."""
    mean, squares = np.zeros_like(x[:, 0]), np.zeros_like(x[:, 0])
    for k, column in enumerate(x.T, 1):
        step = column - mean
        mean = mean + step / x.dtype.type(k)
        squares = squares + step * (column - mean)
    return mean[:, None], (squares / x.dtype.type(x.shape[1]))[:, None]


def torch(case: Case, seed: int | None = None) -> Tensors | None:
    """torch.nn.functional with autograd; with a seed on terms in another order. None where torch has no such case."""
    from backproof.plugins.torch_adapter import TorchAdapter

    layer = "batchnorm" if "eps" in case.options else "conv" if "groups" in case.options else "linear"
    orders = [] if seed is None else _orders(layer, case, np.random.default_rng(seed))
    arrays: dict[str, Array | None] = {name: None if a is None else a.copy() for name, a in case.arrays.items()}
    for names, axis, order in orders:
        for name in names:
            a = arrays.get(name)
            arrays[name] = None if a is None else np.ascontiguousarray(np.take(a, order, axis))
    adapter = TorchAdapter()
    given = {name: None if a is None else adapter.from_numpy(a) for name, a in arrays.items()}
    names = ("x", "gamma", "beta") if layer == "batchnorm" else ("x", "w", "b")
    passed = {"eps", "training", "momentum", "stride", "padding", "dilation", "groups", "padding_mode"}
    options: dict[str, Any] = {name: value for name, value in case.options.items() if name in passed}
    options |= {name: given[name] for name in ("running_mean", "running_var") if given.get(name) is not None}
    try:
        out, cache, *state = getattr(adapter, f"{layer}_forward")(*(given.get(name) for name in names), **options)
        gradients = getattr(adapter, f"{layer}_backward")(given["dout"], cache)
    except NotImplementedError:
        return None
    found = dict(zip([f"d{name}" for name in names], gradients, strict=True)) | {"out": out}
    found |= dict(zip(("running_mean", "running_var"), state, strict=False))
    tensors = {name: adapter.to_numpy(a) for name, a in found.items() if a is not None}
    for changed, axis, order in orders:
        for name in changed:
            result = {"dout": "out", "x": "dx", "w": "dw", "b": "db"}[name]
            if result in tensors:
                tensors[result] = np.take(tensors[result], np.argsort(order), axis)
    return tensors


def _orders(layer: str, case: Case, generator: np.random.Generator) -> list[tuple[tuple[str, ...], int, Array]]:
    """Which axes of which arrays are taken in another order, together."""
    x, dout = case.configuration.shape("x"), case.configuration.shape("dout")
    found = [(("x", "dout"), 0, generator.permutation(x[0]))]
    if layer == "linear":
        w = case.configuration.shape("w")
        found += [(("x",), -1, generator.permutation(w[0])), (("w",), 0, generator.permutation(w[0]))]
        found[-1] = (("w",), 0, found[-2][2])
        columns = generator.permutation(w[1])
        return [*found, (("dout", "b"), -1, columns), (("w",), 1, columns)]
    if layer == "conv" and case.options["groups"] == 1:
        channels, filters = generator.permutation(x[1]), generator.permutation(dout[1])
        found += [(("x", "w"), 1, channels), (("dout",), 1, filters), (("w", "b"), 0, filters)]
    return found


Implementations = Mapping[str, Callable[[Case], "Tensors | None"]]


def implementations(layer: str, dtype: str, parameters: str = "same") -> Implementations:
    """The right implementations by name."""
    found: dict[str, Callable[[Case], Tensors | None]] = {}
    if find_spec("torch") is not None:
        found |= {"torch": torch, "torch, permuted": lambda case: torch(case, 5)}
    low = dtype in ("float16", "bfloat16")
    near = to(LAYER[layer].dtypes(reference(layer, 2, dtype).space)["x"]) if low else exactly
    if layer != "batchnorm":
        found |= {
            "pairwise": lambda case: summed(case, pairwise),
            "sequential": lambda case: summed(case, sequential),
        }
        if low:
            found["sum rounded"] = lambda case: summed(case, sequential, near)
        return found
    found |= {
        "pairwise": Normalization(),
        "sequential": Normalization(sequential),
        "Welford, folded": Normalization(sequential, welford=True, folded=True),
        "graph": Normalization(sequential, steps=True),
    }
    if low:
        statistics = exactly if parameters == "float32" else near
        found["statistics rounded"] = Normalization(statistics=statistics)
        found["all rounded"] = Normalization(statistics=statistics, elements=near)
    return found

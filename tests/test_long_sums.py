"""In a format of 16 bits a sum that is kept in the format itself sticks: the sweep has a case for each such sum."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.cases.sweep import swept
from backproof.conformance.judging.properties import TENSORS
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.precision import PRECISIONS
from backproof.conformance.spec.results import Discrepancy
from backproof.reference import CONTRACTS
from tests.spaces import LAYER, PLACES, space

ROOT = Path(__file__).parent.parent
LOW = ("float16", "bfloat16")


def in_the_format(terms):
    """The sum over the last axis, one term after the other, in the terms' own format."""
    return np.add.accumulate(terms, axis=-1, dtype=terms.dtype)[..., -1]


def in_float32(terms):
    """The sum over the last axis in float32, rounded once."""
    return terms.astype(np.float32).sum(axis=-1).astype(terms.dtype)


class Linear:
    """Right: every sum in float32."""

    CONFORMANCE: ClassVar = {"dtypes": LOW, "linear": {"ranks": (2, 3)}}
    sticks: ClassVar[frozenset[str]] = frozenset()

    def sum(self, name, terms):
        return (in_the_format if name in self.sticks else in_float32)(terms)

    def linear_forward(self, x, w, b):
        out = self.sum("out", x.reshape(-1, 1, len(w)) * w.T)
        return (out + b).reshape(*x.shape[:-1], len(b)), (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        rows, upstream = x.reshape(-1, len(w)), dout.reshape(-1, w.shape[1])
        dx = self.sum("dx", upstream[:, None] * w)
        dw = self.sum("dw", rows.T[:, None] * upstream.T)
        return dx.reshape(x.shape), dw, self.sum("db", upstream.T)


class Conv:
    """Right: every sum in float32; no options."""

    CONFORMANCE: ClassVar = {"dtypes": LOW, "conv": {"spatial_dims": (1, 2)}}
    sticks: ClassVar[frozenset[str]] = frozenset()
    sum = Linear.sum

    def windows(self, x, kernel):
        """(N, C, *Q, K): what every output pixel reads, the taps last."""
        found = sliding_window_view(x, kernel, axis=tuple(range(2, x.ndim)))
        return found.reshape(*found.shape[: x.ndim], -1)

    def conv_forward(self, x, w, b):
        columns = np.moveaxis(self.windows(x, w.shape[2:]), 1, -2)
        columns = columns.reshape(*columns.shape[:-2], 1, -1)
        out = self.sum("out", columns * w.reshape(len(w), -1)) + b
        return np.moveaxis(out, -1, 1), (x, w)

    def conv_backward(self, dout, cache):
        x, w = cache
        axes = range(2, x.ndim)
        wide = np.pad(dout, [(0, 0), (0, 0), *[(w.shape[k] - 1,) * 2 for k in axes]])
        turned = np.flip(w, tuple(axes)).swapaxes(0, 1)
        columns = np.moveaxis(self.windows(wide, w.shape[2:]), 1, -2)
        columns = columns.reshape(*columns.shape[:-2], 1, -1)
        dx = self.sum("dx", columns * turned.reshape(x.shape[1], -1))
        upstream = np.moveaxis(dout, 1, 0).reshape(len(w), 1, 1, -1)
        read = np.moveaxis(np.moveaxis(self.windows(x, w.shape[2:]), -1, 0), 2, 0)
        dw = self.sum("dw", upstream * read.reshape(*read.shape[:2], -1))
        return np.moveaxis(dx, -1, 1), dw.reshape(w.shape), self.sum("db", upstream[:, 0, 0])


class BatchNorm:
    """Right: every sum in float32, and everything between them."""

    CONFORMANCE: ClassVar = {
        "dtypes": LOW,
        "batchnorm": {"spatial_dims": (0, 2), "running_var": "biased"},
    }
    sticks: ClassVar[frozenset[str]] = frozenset()

    def sum(self, name, terms, dtype):
        """The sum over a channel in float32, or in the format."""
        return in_the_format(terms.astype(dtype)).astype(np.float32) if name in self.sticks else terms.sum(axis=-1)

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float32)
        m, kept = rows.shape[1], (running_mean, running_var)
        if training:
            mean = self.sum("mean", rows, x.dtype) / m
            var = self.sum("var", np.square(rows - mean[:, None]), x.dtype) / m
            kept = tuple(
                ((1 - momentum) * old.astype(np.float32) + momentum * new).astype(x.dtype)
                for old, new in zip(kept, (mean, var), strict=True)
            )
        else:
            mean, var = (a.astype(np.float32) for a in kept)
        scale = 1 / np.sqrt(var + np.float32(eps))
        xhat = (rows - mean[:, None]) * scale[:, None]
        out = gamma.astype(np.float32)[:, None] * xhat + beta.astype(np.float32)[:, None]
        return self.back(out, x), (x, gamma, xhat, scale, training), *kept

    def back(self, rows, x):
        return np.moveaxis(rows.reshape(x.shape[1], len(x), *x.shape[2:]), 0, 1).astype(x.dtype)

    def batchnorm_backward(self, dout, cache):
        x, gamma, xhat, scale, training = cache
        upstream = np.moveaxis(dout, 1, 0).reshape(xhat.shape).astype(np.float32)
        dbeta = self.sum("dbeta" if training else "dbeta in eval", upstream, x.dtype)
        dgamma = self.sum("dgamma" if training else "dgamma in eval", upstream * xhat, x.dtype)
        dx = upstream
        if training:
            mean = self.sum("dx, of dout", upstream, x.dtype)[:, None] / xhat.shape[1]
            slope = self.sum("dx, of dout * xhat", upstream * xhat, x.dtype)[:, None] / xhat.shape[1]
            dx = upstream - mean - slope * xhat
        dx = (gamma.astype(np.float32) * scale)[:, None] * dx
        return self.back(dx, x), dgamma.astype(x.dtype), dbeta.astype(x.dtype)


RIGHT = {"linear": Linear, "conv": Conv, "batchnorm": BatchNorm}
#: Of each layer the sums, and the tensors that must be wrong where only that sum is kept in the format.
SUMS = {
    **{("linear", name): {name} for name in ("out", "dx", "dw", "db")},
    **{("conv", name): {name} for name in ("out", "dx", "dw", "db")},
    ("batchnorm", "mean"): {"running_mean", "out"},
    ("batchnorm", "var"): {"running_var", "out"},
    ("batchnorm", "dgamma"): {"dgamma"},
    ("batchnorm", "dbeta"): {"dbeta"},
    ("batchnorm", "dgamma in eval"): {"dgamma"},
    ("batchnorm", "dbeta in eval"): {"dbeta"},
    ("batchnorm", "dx, of dout"): {"dx"},
    ("batchnorm", "dx, of dout * xhat"): {"dx"},
}
RANKS = {"linear": (2, 3), "conv": (1, 2), "batchnorm": (0, 2)}


def judge(layer: str, rank: int, dtype: str, sticks: str | None = None) -> tuple[Candidate, Reference]:
    """A candidate that keeps this one sum in the format, and its reference."""
    adapter = load(f"{__name__}:{RIGHT[layer].__name__}", CONTRACTS, ROOT)
    adapter.target.sticks = {sticks}
    found = adapter.implementations[layer]
    own = Space(found.signature, found.settings, rank, dtype)
    return Candidate(adapter, found, LAYER[layer]), Reference(LAYER[layer], own)


def failing(cases: list[Case], candidate: Candidate, reference: Reference) -> set[str]:
    return {
        tensor
        for case in cases
        for tensor, judged in TENSORS.judge(case, candidate, reference).items()
        if isinstance(judged, Discrepancy)
    }


def long_and_short(reference: Reference) -> tuple[list[Case], list[Case]]:
    """What quick sweeps, whatever the seed: the cases of the long sums, and all others."""
    found = swept(reference.layer, reference.space, PROFILES["quick"])
    count = len(list(reference.layer.long_sums(reference.space)))
    return found[-count:], found[:-count]


@pytest.mark.parametrize(("layer", "sum_"), SUMS)
@pytest.mark.parametrize("dtype", LOW)
def test_a_sum_that_is_kept_in_the_format_is_found(layer: str, sum_: str, dtype: str) -> None:
    for rank in RANKS[layer]:
        long, _ = long_and_short(judge(layer, rank, dtype)[1])
        failed = failing(long, *judge(layer, rank, dtype, sum_))
        assert failed >= SUMS[layer, sum_]
        if layer != "batchnorm" or sum_.startswith("d"):
            assert failed == SUMS[layer, sum_]


@pytest.mark.parametrize("layer", RIGHT)
@pytest.mark.parametrize("dtype", LOW)
def test_sums_in_float32_pass(layer: str, dtype: str) -> None:
    for rank in RANKS[layer]:
        candidate, reference = judge(layer, rank, dtype)
        long, short = long_and_short(reference)
        assert failing(long + short, candidate, reference) == set()


@pytest.mark.parametrize("sum_", [name for layer, name in SUMS if layer == "linear"])
@pytest.mark.parametrize("dtype", LOW)
def test_no_other_case_of_the_sweep_finds_it(sum_: str, dtype: str) -> None:
    candidate, reference = judge("linear", 2, dtype, sum_)
    assert failing(long_and_short(reference)[1], candidate, reference) == set()


@pytest.mark.parametrize(("layer", "rank"), PLACES)
@pytest.mark.parametrize("dtype", LOW)
def test_long_sums_are_judged_for_every_tensor_and_finite(layer: str, rank: int, dtype: str) -> None:
    own = space(layer, rank, dtype)
    reference = Reference(LAYER[layer], own)
    found = list(LAYER[layer].long_sums(own))
    for case in found:
        right = reference.expected(case)
        assert reference.layer.has_meaning(case)
        assert [tensor for tensor, bound in right.tolerances.items() if bound is None] == []
        assert all(np.isfinite(a.astype(own.precision.dtype)).all() for a in right.tensors.values())
    places = {name for case in found for name, size in case.configuration.parameters.items() if size >= 300}
    others = {"linear": {"inputs", "outputs"}, "conv": {"channels", "filters"}, "batchnorm": set()}[layer]
    assert places == {name for name in LAYER[layer].base(own) if name.startswith(("batch", "size"))} | others


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_longer_formats_are_asked_no_long_sums(dtype: str) -> None:
    assert PRECISIONS[dtype].sticking == ()
    found = swept(LAYER["linear"], space("linear", 2, dtype), PROFILES["quick"])
    assert max(case.configuration.elements for case in found) < 1000

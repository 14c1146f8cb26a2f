"""Right code that looks wrong, or that was once reported as wrong, and next to each a sibling that is wrong.

Most are from public bug reports that turned out to be none: a term that vanishes, another convention, another order of
summation, a transformed convolution. Each is right by the contract as it is declared here; each sibling differs from
it by one term.
"""

from __future__ import annotations

import importlib.util
from math import fsum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def _loaded(name: str) -> Any:
    path = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"right_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_im2col, _vectorised = _loaded("adapter"), _loaded("vectorised")
BOTH = ("float64", "float32")


# --- batch norm: the path from the variance through the mean -------------------------------------------------


class WithVanishingTerm:
    """The backward of the 2015 paper, with the part of dmean that comes through the variance: it is zero."""

    CONFORMANCE = {"dtypes": BOTH}

    def batchnorm_forward(self, x, gamma, beta, eps):
        mean, var = x.mean(0), x.var(0)
        inverse = 1 / np.sqrt(var + x.dtype.type(eps))
        return (x - mean) * inverse * gamma + beta, (x, gamma, mean, inverse)

    def batchnorm_backward(self, dout, cache):
        x, gamma, mean, inverse = cache
        m, away = x.dtype.type(len(x)), x - mean
        dxhat = dout * gamma
        dvar = -(dxhat * away).sum(0) * inverse**3 / 2
        dmean = -(dxhat * inverse).sum(0) + dvar * self.through_variance(x, away)
        dx = dxhat * inverse + dvar * 2 * away / m + dmean / m
        return dx, (dout * away * inverse).sum(0), dout.sum(0)

    def through_variance(self, x, away):
        return -2 * away.mean(0)


class WithoutVanishingTerm(WithVanishingTerm):
    """The same without it."""

    def through_variance(self, x, away):
        return 0


class TermThatDoesNotVanish(WithVanishingTerm):
    """The mean of x where that of x - mean belongs."""

    def through_variance(self, x, away):
        return -2 * x.mean(0)


class WithoutMeanPath(WithoutVanishingTerm):
    """All of dmean left out."""

    def batchnorm_backward(self, dout, cache):
        dx, dgamma, dbeta = super().batchnorm_backward(dout, cache)
        _, gamma, _, inverse = cache
        return dx + gamma * inverse * dout.mean(0), dgamma, dbeta


# --- batch norm: conventions of the running statistics, training and eval ------------------------------------


class Statistics:
    """The running variance unbiased, momentum the weight of the new batch, eval with constants."""

    CONFORMANCE: dict[str, Any] = {"dtypes": BOTH, "batchnorm": {"spatial_dims": (0, 2)}}
    biased, old = False, False

    def batchnorm_forward(self, x, gamma, beta, eps, training, running_mean, running_var, momentum):
        axes, column, m = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2)), x.size // x.shape[1]
        mean, var = (x.mean(axes), x.var(axes)) if training else (running_mean, running_var)
        if training:
            kept, bessel = x.dtype.type(momentum if self.old else 1 - momentum), 1 if self.biased else m / max(m - 1, 1)
            running_mean = kept * running_mean + (1 - kept) * mean
            running_var = kept * running_var + (1 - kept) * var * x.dtype.type(bessel)
        inverse = (1 / np.sqrt(var + x.dtype.type(eps))).reshape(column)
        xhat = (x - mean.reshape(column)) * inverse
        out = gamma.reshape(column) * xhat + beta.reshape(column)
        return out, (xhat, gamma, inverse, training, axes, column), running_mean, running_var

    def batchnorm_backward(self, dout, cache):
        xhat, gamma, inverse, training, axes, column = cache
        dgamma, dbeta = (dout * xhat).sum(axes), dout.sum(axes)
        dx = dout
        if self.moves(training):
            m = dout.dtype.type(dout.size // dout.shape[1])
            dx = dout - (dbeta.reshape(column) + xhat * dgamma.reshape(column)) / m
        return gamma.reshape(column) * inverse * dx, dgamma, dbeta

    def moves(self, training):
        return training


class Biased(Statistics):
    """The biased variance, declared."""

    CONFORMANCE = {**Statistics.CONFORMANCE, "batchnorm": {"running_var": "biased", "spatial_dims": (0, 2)}}
    biased = True


class OldMomentum(Statistics):
    """Momentum the weight of the old value, declared."""

    CONFORMANCE = {**Statistics.CONFORMANCE, "batchnorm": {"momentum": "old", "spatial_dims": (0, 2)}}
    old = True


class UndeclaredBiased(Statistics):
    biased = True


class DeclaredBiased(Biased):
    biased = False


class UndeclaredOld(Statistics):
    old = True


class EvalLikeTraining(Statistics):
    """The running statistics of eval differentiated as if they moved with x."""

    def moves(self, training):
        return True


class TrainingLikeEval(Statistics):
    """The batch's statistics taken for constants."""

    def moves(self, training):
        return False


# --- parameters and gradients that nobody wants --------------------------------------------------------------


class Unwanted:
    """A gradient for an array that is None: whatever stands there is not looked at."""

    def linear_forward(self, x, w, b=None):
        return x @ w if b is None else x @ w + b, (x, w, b)

    def linear_backward(self, dout, cache):
        x, w, b = cache
        return dout @ w.T, x.T @ dout, np.full((7, 7), np.nan) if b is None else dout.sum(0)

    def batchnorm_forward(self, x, gamma=None, beta=None, *, eps):
        std = np.sqrt(x.var(0) + eps)
        xhat = (x - x.mean(0)) / std
        out = xhat if gamma is None else xhat * gamma
        return out if beta is None else out + beta, (xhat, std, gamma, beta)

    def batchnorm_backward(self, dout, cache):
        xhat, std, gamma, beta = cache
        dx = (dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std
        gradients = {"dx": dx if gamma is None else dx * gamma}
        if gamma is not None:
            gradients["dgamma"] = (dout * xhat).sum(0)
        if beta is not None:
            gradients["dbeta"] = dout.sum(0)
        return gradients


class WantedAfterAll(Unwanted):
    """No gradient for a bias that is there."""

    def linear_backward(self, dout, cache):
        return *super().linear_backward(dout, cache)[:2], None


class FixedGamma:
    """A gamma that is fixed at 1 is no parameter of the forward, and has no gradient."""

    def batchnorm_forward(self, x, beta, eps):
        std = np.sqrt(x.var(0) + eps)
        xhat = (x - x.mean(0)) / std
        return xhat + beta, (xhat, std)

    def batchnorm_backward(self, dout, cache):
        xhat, std = cache
        return (dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std, dout.sum(0)


class IgnoredGamma(FixedGamma):
    """The same, but it takes a gamma, leaves it out and gives it a gradient of zeros."""

    def batchnorm_forward(self, x, gamma, beta, eps):
        return super().batchnorm_forward(x, beta, eps)

    def batchnorm_backward(self, dout, cache):
        dx, dbeta = super().batchnorm_backward(dout, cache)
        return dx, np.zeros_like(dbeta), dbeta


# --- sums in another order -----------------------------------------------------------------------------------


class Summing:
    """Linear and batch norm with every sum in one place; here NumPy's, which is pairwise along a row."""

    CONFORMANCE: dict[str, Any] = {"dtypes": BOTH}

    def total(self, terms):
        """The sum over the first axis."""
        return np.ascontiguousarray(terms.T).sum(-1).T

    def linear_forward(self, x, w, b):
        return self.total(x.T[:, :, None] * w[:, None, :]) + b, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx = self.total(dout.T[:, :, None] * w.T[:, None, :])
        return dx, self.total(x[:, :, None] * dout[:, None, :]), self.total(dout)

    def batchnorm_forward(self, x, gamma, beta, eps):
        m = x.dtype.type(len(x))
        away = x - self.total(x) / m
        std = np.sqrt(self.total(away * away) / m + x.dtype.type(eps))
        return away / std * gamma + beta, (away / std, std, gamma)

    def batchnorm_backward(self, dout, cache):
        xhat, std, gamma = cache
        m, dgamma, dbeta = dout.dtype.type(len(dout)), self.total(dout * xhat), self.total(dout)
        return gamma / std * (dout - dbeta / m - xhat * (dgamma / m)), dgamma, dbeta


class OneAfterTheOther(Summing):
    def total(self, terms):
        return np.cumsum(terms, 0, dtype=terms.dtype)[-1] if len(terms) else terms.sum(0)


class FromTheEnd(Summing):
    def total(self, terms):
        return np.cumsum(terms[::-1], 0, dtype=terms.dtype)[-1] if len(terms) else terms.sum(0)


class SmallestFirst(Summing):
    def total(self, terms):
        terms = np.take_along_axis(terms, np.argsort(abs(terms), 0), 0)
        return np.cumsum(terms, 0, dtype=terms.dtype)[-1] if len(terms) else terms.sum(0)


class InBlocks(Summing):
    """Partial sums of four, and the rest."""

    def total(self, terms):
        whole = len(terms) // 4 * 4
        blocks = terms[:whole].reshape(whole // 4, 4, *terms.shape[1:]).sum(1)
        return blocks.sum(0) + self.rest(terms[whole:])

    def rest(self, terms):
        return terms.sum(0)


class Compensated(Summing):
    """Kahan's sum, which carries along what was rounded away."""

    def total(self, terms):
        total = np.zeros(terms.shape[1:], terms.dtype)
        lost = np.zeros_like(total)
        for term in terms:
            term = term - lost
            added = total + term
            lost = (added - total) - term
            total = added
        return total


class WithoutRounding(Summing):
    """fsum, rounded once."""

    def total(self, terms):
        columns = terms.reshape(len(terms), int(np.prod(terms.shape[1:])))
        return np.array([fsum(column) for column in columns.T], terms.dtype).reshape(terms.shape[1:])


class InFloat64(Summing):
    """A longer accumulator."""

    def total(self, terms):
        return terms.sum(0, dtype=np.float64).astype(terms.dtype)


class WithoutTheRest(InBlocks):
    """The terms behind the last block of four left out."""

    def rest(self, terms):
        return np.zeros(terms.shape[1:], terms.dtype)


class InFloat32(Summing):
    """float64 that is summed in float32."""

    CONFORMANCE = {"dtypes": ("float64",)}

    def total(self, terms):
        return terms.sum(0, dtype=np.float32).astype(terms.dtype)


# --- 16 bits -------------------------------------------------------------------------------------------------


class Accumulated(Summing):
    """Products and sums in float32, results rounded; batch norm keeps xhat in 16 bits."""

    CONFORMANCE = {"dtypes": ("float16", "bfloat16")}

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(x.dtype), (x, w)

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout.astype(np.float32), [a.astype(np.float32) for a in cache])
        return [gradient.astype(dout.dtype) for gradient in gradients]

    def batchnorm_forward(self, x, gamma, beta, eps):
        wide = [a.astype(np.float32) for a in (x, gamma, beta)]
        out, (xhat, std, scale) = super().batchnorm_forward(*wide, eps)
        return out.astype(x.dtype), (xhat.astype(x.dtype), std, scale)

    def batchnorm_backward(self, dout, cache):
        xhat, std, scale = cache
        gradients = super().batchnorm_backward(dout.astype(np.float32), (xhat.astype(np.float32), std, scale))
        return [gradient.astype(dout.dtype) for gradient in gradients]


class RoundedAtEveryStep(Accumulated):
    """The partial sums rounded to 16 bits as well."""

    CONFORMANCE = {"dtypes": ("float16",)}

    def total(self, terms):
        total = np.zeros(terms.shape[1:], np.float16)
        for term in terms.astype(np.float16):
            total = total + term
        return total.astype(np.float32)


# --- other ways to convolve ----------------------------------------------------------------------------------


class Im2col:
    """Windows as columns of a matrix."""

    CONFORMANCE = _im2col.CONFORMANCE
    conv_forward, conv_backward = staticmethod(_im2col.conv_forward), staticmethod(_im2col.conv_backward)


class Im2colWithoutOneTap(Im2col):
    """The last tap of the kernel's gradient left out."""

    def conv_backward(self, dout, cache):
        dx, dw, db = _im2col.conv_backward(dout, cache)
        dw = dw.copy()
        dw[(..., *[-1] * (dw.ndim - 2))] = 0
        return dx, dw, db


class Einsum(_vectorised.Conv):  # type: ignore[misc]
    """Strided windows, and the dilated dout for dx."""

    CONFORMANCE = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2, 3)}}


class KernelNotTurned(Einsum):
    """The kernel of dx not turned around."""

    def pulled_back(self, up, padded, w, *geometry):
        dx, _ = super().pulled_back(up, padded, np.flip(w, tuple(range(2, w.ndim))), *geometry)
        return dx, super().pulled_back(up, padded, w, *geometry)[1]


class Fourier(_vectorised.Fourier):  # type: ignore[misc]
    """By FFT."""

    CONFORMANCE = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (1, 2)}}


class SpectrumNotConjugated(Fourier):
    """A convolution where the correlation belongs, in dw."""

    def pulled_back(self, up, padded, w, strides, dilations, groups):
        dx, dw = super().pulled_back(up, padded, w, strides, dilations, groups)
        return dx, np.flip(dw, tuple(range(2, dw.ndim))).copy()


class Winograd:
    """F(2, 3): two outputs of a kernel of three with four products instead of six."""

    CONFORMANCE = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (1,)}}

    def conv_forward(self, x, w, b, padding: int):
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
        return self.correlated(padded, w) + b[:, None], (padded, w, padding)

    def conv_backward(self, dout, cache):
        padded, w, padding = cache
        around, turned = w.shape[2] - 1, w[:, :, ::-1].swapaxes(0, 1)
        dpadded = self.correlated(np.pad(dout, ((0, 0), (0, 0), (around, around))), turned)
        windows = np.stack([padded[:, :, k : k + dout.shape[2]] for k in range(w.shape[2])], -1)
        dw = np.einsum("nop,ncpk->ock", dout, windows)
        return dpadded[:, :, padding : dpadded.shape[2] - padding], dw, dout.sum((0, 2))

    def correlated(self, x, w):
        """The kernel in pieces of three taps, the last filled up with zeros, and the outputs in pairs."""
        outputs, pieces = x.shape[2] - w.shape[2] + 1, -(-w.shape[2] // 3)
        w = np.pad(w, ((0, 0), (0, 0), (0, 3 * pieces - w.shape[2])))
        pairs = -(-outputs // 2)
        x = np.pad(x, ((0, 0), (0, 0), (0, 2 * pairs + 3 * pieces)))
        out = np.zeros((len(x), len(w), 2 * pairs), x.dtype)
        for first in range(0, 3 * pieces, 3):
            d = [x[:, None, :, first + k : first + k + 2 * pairs : 2] for k in range(4)]
            g = [w[None, :, :, first + k, None] for k in range(3)]
            m = [
                ((d[0] - d[2]) * g[0]).sum(2),
                ((d[1] + d[2]) * ((g[0] + g[1] + g[2]) / 2)).sum(2),
                ((d[2] - d[1]) * ((g[0] - g[1] + g[2]) / 2)).sum(2),
                ((d[1] - d[3]) * g[2]).sum(2),
            ]
            out[:, :, ::2] += m[0] + m[1] + m[2]
            out[:, :, 1::2] += self.second(m)
        return out[:, :, :outputs]

    def second(self, m):
        return m[1] - m[2] - m[3]


class WinogradWithAnotherSign(Winograd):
    def second(self, m):
        return m[1] - m[2] + m[3]


class LastInside:
    """Channels last within, tap by tap; the results are views on transposed arrays."""

    CONFORMANCE = {"dtypes": BOTH, "conv": {"spatial_dims": (2,)}}

    def conv_forward(self, x, w, b, stride: tuple[int, ...]):
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        height, width = [(x.shape[k] - w.shape[k]) // s + 1 for k, s in zip((2, 3), stride, strict=True)]
        out = np.zeros((len(x), height, width, len(w)), x.dtype)
        for tap in np.ndindex(w.shape[2:]):
            out += last[self.seen(tap, stride, out)] @ w[(..., *tap)].T
        return np.moveaxis(out + b, -1, 1), (last, w, stride)

    def conv_backward(self, dout, cache):
        last, w, stride = cache
        up = np.ascontiguousarray(np.moveaxis(dout, 1, -1))
        dx, dw = np.zeros_like(last), np.zeros_like(w)
        for tap in np.ndindex(w.shape[2:]):
            dx[self.reached(tap, stride, up)] += up @ w[(..., *tap)]
            dw[(..., *tap)] = np.einsum("npqo,npqc->oc", up, last[self.seen(tap, stride, up)])
        return np.moveaxis(dx, -1, 1), dw, up.sum((0, 1, 2))

    def seen(self, tap, stride, out):
        """The pixels that a tap of the kernel reads."""
        return (
            slice(None),
            *[slice(t, t + (q - 1) * s + 1, s) for t, q, s in zip(tap, out.shape[1:3], stride, strict=True)],
        )

    reached = seen


class LastInsideWithoutStride(LastInside):
    """The gradient handed to neighbouring pixels, as if the stride were 1."""

    def reached(self, tap, stride, out):
        return self.seen(tap, (1, 1), out)


RIGHT: tuple[type, ...] = (
    WithVanishingTerm,
    WithoutVanishingTerm,
    Statistics,
    Biased,
    OldMomentum,
    Unwanted,
    FixedGamma,
    Summing,
    OneAfterTheOther,
    FromTheEnd,
    SmallestFirst,
    InBlocks,
    Compensated,
    WithoutRounding,
    InFloat64,
    Accumulated,
    Im2col,
    Einsum,
    Fourier,
    Winograd,
    LastInside,
)

#: The wrong siblings, and an item of each that must fail.
WRONG: dict[type, str] = {
    TermThatDoesNotVanish: "dx",
    WithoutMeanPath: "dx",
    UndeclaredBiased: "running_var",
    DeclaredBiased: "running_var",
    UndeclaredOld: "running_mean",
    EvalLikeTraining: "dx",
    TrainingLikeEval: "dx",
    WantedAfterAll: "db",
    IgnoredGamma: "dgamma",
    WithoutTheRest: "out",
    InFloat32: "out",
    Im2colWithoutOneTap: "dw",
    KernelNotTurned: "dx",
    SpectrumNotConjugated: "dw",
    WinogradWithAnotherSign: "out",
    LastInsideWithoutStride: "dx",
}

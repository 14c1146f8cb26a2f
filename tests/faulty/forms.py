"""Layers that raise, return the wrong form, or accept what has no meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.faulty.right import Checked, Linear, Optional, Stacked

# --- errors


class FloatSize(Linear):
    def linear_forward(self, x, w, b):
        return np.zeros((x.size / x.shape[1], len(b))) + x @ w + b, (x, w)


class AsksNone(Optional):
    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.sum(axis=0).reshape(cache[2].shape)


class WritesDout(Linear):
    def gradients(self, dout, x, w):
        dout *= 2
        dout /= 2
        return super().gradients(dout, x, w)


class UsesUpItsCache(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, [cache]

    def linear_backward(self, dout, cache):
        return super().linear_backward(dout, cache.pop())


class KeepsTheShape(Linear):
    def linear_forward(self, x, w, b):
        self.shape = x.shape
        return super().linear_forward(x, w, b)

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx.reshape(self.shape), dw, db


class InfersASize(Linear):
    def linear_forward(self, x, w, b):
        return super().linear_forward(x.reshape(len(x), -1), w, b)


class DividesByTheRest(Linear):
    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w, b * (1 + 0 // (len(x) - 1)))


class NeedsContiguous(Linear):
    def gradients(self, dout, x, w):
        dout.view(np.float32)
        return super().gradients(dout, x, w)


class ForgetsToTranspose(Linear):
    def gradients(self, dout, x, w):
        return dout @ w, x.T @ dout, dout.sum(axis=0)


class FlatWeight(Linear):
    def gradients(self, dout, x, w):
        return super().gradients(dout, x, w.squeeze())


class TwoAxes(Stacked):
    def linear_forward(self, x, w, b):
        _rows, _inputs = x.shape
        return super().linear_forward(x, w, b)


class PadsAnImage:
    CONFORMANCE: Any = {"conv": {"spatial_dims": (1,)}}

    def conv_forward(self, x, w, b, padding: tuple[tuple[int, int], ...]):
        (low, high), (batch, _, size) = padding[0], x.shape
        out = np.zeros((batch, len(w), 1 + low + high, size + low + high - w.shape[2] + 1))
        return out.reshape(batch, len(w), -1 if low + high == 0 else out.shape[3]), None

    def conv_backward(self, dout, cache):
        raise NotImplementedError


class Refuses(Linear):
    def linear_forward(self, x, w, b):
        if len(x) > 1:
            raise ValueError("one sample at a time")
        return super().linear_forward(x, w, b)


# --- forms


class NoneForDb(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], None


class ClosesTheGap(Optional):
    def linear_backward(self, dout, cache):
        return [gradient for gradient in super().linear_backward(dout, cache) if gradient is not None]


class TooFew(Linear):
    def gradients(self, dout, x, w):
        return super().gradients(dout, x, w)[:2]


class Scalar(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], float(dout.sum())


class Exchanged(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dw, dx, db


class Squeezed(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx.squeeze(), dw, db


class KeptDims(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], dout.sum(axis=0, keepdims=True)


class TransposedDw(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw.T, db


class Unsummed(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], dout.copy()


class WrongAxis(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], dout.sum(axis=1)


class Repeats(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out + np.zeros(3), cache


class Flattened(Stacked):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx.reshape(-1, dx.shape[-1]), dw, db


class ShapeOfX(Linear):
    def gradients(self, dout, x, w):
        dx, _, db = super().gradients(dout, x, w)
        return dx, np.zeros(x.shape), db


# --- cases without meaning


class Broadcasts(Checked):
    def check_dout(self, dout, shape):
        np.broadcast_to(dout, shape)

    def gradients(self, dout, x, w):
        return super().gradients(np.broadcast_to(dout, (len(x), w.shape[1])), x, w)


class CutsDout(Checked):
    def check_dout(self, dout, shape):
        pass

    def gradients(self, dout, x, w):
        return super().gradients(np.resize(dout, (len(x), w.shape[1])), x, w)


class TakesNothing(Checked):
    def check(self, x, w):
        if x.shape[1] != len(w):
            raise ValueError("the shapes have no meaning")


class RepeatsAnInput(Checked):
    def linear_forward(self, x, w, b):
        inputs = max(x.shape[1], len(w))
        return super().linear_forward(np.broadcast_to(x, (len(x), inputs)), w, b)


class AnyEps:
    CONFORMANCE: Any = {"rejects": True}
    least = -np.inf

    def batchnorm_forward(self, x, gamma, beta, eps):
        if eps < self.least:
            raise ValueError("eps is too small")
        deviation = np.sqrt(np.abs(x.var(axis=0) + eps))
        return gamma * (x - x.mean(axis=0)) / deviation + beta, None

    def batchnorm_backward(self, dout, cache):
        raise NotImplementedError


class EpsOfZero(AnyEps):
    least = 0.0


class Conv:
    """A forward that rejects nothing."""

    CONFORMANCE: Any = {"rejects": True, "conv": {"spatial_dims": (1,)}}

    def conv_forward(self, x, w, b, stride, padding: tuple[tuple[int, int], ...], groups):
        (low, high), (step,) = padding[0], stride
        if low < 0 and high < 0:
            x = x[..., -low:high]
        each, taps = len(w) // groups, w.shape[2]
        if x.shape[2] < taps and step == 1:
            raise ValueError("the kernel does not fit")
        x = np.concatenate([x, np.zeros((*x.shape[:2], max(0, taps - x.shape[2])))], axis=2)
        channels = x.shape[1] // groups
        parts = []
        for g in range(groups):
            windows = [x[:, g * channels : (g + 1) * channels, i : i + taps] for i in range(x.shape[2] - taps + 1)]
            own = w[g * each : (g + 1) * each, :channels]
            parts.append(np.stack([np.einsum("nck,ock->no", window, own) for window in windows], axis=2))
        return np.concatenate(parts, axis=1), None

    def conv_backward(self, dout, cache):
        raise NotImplementedError

"""Layers that write to what is not theirs, return it, or misread it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tests.faulty.right import Linear


class OverwritesX(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        x[...] = found[0]
        return found


class OverwritesXWithOut(Linear):
    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x, w, b)
        if x.shape == out.shape:
            x[...] = out
        return out, (x.copy(), w)


class StepsInTheBackward(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        w -= 0.5 * found[1]
        return found


class HalvesDout(Linear):
    def gradients(self, dout, x, w):
        dout /= 2
        return [2 * gradient for gradient in super().gradients(dout, x, w)]


class CentresX(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        x -= x.mean(axis=0)
        return out, cache


class TurnsW(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        w[...] = w[::-1].copy()
        return found


class ClearsDout(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        dout[...] = 0
        return found


class ClearsTheLastRow(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        dout[len(dout) // 2 :] = 0
        return found


class AddsUpInDout(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        dout[0] = dout.sum(axis=0)
        return found


class WritesBehindDout(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        base = dout
        while isinstance(base.base, np.ndarray):
            base = base.base
        end = dout.ctypes.data - base.ctypes.data + dout.nbytes
        if end < base.nbytes:
            base.view(np.uint8).reshape(-1)[end] = 0
        return found


class Normalized:
    """Multiplies dout by gamma where it lies."""

    def batchnorm_forward(self, x, gamma, beta):
        return x, gamma

    def batchnorm_backward(self, dout, cache):
        dout *= cache
        return dout.copy(), dout.sum(axis=0), dout.sum(axis=0)


class ViewOfDout(Linear):
    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], dout[0]


class ViewOfAGradient(Linear):
    def gradients(self, dout, x, w):
        dx, dw, _ = super().gradients(dout, x, w)
        return dx, dw, dw[0]


class Workspace(Linear):
    def __init__(self):
        self.held: dict[Any, Any] = {}

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        held = self.held.setdefault(dx.shape, np.zeros(dx.shape))
        held[...] = dx
        return held, dw, db


class BufferOfTheCache(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, (*cache, np.zeros(x.shape))

    def linear_backward(self, dout, cache):
        x, w, held = cache
        dx, dw, db = self.gradients(dout, x, w)
        held[...] = dx
        return held, dw, db


# --- memory layouts


def memory_of(a):
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


class IgnoresStrides(Linear):
    def gradients(self, dout, x, w):
        return super().gradients(np.resize(memory_of(dout).ravel(order="K"), dout.shape), x, w)


class ReadsForwards(Linear):
    def gradients(self, dout, x, w):
        axes = tuple(axis for axis, stride in enumerate(dout.strides) if stride < 0)
        return super().gradients(np.flip(dout, axes) if axes == (1,) else dout, x, w)


class IgnoresTheOffset(Linear):
    def gradients(self, dout, x, w):
        base = memory_of(dout)
        if base is not dout and base.size > dout.size and min(dout.strides) > 0:
            dout = as_strided(base, dout.shape, dout.strides)
        return super().gradients(dout, x, w)


class CountsOnce(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw, dout[0] * 1.0 if dout.strides[0] == 0 else db


class TakesAConstant(Linear):
    def gradients(self, dout, x, w):
        return super().gradients(np.full(dout.shape, dout[0, 0]) if 0 in dout.strides else dout, x, w)


class ReturnsEarly(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return np.full(dx.shape, 8.0) if 0 in dout.strides else dx, dw, db


class WritesXInPlace(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        x[...] = found[0]
        return x.copy(), *found[1:]


class TrustsOnes(Linear):
    def gradients(self, dout, x, w):
        places = np.arange(len(dout)) * (dout.strides[0] // dout.itemsize)
        return super().gradients(dout.ravel()[places % dout.size][:, None] if dout.shape[0] == 1 else dout, x, w)


class DemandsFreshStrides(Linear):
    def gradients(self, dout, x, w):
        if dout.flags.c_contiguous and dout.strides != np.zeros(dout.shape).strides:
            raise ValueError("other strides")
        return super().gradients(dout, x, w)

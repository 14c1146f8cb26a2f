"""Layers that keep something from one call to the next, or are no linear function of dout, or lose accuracy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tests.faulty.right import Linear

# --- numbers


class Means(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw, db + 0 * dout.mean(axis=0)


class DividesByItsSize(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        size = np.abs(x).max(axis=1, keepdims=True, initial=0)
        return out / size * size, cache


class TakesARoot(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out + 0 * np.sqrt(np.abs(x[:, :1]) - 8 * (x[:, :1] == 7)), cache


class Overflows(Linear):
    CONFORMANCE: Any = {"dtypes": ("float16",)}

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x.astype(np.float32), w.astype(np.float32), b.astype(np.float32))
        scaled = out.astype(np.float16) * np.float16(2.0**14)
        return (scaled * np.float16(2.0**-14)).astype(np.float16), cache


class LeavesNan(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        dx[0, 0] = np.nan
        return dx, dw, db


class LeavesMemory(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        made = np.empty(dx.shape)
        made[1:] = dx[1:]
        return made, dw, db


class RoundsAtTheEnd(Linear):
    format = "float16"

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx.astype(self.format).astype(np.float64), dw, db


class RoundsToFloat32(RoundsAtTheEnd):
    format = "float32"


class RoundsToBfloat16(RoundsAtTheEnd):
    format = "bfloat16"


class SumsInFloat32(Linear):
    def gradients(self, dout, x, w):
        dx, _, db = super().gradients(dout, x, w)
        product = x.astype(np.float32).T @ dout.astype(np.float32)
        return dx, product.astype(np.float64), db


class Sticks(Linear):
    CONFORMANCE: Any = {"dtypes": ("bfloat16",)}

    def linear_forward(self, x, w, b):
        x, w, b = (a.astype(np.float32) for a in (x, w, b))
        return (x @ w + b).astype("bfloat16"), (x, w)

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout.astype(np.float32), cache)
        return dx.astype(dout.dtype), dw.astype(dout.dtype), np.add.accumulate(dout, axis=0)[-1]


# --- calls


class KeepsASum(Linear):
    """Of the backwards on one cache; `add` says how."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, [cache, None]

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache[0])
        cache[1] = self.add(cache[1], dw)
        return dx, cache[1].copy(), db

    def add(self, held, dw):
        return dw if held is None else held + dw


class KeepsASumTurned(KeepsASum):
    def add(self, held, dw):
        return dw if held is None else held[::-1, ::-1] + dw


class GivesZeros(KeepsASum):
    def add(self, held, dw):
        return dw if held is None or not held.any() else 0 * dw


class KeepsTheFirst(KeepsASum):
    def add(self, held, dw):
        return dw if held is None else held


class ChangesW(Linear):
    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        w += 1
        return found


class ChangesItsCache(Linear):
    def linear_forward(self, x, w, b):
        out, (x, w) = super().linear_forward(x, w, b)
        return out, (x, w + 0.0)

    def gradients(self, dout, x, w):
        found = super().gradients(dout, x, w)
        w += 1
        return found


class LastX(Linear):
    def linear_forward(self, x, w, b):
        self.x = x
        return super().linear_forward(x, w, b)

    def gradients(self, dout, x, w):
        return super().gradients(dout, self.x, w)


class LastBatch(Linear):
    def linear_forward(self, x, w, b):
        self.rows = len(x)
        return super().linear_forward(x, w, b)

    def gradients(self, dout, x, w):
        return *super().gradients(dout, x, w)[:2], dout[: self.rows].sum(axis=0)


class LastBackward(Linear):
    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        self.backwards: set[int] = set()
        return out, (cache, x.size)

    def linear_backward(self, dout, cache):
        (x, w), key = cache
        dx, dw, db = self.gradients(dout, x, w)
        others = len(self.backwards - {id(x)})
        self.backwards.add(id(x))
        return dx, dw, db + others + 0 * key


class NeverZeroes(Linear):
    def __init__(self):
        self.held: dict[Any, Any] = {}

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        self.held[dw.shape] = self.held.get(dw.shape, 0) + dw
        return dx, self.held[dw.shape].copy(), db


class ByTurns(Linear):
    turn = 0

    def gradients(self, dout, x, w):
        self.turn = 1 - self.turn
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw * (1 + self.turn), db


class HalfABuffer(Linear):
    def __init__(self):
        self.last: dict[Any, Any] = {}

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        old, self.last[db.shape] = self.last.get(db.shape, 0 * db), db
        half = (len(db) + 1) // 2
        return dx, dw, np.concatenate([db[:half], old[half:]])


class OneCallLate(Linear):
    def __init__(self):
        self.last: dict[Any, Any] = {}

    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        old, self.last[db.shape] = self.last.get(db.shape, 0 * db), db
        return dx, dw, old


class FirstWeight(Linear):
    def __init__(self):
        self.held: dict[Any, Any] = {}

    def gradients(self, dout, x, w):
        _, dw, db = super().gradients(dout, x, w)
        return dout @ self.held.setdefault(w.shape, w.copy()).T, dw, db


class Counts(Linear):
    count = 0

    def gradients(self, dout, x, w):
        self.count += 1
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw + self.count**2, db


class Decays(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw + 0.03 * w, db


class AddsANumber(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw, db + 0.5


class AddsX(Linear):
    def gradients(self, dout, x, w):
        dx, dw, db = super().gradients(dout, x, w)
        return dx, dw, db + x.sum()


class Changed(Linear):
    """Works with another dout: what `change` makes of it."""

    def linear_backward(self, dout, cache):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().linear_backward(self.change(dout), cache)


class Clips(Changed):
    def change(self, dout):
        return dout.clip(-700, 700)


class ClipsBelow(Changed):
    def change(self, dout):
        return np.maximum(dout, -700)


class ClipsAbove(Changed):
    def change(self, dout):
        return np.minimum(dout, 700)


class Normalizes(Changed):
    def change(self, dout):
        return dout / max(np.abs(dout).max(initial=0), 1e-300)


class LosesTheSign(Changed):
    def change(self, dout):
        return np.abs(dout)


class LosesNegatives(Changed):
    def change(self, dout):
        return np.maximum(dout, 0)


class Squares(Changed):
    def change(self, dout):
        return dout * dout


class CutsToIntegers(Changed):
    def change(self, dout):
        return np.trunc(dout)


class DividesByDout(Linear):
    def linear_backward(self, dout, cache):
        largest = 2.0 ** np.floor(np.log2(np.abs(dout).max(initial=0) + 1e-300))
        largest = largest * (np.abs(dout).max(initial=0) > 0)
        return [largest * gradient for gradient in super().linear_backward(dout / largest, cache)]


class UpdatesInTheBackward:
    def batchnorm_forward(self, x, gamma, beta, training, running_mean, running_var):
        return x, (x, running_mean)

    def batchnorm_backward(self, dout, cache):
        cache[1][...] += 1
        return dout.copy(), dout.sum(axis=0), dout.sum(axis=0)

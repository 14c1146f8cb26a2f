"""Right linear layers, for the faulty ones to change in one place."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np


class Linear:
    """Right: out = x w + b over all leading axes; each gradient is a method that a fault may change."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        return (self.rows(x) @ w + b).reshape(*x.shape[:-1], len(b)), (x, w)

    def linear_backward(self, dout, cache):
        return self.dx(dout, *cache), self.dw(dout, *cache), self.db(dout)

    def dx(self, dout, x, w):
        return (self.rows(dout) @ w.T).reshape(x.shape)

    def dw(self, dout, x, w):
        return self.rows(x).T @ self.rows(dout)

    def db(self, dout):
        return self.rows(dout).sum(axis=0)

    def rows(self, a):
        return a.reshape(-1, a.shape[-1])


class Stacked(Linear):
    """Right, asked for two leading axes too."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (2, 3)}}


class Single(Linear):
    """Right, asked in float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float32",), "linear": {"ranks": (2,)}}


class Rounded(Linear):
    """Right, computed in float32 and rounded."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("bfloat16", "float32"), "linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(x.dtype), cache

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout.astype(np.float32), cache)
        return [a.astype(dout.dtype) for a in gradients]


class Transposed(Linear):
    """Right, with w as (outputs, inputs): out = x w^T + b."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (2,), "weight": "oi"}}

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x, w.T, b)
        return out, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx, dw, db = super().linear_backward(dout, (x, w.T))
        return dx, dw.T, db


class Unbiased(Linear):
    """Right, with or without b."""

    def linear_forward(self, x, w, b=None):
        out, cache = super().linear_forward(x, w, np.zeros(w.shape[1]) if b is None else b)
        return out, (cache, b)

    def linear_backward(self, dout, cache):
        cache, b = cache
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw, None if b is None else db


class Checked(Linear):
    """Right, and rejects what has no meaning."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"rejects": True, "linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        if x.ndim != 2 or min(x.shape[1], *w.shape) < 1 or x.shape[1] != len(w) or b.shape != w.shape[1:]:
            raise ValueError("the shapes do not fit")
        out, cache = super().linear_forward(x, w, b)
        return out, (*cache, out.shape)

    def linear_backward(self, dout, cache):
        *cache, shape = cache
        if dout.shape != shape:
            raise ValueError("dout has another shape than out")
        return super().linear_backward(dout, cache)

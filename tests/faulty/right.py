"""Right linear layers, for the wrong ones to change in one place."""

from __future__ import annotations

from typing import Any


class Linear:
    """Right; `gradients` is what a fault changes."""

    def linear_forward(self, x, w, b):
        return x @ w + b, (x, w)

    def linear_backward(self, dout, cache):
        return self.gradients(dout, *cache)

    def gradients(self, dout, x, w):
        return dout @ w.T, x.T @ dout, dout.sum(axis=0)


class Optional(Linear):
    """Right, with or without b."""

    def linear_forward(self, x, w, b=None):
        return x @ w + (0 if b is None else b), (x, w, b)

    def linear_backward(self, dout, cache):
        x, w, b = cache
        dx, dw, db = self.gradients(dout, x, w)
        return dx, dw, None if b is None else db


class Stacked(Linear):
    """Right, with two leading axes too."""

    CONFORMANCE: Any = {"linear": {"ranks": (2, 3)}}

    def gradients(self, dout, x, w):
        rows, upstream = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])
        return dout @ w.T, rows.T @ upstream, upstream.sum(axis=0)


class Checked(Linear):
    """Right, and rejects what has no meaning."""

    CONFORMANCE: Any = {"rejects": True}

    def linear_forward(self, x, w, b):
        self.check(x, w)
        return x @ w + b, (x, w)

    def linear_backward(self, dout, cache):
        self.check_dout(dout, (len(cache[0]), cache[1].shape[1]))
        return self.gradients(dout, *cache)

    def check(self, x, w):
        if 0 in (*x.shape[1:], *w.shape) or x.shape[1] != len(w):
            raise ValueError("the shapes have no meaning")

    def check_dout(self, dout, shape):
        if dout.shape != shape:
            raise ValueError("dout has another shape than out")

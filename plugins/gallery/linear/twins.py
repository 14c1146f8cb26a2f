"""Right linear layers, for the faulty ones to change in one place."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np


class Linear:
    """Right: out = x w + b over all leading axes."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        return (self.rows(x) @ w + b).reshape(*x.shape[:-1], len(b)), (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        rows, upstream = self.rows(x), self.rows(dout)
        return (upstream @ w.T).reshape(x.shape), rows.T @ upstream, upstream.sum(axis=0)

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

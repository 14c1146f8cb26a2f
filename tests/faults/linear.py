"""Linear layers with one fault each."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from . import fault


class Linear:
    """Right: out = x w + b over all leading axes."""

    CONFORMANCE: ClassVar = {"linear": {"ranks": (2,)}}

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

    CONFORMANCE: ClassVar = {"linear": {"ranks": (2, 3)}}


class Single(Linear):
    """Right, asked in float32."""

    CONFORMANCE: ClassVar = {"dtypes": ("float32",), "linear": {"ranks": (2,)}}


@fault("db edges", "value nonfinite", "M03")
class averages_the_bias_gradient(Linear):
    """db is the mean over the batch instead of the sum."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.mean(axis=0)


@fault("db edges", "value crash", "H185")
class takes_the_bias_gradient_of_one_sample(Linear):
    """db is the first row of dout instead of the sum of all."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout[0]


@fault("db", "shape", "H183")
class sums_the_first_axis_only(Stacked):
    """db sums the first of two leading axes, so that the second is left over."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.sum(axis=0)


@fault("db", "result", "M05")
class sums_the_bias_gradient_to_a_scalar(Linear):
    """db is one number for all outputs."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, float(dout.sum())


@fault("db", "result", "H65")
class returns_no_bias_gradient(Linear):
    """db is None where b was an array."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, None


@fault("dx dw db", "result", "H153")
class returns_one_gradient_too_few(Linear):
    """The backward returns dx and dw alone."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(dout, cache)[:2]


@fault("dw", "value", "M08")
class keeps_the_weight_gradient_of_the_last_sample(Linear):
    """dw is assigned for every sample instead of accumulated."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        for row, upstream in zip(cache[0], dout, strict=True):
            dw = np.outer(row, upstream)
        return dx, dw, db


@fault("dw", "value shape", "M02")
class exchanges_the_factors_of_the_weight_gradient(Linear):
    """dw is dout.T x, the transpose of what it should be."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw.T, db


@fault("dx dw db", "value crash", "M01")
class forgets_to_transpose_the_weight(Linear):
    """dx is dout w, which only a square w allows at all."""

    def linear_backward(self, dout, cache):
        _, dw, db = super().linear_backward(dout, cache)
        return dout @ cache[1], dw, db


@fault("dw", "value", "M14")
class adds_the_regularization(Linear):
    """dw holds the gradient of a penalty on w, which is no part of the layer."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw + 1e-3 * cache[1], db


@fault("out dw", "value", "M09")
class flattens_in_the_wrong_order(Stacked):
    """The rows of x are read as columns when the leading axes are flattened."""

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x.reshape(x.shape[-1], -1).T.reshape(x.shape), w, b)
        return out, (x.reshape(x.shape[-1], -1).T.reshape(x.shape), w)


@fault("dx", "shape", "M10")
class leaves_dx_flattened(Stacked):
    """dx keeps the one leading axis that the matrix product needed."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return self.rows(dx), dw, db


@fault("edges", "crash", "M15")
class cannot_flatten_an_empty_batch(Linear):
    """The size of a row is inferred, which has no answer where there are no rows."""

    def rows(self, a):
        return a.reshape(len(a), -1)


@fault("dw", "dtype", "M11")
class accumulates_in_a_default_array(Single):
    """dw is gathered in np.zeros, which is float64 whatever x is."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        gathered = np.zeros(dw.shape)
        gathered += dw
        return dx, gathered, db


@fault("purity repeatability", "mutation state", "M12")
class writes_dx_into_x(Linear):
    """x is taken for a buffer that nobody needs any more."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        cache[0][...] = dx
        return dx, dw, db


@fault("repeatability", "state", "H191")
class accumulates_over_calls(Linear):
    """dw is added to that of the last backward on the same cache."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, (cache, np.zeros_like(w))

    def linear_backward(self, dout, cache):
        cache, total = cache
        dx, dw, db = super().linear_backward(dout, cache)
        total += dw
        return dx, total.copy(), db


@fault("repeatability", "state", "M50")
class remembers_the_last_forward_only(Linear):
    """x is kept on the layer, where the next forward replaces it, instead of in the cache."""

    def linear_forward(self, x, w, b):
        self.x = x
        return super().linear_forward(x, w, b)

    def linear_backward(self, dout, cache):
        return super().linear_backward(dout, (self.x, cache[1]))

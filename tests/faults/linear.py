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


@fault("db edges identities relations", "value nonfinite", "M03")
class averages_the_bias_gradient(Linear):
    """db is the mean over the batch instead of the sum."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.mean(axis=0)


@fault("db edges aliasing identities relations", "value crash alias", "H185")
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


@fault("dw identities relations", "value", "M08")
class keeps_the_weight_gradient_of_the_last_sample(Linear):
    """dw is assigned for every sample instead of accumulated."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        for row, upstream in zip(cache[0], dout, strict=True):
            dw = np.outer(row, upstream)
        return dx, dw, db


@fault("dw", "value shape", "M02", sometimes="identities")
class exchanges_the_factors_of_the_weight_gradient(Linear):
    """dw is dout.T x, the transpose of what it should be."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw.T, db


@fault("dx dw db", "value crash", "M01", sometimes="identities")
class forgets_to_transpose_the_weight(Linear):
    """dx is dout w, which only a square w allows at all."""

    def linear_backward(self, dout, cache):
        _, dw, db = super().linear_backward(dout, cache)
        return dout @ cache[1], dw, db


@fault("dw identities linearity relations", "value", "M14")
class adds_the_regularization(Linear):
    """dw holds the gradient of a penalty on w, which is no part of the layer."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw + 1e-3 * cache[1], db


@fault("out dw identities relations", "value", "M09")
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


@fault("purity repeatability memory_layout", "mutation state crash", "M12")
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


@fault("linearity dx dw db identities", "value", "own")
class clips_the_gradient(Linear):
    """dout is clipped to 0.5, as an optimizer might do it."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(dout.clip(-0.5, 0.5), cache)


@fault("linearity", "nonfinite", "own")
class divides_by_the_size_of_dout(Linear):
    """dout is brought to length 1 and the gradients back to its own, which a dout of zeros does not have."""

    def linear_backward(self, dout, cache):
        largest = 2.0 ** np.floor(np.log2(np.abs(dout).max(initial=0.0)))
        return [largest * gradient for gradient in super().linear_backward(dout / largest, cache)]


class Untouched(Linear):
    """Right; reads arrays through the buffer that they lie in."""

    def buffer(self, a):
        base = a
        while isinstance(base.base, np.ndarray):
            base = base.base
        return np.resize(base.ravel(), a.size).reshape(a.shape)


@fault("memory_layout", "value", "H168")
class ignores_the_strides_of_dout(Untouched):
    """The backward takes dout's buffer for dout, as a kernel does that never asked for a contiguous one."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(self.buffer(dout), cache)


@fault("memory_layout", "value", "H75")
class ignores_the_strides_of_w(Untouched):
    """The backward takes w's buffer for w."""

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x, w, b)
        return out, (x, self.buffer(w))


@fault("memory_layout", "crash", "H140")
class scales_dout_in_place_and_back(Linear):
    """dout is doubled for a moment, in place: an expanded one cannot be written, or is doubled more than once."""

    def linear_backward(self, dout, cache):
        dout *= 2
        found = [gradient / 2 for gradient in super().linear_backward(dout, cache)]
        dout /= 2
        return found


@fault("aliasing", "alias", "own")
class drops_an_axis_of_one(Linear):
    """Where there is one sample, db is that row of dout, not a copy of it."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw, dout[0] if len(dout) == 1 else db


@fault("aliasing", "alias", "own")
class keeps_one_buffer_for_dx(Linear):
    """dx is a view of a workspace that every call uses."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        if not hasattr(self, "workspace") or self.workspace.size < dx.size:
            self.workspace = np.empty(dx.size)
        held = self.workspace[: dx.size].reshape(dx.shape)
        held[...] = dx
        return held, dw, db


@fault("aliasing", "alias", "own")
class returns_two_views_of_one_buffer(Linear):
    """For one sample and one output dx and dw are cut from one buffer, which is long enough for one of them."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        if dx.size == dw.size == 1 and dx.item() == dw.item():
            return dx, dx.reshape(dw.shape), db
        return dx, dw, db


class Checked(Linear):
    """Right, and rejects what has no meaning."""

    CONFORMANCE: ClassVar = {"rejects": True, "linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        if x.ndim != 2 or min(*w.shape, x.shape[1]) < 1 or x.shape[1] != len(w) or b.shape != w.shape[1:]:
            raise ValueError("the shapes do not fit")
        out, cache = super().linear_forward(x, w, b)
        return out, (*cache, out.shape)

    def linear_backward(self, dout, cache):
        *cache, shape = cache
        if not self.fits(dout.shape, shape):
            raise ValueError("dout has another shape than out")
        return super().linear_backward(dout, cache)

    def fits(self, found, wanted):
        return found == wanted


@fault("rejection", "accepted", "own")
class takes_a_dout_that_broadcasts(Checked):
    """A dout of one row or column is taken for any number of them."""

    def linear_backward(self, dout, cache):
        *_, shape = cache
        return super().linear_backward(np.broadcast_to(dout, shape), cache)


@fault("rejection", "accepted", "own")
class takes_no_inputs(Checked):
    """x and w may have no columns: the sum over nothing is b."""

    def linear_forward(self, x, w, b):
        if x.shape[1] == len(w) == 0:
            return np.zeros((len(x), len(b))) + b, (x, w, (len(x), len(b)))
        return super().linear_forward(x, w, b)


@fault("aliasing", "alias", "own")
class writes_into_buffers_of_the_cache(Linear):
    """The gradients lie in buffers that the cache holds, where its next backward writes as well."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, (cache, [np.empty_like(a) for a in (x, w, b)])

    def linear_backward(self, dout, cache):
        cache, buffers = cache
        for buffer, gradient in zip(buffers, super().linear_backward(dout, cache), strict=True):
            buffer[...] = gradient
        return tuple(buffers)


@fault("repeatability", "state", "own")
class remembers_the_last_batch(Linear):
    """The number of samples is kept on the layer, where a forward of another batch replaces it."""

    def linear_forward(self, x, w, b):
        self.batch = len(x)
        return super().linear_forward(x, w, b)

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout[: self.batch].sum(axis=0)


@fault("memory_layout", "value", "own")
class takes_equal_columns_for_one(Linear):
    """Where dout repeats along its last axis, db is that of the first output alone."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        if dout.shape[1] > 1 and dout.strides[1] == 0 and dout.strides[0] != 0:
            db[1:] = 0
        return dx, dw, db


@fault("linearity", "value", "own")
class clips_what_is_far_below_zero(Linear):
    """dout is clipped from below at -500."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(np.maximum(dout, -500), cache)

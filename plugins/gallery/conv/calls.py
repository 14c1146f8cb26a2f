"""Faults in how convolutions are called: state, caches, buffers, what is refused."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    asked_as,
    dilated,
    empty_batch,
    left_over,
    second_backward,
    several_samples,
    several_taps,
    strided,
)
from backproof.plugins.gallery.conv.bases import Dilated, Plain, Strided
from backproof.plugins.gallery.every_layer import (
    AddsToTheLastBackward,
    ClearsTheDxThatItReturned,
    EmptiesItsCache,
    ReturnsAWorkspace,
)
from backproof.plugins.gallery.fault import fault

two_forwards = asked_as("a second forward before the first one's backward")

# What is kept from one call to the next.


@fault("repeatability", second_backward, source="H63 pytorch#1288")
class empties_its_cache(EmptiesItsCache, Plain):
    """The backward takes what it needs out of the cache, so that a second one finds nothing."""


@fault("repeatability", two_forwards, source="M50 by hand")
class keeps_its_columns_on_the_object(Plain):
    """dw is made of the columns that the last forward left on the object, whichever forward is pulled back."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        self.kept = self.columns(x, cache[2])
        return out, cache

    def dw(self, upstream, padded, g):
        return (upstream @ self.kept.swapaxes(-1, -2)).sum(axis=0)


@fault("repeatability", two_forwards, source="own: im2col into a buffer that is allocated once")
class overwrites_the_columns_of_the_first_forward(Plain):
    """Every cache holds the same buffer of columns, which the next forward of this shape fills anew."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        columns = self.columns(x, cache[2])
        self.buffers = getattr(self, "buffers", {})
        buffer = self.buffers.setdefault((columns.shape, columns.dtype), columns)
        buffer[...] = columns
        return out, (cache, buffer)

    def conv_backward(self, dout, cache):
        (x, w, g), columns = cache
        dx, _, db = super().conv_backward(dout, (x, w, g))
        upstream = dout.reshape(len(dout), 1, len(w), prod(g.out))
        return dx, (upstream @ columns.swapaxes(-1, -2)).sum(axis=0).reshape(w.shape), db


@fault("repeatability", two_forwards, source="own: an object that is its own cache, and made once")
class keeps_its_inputs_on_the_object(Plain):
    """The object is its own cache, under names that the next forward takes for its own arrays."""

    def conv_forward(self, x, w, b):
        out, self.cache = super().conv_forward(x, w, b)
        return out, self

    def conv_backward(self, dout, cache):
        return super().conv_backward(dout, cache.cache)


@fault(
    "repeatability",
    strided & asked_as("a forward with another stride before the backward"),
    source="own: options kept on the object",
)
class keeps_the_stride_on_the_object(Strided):
    """dx walks by the stride of the last forward, whichever forward is pulled back."""

    def conv_forward(self, x, w, b, stride: int):
        self.stride = (stride, stride)
        return super().conv_forward(x, w, b, stride)

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=self.stride)


@fault(
    "repeatability",
    asked_as("two backwards after two forwards"),
    source="own: a buffer of dout that the forward alone clears",
)
class sums_db_of_a_stale_dout(Plain):
    """db sums a buffer of dout that the forward clears: a second backward before the next forward finds it filled."""

    def conv_forward(self, x, w, b):
        self.upstream = None
        return super().conv_forward(x, w, b)

    def db(self, dout):
        if self.upstream is None or self.upstream.shape != dout.shape:
            self.upstream = dout.copy()
        return super().db(self.upstream)


@fault(
    "repeatability",
    asked_as("two backwards without a forward of their own"),
    source="own: gradients that the forward alone clears",
)
class clears_dw_in_the_forward_alone(Plain):
    """dw is added to what the last backward left; only a forward begins at zero."""

    def conv_forward(self, x, w, b):
        self.sum = 0.0
        return super().conv_forward(x, w, b)

    def dw(self, upstream, padded, g):
        dw = super().dw(upstream, padded, g)
        self.sum = dw + (self.sum if np.shape(self.sum) == dw.shape else 0.0)
        return self.sum.copy()


@fault("repeatability", second_backward, source="H55 NNlib.jl#518")
class adds_the_old_dw_turned_around(AddsToTheLastBackward, Plain, gradient=1, turned=(2, 3)):
    """A second backward on one cache adds the dw of the first, with its taps in the opposite order."""


@fault("aliasing", second_backward, source="H57 AlexeyAB/darknet#7320")
class clears_the_dx_that_it_returned(ClearsTheDxThatItReturned, Plain):
    """col2im clears and fills a buffer of the cache, which the backward before it has returned as its dx."""


@fault("aliasing", asked_as("another call of the same shapes"), source="own: a workspace for dw")
class returns_a_view_of_its_workspace(ReturnsAWorkspace, Plain, gradient=1):
    """dw lies in a workspace of the object, which the next backward for a w of this shape writes to."""


@fault("dw repeatability", several_samples, source="H61 pytorch#34344, a race whose loser is fixed")
class loses_a_sample_in_every_second_backward(Plain):
    """Two threads add to dw without a lock, and one time in two the share of the last sample is lost."""

    def dw(self, upstream, padded, g):
        self.turn = not getattr(self, "turn", True)
        kept = max(1, len(upstream) - self.turn)
        return super().dw(upstream[:kept], padded[:kept], g)


@fault(
    "repeatability",
    asked_as("a later backward on one cache, of another dout"),
    source="own: a gradient that is computed once",
)
class keeps_its_gradients_in_the_cache(Plain):
    """The gradients of the first backward are kept in the cache, and given again for every later dout."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        return out, [cache]

    def conv_backward(self, dout, cache):
        if len(cache) == 1:
            cache.append(super().conv_backward(dout, cache[0]))
        return [gradient.copy() for gradient in cache[1]]


# What is written to.


@fault("purity", several_samples, source="own: np.ascontiguousarray taken for a copy")
class adds_the_samples_up_in_dout(Plain):
    """db adds all samples to the first one in what it takes for a copy of dout."""

    def conv_backward(self, dout, cache):
        dx, dw, _ = super().conv_backward(dout, cache)
        sums = np.require(dout, requirements=["C", "W"])
        for sample in sums[1:]:
            sums[0] += sample
        return dx, dw, sums[:1].sum(axis=(0, 2, 3))


@fault("purity", left_over, source="own: np.ascontiguousarray taken for a copy")
class clears_the_remainder_in_x(Strided):
    """The forward clears the pixels behind the last window, in what it takes for a copy of x."""

    def conv_forward(self, x, w, b, stride: int):
        out, (_, w, g) = super().conv_forward(x, w, b, stride)
        x = np.require(x, requirements=["C", "W"])
        x[..., g.reach[0] :, :] = x[..., g.reach[1] :] = 0
        return out, (x, w, g)


@fault("purity repeatability", several_taps, source="own: a kernel turned around in place")
class turns_w_around_in_place(Plain):
    """dx turns w around where it lies, for a correlation with dout, and leaves it so."""

    def conv_backward(self, dout, cache):
        results = super().conv_backward(dout, cache)
        w = cache[1]
        if w.flags.c_contiguous and w.flags.writeable:
            w[...] = np.flip(w, (2, 3)).copy()
        return results


# What is refused.


@fault("edges", empty_batch, source="H65 pytorch PR#26214, the error")
class refuses_an_empty_batch(Plain):
    """The forward takes a batch without samples for a mistake."""

    def conv_forward(self, x, w, b):
        if len(x) == 0:
            raise ValueError("x has no samples")
        return super().conv_forward(x, w, b)


@fault("dx dw db", dilated, source="H97 chainer#3874")
class refuses_dilation_in_the_backward(Dilated):
    """The backward has no deterministic way for a dilation and raises an error."""

    def conv_backward(self, dout, cache):
        g = cache[2]
        if any(d > 1 and k > 1 for d, k in zip(g.dilation, g.kernel, strict=True)):
            raise ValueError("no deterministic algorithm for this dilation")
        return super().conv_backward(dout, cache)

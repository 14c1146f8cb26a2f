"""Faults in how linear layers are called: state, caches, buffers, what comes back and what is rejected."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.conditions import (
    ALWAYS,
    asked_as,
    empty_batch,
    missing,
    second_backward,
    several_rows,
    shape,
    size,
    when,
)
from backproof.plugins.gallery.every_layer import (
    AddsToTheLastBackward,
    ClearsTheDxThatItReturned,
    EmptiesItsCache,
    KeptInOneBuffer,
    KeptOnTheObject,
    ReturnsAWorkspace,
)
from backproof.plugins.gallery.fault import fault
from backproof.plugins.gallery.linear.bases import Checked, Linear, Unbiased

one_row = size("x", 0, "a batch of 1", lambda n: n == 1)
one_output = size("w", 1, "one output", lambda n: n == 1)


@fault("db", ALWAYS, source="own: a frozen bias")
class returns_no_bias_gradient(Linear):
    """db is None where b was an array."""

    def db(self, dout):
        return None


@fault("edges", empty_batch, source="H65 pytorch PR#26214")
class returns_no_weight_gradient_without_samples(Linear):
    """dw and db are None where the batch is empty."""

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout, cache)
        return gradients if len(dout) else (gradients[0], None, None)


@fault("edges", empty_batch, source="M15 by hand")
class cannot_flatten_an_empty_batch(Linear):
    """The size of a row is inferred, which has no answer where there are no rows."""

    def rows(self, a):
        return a.reshape(len(a), -1)


@fault("edges", empty_batch, source="own")
class leaves_dw_unwritten_without_samples(Linear):
    """The first sample writes dw and the others add to it; without any, it stays as it was allocated."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        return dw if len(dout) else np.full_like(dw, np.nan)


@fault("dx", one_row, source="own")
class squeezes_a_batch_of_one(Linear):
    """dx has lost the batch's axis where there is one sample."""

    def dx(self, dout, x, w):
        dx = super().dx(dout, x, w)
        return dx.squeeze(axis=0) if len(dx) == 1 else dx


@fault("out", one_output, source="own")
class squeezes_a_single_output(Linear):
    """out has lost its last axis where there is one output."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out.squeeze(axis=1) if out.shape[1] == 1 else out, cache


@fault("dx dw db", one_output, source="H181 pytorch#187988")
class cannot_go_back_through_a_flat_weight(Linear):
    """A w of one column is stored flat, which the forward can multiply with and the backward cannot."""

    def linear_backward(self, dout, cache):
        x, w = cache
        return super().linear_backward(dout, (x, w.squeeze()))


@fault("dx dw", missing("b"), source="H153 Paddle PR#21237")
class leaves_out_the_place_of_an_absent_bias(Unbiased):
    """Without b there are two gradients where three are expected."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return (dx, dw) if db is None else (dx, dw, db)


@fault("dx dw", missing("b"), source="own")
class asks_an_absent_bias_for_its_shape(Unbiased):
    """db is given b's shape, which it does not have where it is None."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw, np.reshape(db, cache[1].shape)


looked_at = asked_as("arrays that are looked at after the call")


@fault("purity repeatability memory_layout", looked_at, source="M12 by hand, in the layer itself")
class writes_dx_into_x(Linear):
    """x is taken for a buffer that nobody needs any more."""

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout, cache)
        cache[0][...] = gradients[0]
        return gradients


@fault("purity repeatability memory_layout", looked_at, source="own: updates fused into the backward")
class takes_a_step_in_the_backward(Linear):
    """w is changed in place by a step of gradient descent."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        w -= 0.5 * dw
        return dw


@fault("purity memory_layout", looked_at, source="M13 by hand")
class halves_dout_in_place(Linear):
    """dout is divided by 2 where it lies, and the gradients multiplied."""

    def linear_backward(self, dout, cache):
        dout /= 2
        return [2 * gradient for gradient in super().linear_backward(dout, cache)]


@fault("purity", looked_at, source="own")
class clears_what_lies_behind_dout(Linear):
    """The last tile of dout is filled up with zeros where it lies, in memory that is not its own."""

    def linear_backward(self, dout, cache):
        base = dout
        while isinstance(base.base, np.ndarray):
            base = base.base
        end = dout.ctypes.data - base.ctypes.data + dout.nbytes
        if dout.flags.c_contiguous and base.flags.writeable and end < base.nbytes:
            base.view(np.uint8).reshape(-1)[end : end + dout.itemsize] = 0
        return super().linear_backward(dout, cache)


in_between = asked_as("another forward before the backward")
afterwards = asked_as("gradients that are looked at after the next call")


@fault("repeatability", second_backward, source="own")
class accumulates_over_backwards(AddsToTheLastBackward, Linear, gradient=1):
    """dw is added to that of the last backward on the same cache."""


@fault("repeatability", second_backward, source="own: H55 NNlib.jl#518 in a linear layer")
class adds_the_last_weight_gradient_reversed(AddsToTheLastBackward, Linear, gradient=1, turned=0):
    """A second backward on a cache adds the first one's dw, but with its rows in reverse order."""


@fault("repeatability", second_backward, source="H191 torch/nn#792")
class takes_every_second_gradient_away(Linear):
    """dw and db are added and subtracted by turns: the second backward on a cache gives zeros."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out, [cache, 0]

    def linear_backward(self, dout, cache):
        cache[1] = 1 - cache[1]
        dx, dw, db = super().linear_backward(dout, cache[0])
        return dx, cache[1] * dw, cache[1] * db


@fault("repeatability", second_backward, source="own: H63 pytorch#1288 in a linear layer")
class frees_what_the_cache_held(EmptiesItsCache, Linear):
    """The backward takes x and w out of the cache: a second one finds none."""


several_of_both = when("several inputs and outputs")(lambda case: min(shape(case, "w")) > 1)


@fault("repeatability", several_of_both, source="own")
class transposes_the_cached_weight(Linear):
    """The backward transposes the copy of w in the cache in place, and a second one does it again."""

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x, w, b)
        return out, (x, w.copy())

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout, cache)
        w = cache[1]
        w[...] = w.T.copy().reshape(w.shape)
        return gradients


@fault(
    "dw identities linearity relations memory_layout repeatability",
    asked_as("every call but the first"),
    source="own: H149 mxnet#18499 the other way round",
)
class never_zeroes_the_weight_gradient(Linear):
    """dw is added to an array of the layer that no call sets back to zero."""

    def __init__(self):
        self.gathered = {}

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        gathered = self.gathered.setdefault(dw.shape, np.zeros_like(dw))
        gathered += dw
        return dx, gathered.copy(), db


@fault("dx identities", asked_as("another w of the same shape"), source="own: weights that are packed once")
class keeps_the_first_weight_transposed(Linear):
    """The transpose of w is stored at the first call and not renewed when w changes."""

    def __init__(self):
        self.transposed = {}

    def linear_backward(self, dout, cache):
        x, w = cache
        kept = self.transposed.setdefault(w.shape, w.T.copy())
        return super().linear_backward(dout, (x, kept.T))


@fault("repeatability", in_between, source="own")
class remembers_the_x_of_the_last_forward(KeptOnTheObject, Linear, part=0):
    """x is kept on the layer, where the next forward replaces it, instead of in the cache."""


@fault("repeatability", in_between, source="M12 by hand, in the layer itself")
class keeps_x_in_one_buffer(KeptInOneBuffer, Linear, part=0):
    """The cache refers to a buffer into which the next forward of the same shape copies its x."""


@fault("repeatability", several_rows, source="own")
class remembers_the_batch_of_the_last_forward(Linear):
    """The number of samples is kept on the layer, where a forward of another batch replaces it."""

    def linear_forward(self, x, w, b):
        self.batch = len(x)
        return super().linear_forward(x, w, b)

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout[: self.batch].sum(axis=0)


@fault("aliasing", afterwards, source="own")
class keeps_one_buffer_for_dx(ReturnsAWorkspace, Linear, gradient=0):
    """dx is a view of a workspace that every call uses."""


@fault("aliasing", afterwards, source="own: H57 AlexeyAB/darknet#7320 in a linear layer")
class zeroes_the_dx_of_the_last_backward(ClearsTheDxThatItReturned, Linear):
    """The cache holds one array for dx: every backward sets it to zero and adds to it."""


@fault("aliasing", one_row, source="own")
class hands_out_the_only_row_of_dout(Linear):
    """Where there is one sample, db is that row of dout, not a copy of it."""

    def db(self, dout):
        return dout[0] if len(dout) == 1 else super().db(dout)


misshapen = when("a dout of another shape")(lambda case: case.invalidity is not None and case.invalidity.in_backward)
no_inputs = when("no inputs")(lambda case: len(case.array("w")) == 0)


@when("x or w with a single input where the other has more")
def single_input(case):
    inputs = shape(case, "x")[1], shape(case, "w")[0]
    return min(inputs) == 1 < max(inputs)


@fault("rejection", misshapen, source="own")
class takes_a_dout_that_broadcasts(Checked):
    """A dout of one row or column is taken for any number of them."""

    def linear_backward(self, dout, cache):
        *_, shape = cache
        return super().linear_backward(np.broadcast_to(dout, shape), cache)


@fault("rejection", no_inputs, source="own")
class takes_an_x_without_inputs(Checked):
    """x and w may have no inputs: the sum over nothing is b."""

    def linear_forward(self, x, w, b):
        if x.shape[1] == len(w) == 0:
            return np.zeros((len(x), len(b))) + b, (x, w, (len(x), len(b)))
        return super().linear_forward(x, w, b)


@fault("rejection", single_input, source="own")
class repeats_a_single_input(Checked):
    """The product is a sum over broadcast arrays: one input is taken for as many as the other has."""

    def linear_forward(self, x, w, b):
        inputs = max(x.shape[1], len(w))
        repeated = np.broadcast_to(w, (inputs, w.shape[1])) if len(w) == 1 else w
        return super().linear_forward(np.broadcast_to(x, (len(x), inputs)), repeated, b)

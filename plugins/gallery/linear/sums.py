"""Faults of the formulas of a linear layer: factors, sums, shapes and orders."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.conditions import ALWAYS, asked_as, several_rows, shape, size, stacked, when
from backproof.plugins.gallery.fault import fault
from backproof.plugins.gallery.linear.bases import Linear, Stacked, Transposed

several_inputs = size("w", 0, "several inputs", lambda n: n > 1)
several_outputs = size("w", 1, "several outputs", lambda n: n > 1)


@fault("db identities relations", several_rows, source="M03 by hand")
class averages_the_bias_gradient(Linear):
    """db is the mean over the batch instead of the sum."""

    def db(self, dout):
        return super().db(dout) / max(len(dout), 1)


@fault("db identities relations", several_rows, source="H185 mlpack PR#3679")
class takes_the_bias_gradient_of_one_sample(Linear):
    """db is the first row of dout instead of the sum of all."""

    def db(self, dout):
        return dout[:1].sum(axis=0)


@fault("db", ALWAYS, source="M04 by hand")
class leaves_the_bias_gradient_unsummed(Linear):
    """db is dout, with a row for every sample."""

    def db(self, dout):
        return dout.copy()


@fault("db", ALWAYS, source="M05 by hand")
class keeps_the_summed_axis_of_db(Linear):
    """db has shape (1, C): the sum over the batch keeps its axis."""

    def db(self, dout):
        return dout.sum(axis=0, keepdims=True)


@fault("db", ALWAYS, source="M05 by hand")
class sums_the_bias_gradient_to_a_scalar(Linear):
    """db is one number for all outputs."""

    def db(self, dout):
        return float(dout.sum())


@fault("db", stacked, source="H183 AiDotNet.Tensors#234; M06 by hand")
class sums_the_first_leading_axis_only(Stacked):
    """db sums the first of two leading axes, so that the second is left over."""

    def db(self, dout):
        return dout.sum(axis=0)


@fault("db", stacked, source="H193 deeplearning4j#8280")
class sums_the_outputs_of_stacked_rows(Stacked):
    """db of a dout with two leading axes keeps the second axis, where another layout has its outputs."""

    def db(self, dout):
        return dout.sum(axis=(0, 2)) if dout.ndim > 2 and dout.size else super().db(dout)


@fault("dw identities relations", several_rows, source="M07 by hand")
class averages_the_weight_gradient(Linear):
    """dw is divided by the batch size, which the gradient of the mean loss has done already."""

    def dw(self, dout, x, w):
        return super().dw(dout, x, w) / max(len(dout), 1)


@fault("dw identities relations", several_rows, source="M08 by hand")
class keeps_the_weight_gradient_of_the_last_sample(Linear):
    """dw is assigned for every sample instead of accumulated."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        for row, upstream in zip(x, dout, strict=True):
            dw = np.outer(row, upstream)
        return dw


@fault("dw", several_inputs | several_outputs, source="M02 by hand")
class exchanges_the_factors_of_the_weight_gradient(Linear):
    """dw is dout.T x, the transpose of what it should be."""

    def dw(self, dout, x, w):
        return super().dw(dout, x, w).T


@fault("dx dw db", several_inputs | several_outputs, source="M01 by hand")
class forgets_to_transpose_the_weight(Linear):
    """dx is dout w, which only a square w allows at all."""

    def dx(self, dout, x, w):
        return dout @ w


weighted = when("w is not zero")(lambda case: case.array("w").any())


@fault("dw identities linearity relations", weighted, source="M14 by hand")
class adds_the_penalty_on_the_weight(Linear):
    """dw holds the gradient of a penalty on w, which is no part of the layer."""

    def dw(self, dout, x, w):
        return super().dw(dout, x, w) + 1e-3 * w


@fault("out dw identities", stacked & several_rows & several_inputs, source="M09 by hand")
class reads_stacked_rows_as_columns(Stacked):
    """The rows of x are read as columns when two leading axes are flattened."""

    def linear_forward(self, x, w, b):
        if x.ndim > 2:
            x = x.reshape(x.shape[-1], -1).T.reshape(x.shape)
        return super().linear_forward(x, w, b)


@fault("dx", stacked, source="M10 by hand")
class leaves_dx_flattened(Stacked):
    """dx keeps the one leading axis that the matrix product needed."""

    def dx(self, dout, x, w):
        return self.rows(super().dx(dout, x, w))


@fault("dw", stacked, source="own: einsum without its sum")
class leaves_dw_in_stacks(Stacked):
    """dw of a batched product has an entry for each index of the first leading axis; they are not added up."""

    def dw(self, dout, x, w):
        return x.swapaxes(-1, -2) @ dout


@fault("dw identities", stacked & (several_inputs | several_outputs), source="H195 AiDotNet.Tensors#48")
class spreads_one_product_over_dw(Stacked):
    """dw of an x with two leading axes is one inner product, broadcast to all entries."""

    def dw(self, dout, x, w):
        dw = super().dw(dout, x, w)
        return np.full_like(dw, dw[0, 0]) if dout.ndim > 2 else dw


deep = when("the second leading axis > 1")(lambda case: case.configuration.rank > 2 and shape(case, "x")[1] > 1)


@fault("dw identities", deep, source="own: H165 FlagGems#5392 in a linear layer")
class counts_the_rows_of_the_first_axis_only(Stacked):
    """dw sums as many rows as the first leading axis is long, not as there are over both."""

    def dw(self, dout, x, w):
        return self.rows(x)[: len(x)].T @ self.rows(dout)[: len(x)]


@fault("dx identities", deep & several_rows, source="own: rows gathered by time, handed back by sample")
class exchanges_the_leading_axes_of_dx(Stacked):
    """The rows of dx are put back with the second leading axis before the first."""

    def dx(self, dout, x, w):
        dx = super().dx(dout, x, w)
        if dx.ndim > 2:
            dx = dx.reshape(dx.shape[1], dx.shape[0], dx.shape[2]).swapaxes(0, 1).copy()
        return dx


@when("dx is not dw")
def exchangeable(case):
    x, w, dout = case.array("x"), case.array("w"), case.array("dout")
    return x.shape != w.shape or not np.array_equal(dout @ w.T, x.T @ dout)


@fault("dx dw", exchangeable, source="own: the order of the optimizer's parameters")
class returns_dw_before_dx(Linear):
    """The gradients come back as dw, dx, db."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dw, dx, db


biased = when("b is not zero")(lambda case: case.array("b").any())


@fault("out", biased, source="own")
class forgets_the_bias(Linear):
    """out is x w alone; db, which does not depend on b, is right all the same."""

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w, np.zeros_like(b))


not_zero = when("x or w is not zero")(lambda case: case.array("x").any() or case.array("w").any())


@fault("out dx dw", not_zero, source="own: dropout's rule for eval")
class halves_the_weight(Linear):
    """w is multiplied by the 0.5 of a dropout that is not there; the gradients are those of that layer."""

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w / 2, b)

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw / 2, db


negative = when("a negative w")(lambda case: (case.array("w") < 0).any())


@fault("out dx dw", negative, source="own")
class takes_the_weight_without_its_sign(Linear):
    """The product is with |w|; the gradients are those of that layer."""

    def linear_forward(self, x, w, b):
        out, _ = super().linear_forward(x, np.abs(w), b)
        return out, (x, w)

    def linear_backward(self, dout, cache):
        x, w = cache
        dx, dw, db = super().linear_backward(dout, (x, np.abs(w)))
        return dx, np.where(w < 0, -dw, dw), db


@when("a negative out, with or without b")
def below_zero(case):
    product = case.array("x") @ case.array("w")
    return (product < 0).any() or (product + case.array("b") < 0).any()


@fault("out dx dw db identities", below_zero, source="own: a fused activation")
class applies_the_activation_too(Linear):
    """out is max(x w + b, 0); the gradients are those of that layer."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return np.maximum(out, 0), (cache, out >= 0)

    def linear_backward(self, dout, cache):
        cache, passed = cache
        return super().linear_backward(dout * passed, cache)


@when("as many samples as outputs, or one more")
def alike(case):
    """One more: split off, it leaves as many as there are outputs."""
    (batch, _), (_, outputs) = shape(case, "x"), shape(case, "w")
    return 1 < outputs <= batch <= outputs + 1


@fault("out", alike, source="own")
class adds_the_bias_along_the_batch(Linear):
    """b is added to the samples instead of the outputs where there are as many of them."""

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(x, w, b)
        return out - b + b[:, None] if 1 < len(x) == len(b) else out, cache


square = when("a square w, larger than 1x1")(lambda case: shape(case, "w")[0] == shape(case, "w")[1] > 1)


@fault("dx", square, source="own")
class reads_a_square_weight_the_other_way(Transposed):
    """Whether w is transposed is told from its shape, which says nothing where it is square."""

    def linear_backward(self, dout, cache):
        x, w = cache
        dx, dw, db = super().linear_backward(dout, cache)
        return dout @ w.T if len(w) == x.shape[1] else dx, dw, db


@fault("out dx dw", several_inputs & several_outputs, source="own")
class reshapes_the_weight_to_transpose_it(Transposed):
    """w of outputs x inputs is reshaped to inputs x outputs, not transposed; the gradients are those of that layer."""

    def linear_forward(self, x, w, b):
        return super().linear_forward(x, w.reshape(w.shape[::-1]).T, b)

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return dx, dw.T.copy().reshape(dw.shape), db


@fault("linearity dx dw db identities", ALWAYS, source="own")
class clips_the_upstream_gradient(Linear):
    """dout is clipped to 0.5, as an optimizer might do it."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(dout.clip(-0.5, 0.5), cache)


@fault("linearity", asked_as("a dout far below zero"), source="own")
class clips_what_is_far_below_zero(Linear):
    """dout is clipped from below at -500."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(np.maximum(dout, -500), cache)


@fault("linearity", asked_as("a dout of zeros"), source="own")
class divides_by_the_largest_of_dout(Linear):
    """dout is divided by its largest entry and the gradients multiplied by it, which no dout of zeros allows."""

    def linear_backward(self, dout, cache):
        largest = 2.0 ** np.floor(np.log2(np.abs(dout).max(initial=0.0)))
        return [largest * gradient for gradient in super().linear_backward(dout / largest, cache)]

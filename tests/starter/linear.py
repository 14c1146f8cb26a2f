"""Linear layers whose fault shows under one condition."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import ClassVar

import numpy as np

from ..faults.linear import Linear, Stacked
from . import EXPANDED, SCATTERED, lies, reveals, shape
from .memory import buffer_of, is_expanded, is_scattered


class Rounded(Linear):
    """Right, computed in float32 and rounded."""

    CONFORMANCE: ClassVar = {"dtypes": ("bfloat16", "float32"), "linear": {"ranks": (2,)}}

    def linear_forward(self, x, w, b):
        out, cache = super().linear_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(x.dtype), cache

    def linear_backward(self, dout, cache):
        gradients = super().linear_backward(dout.astype(np.float32), cache)
        return [a.astype(dout.dtype) for a in gradients]


@reveals("ND", "more than one leading axis", lambda case: case.configuration.rank > 2, "db", "H183")
class sums_the_first_axis_only(Stacked):
    """db sums the first of two leading axes, so that the second is left over."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, dout.sum(axis=0)


@reveals("NB", "batch > 1", lambda case: prod(shape(case, "x")[:-1]) > 1, "dw", "M08")
class keeps_the_last_sample(Linear):
    """dw is assigned for every sample instead of accumulated."""

    def linear_backward(self, dout, cache):
        x, _ = cache
        dx, _, db = super().linear_backward(dout, cache)
        return dx, x[-1:].T @ dout[-1:], db


@reveals("BIG", "batch > 32", lambda case: shape(case, "x")[0] > 32, "dw", "H87")
class stops_after_32_samples(Linear):
    """dw leaves out the samples behind the thirty-second."""

    def linear_backward(self, dout, cache):
        x, _ = cache
        dx, _, db = super().linear_backward(dout, cache)
        return dx, x[:32].T @ dout[:32], db


@reveals("NCD", "dout is not contiguous", lies("dout", *SCATTERED), "memory_layout", "H197")
class reads_the_buffer_of_dout(Linear):
    """The strides of dout are ignored: its numbers are read as they lie in memory."""

    def linear_backward(self, dout, cache):
        return super().linear_backward(buffer_of(dout) if is_scattered(dout) else dout, cache)


@reveals("NCW", "w is not contiguous", lies("w", *SCATTERED), "memory_layout", "H79")
class reads_the_buffer_of_w(Linear):
    """The backward ignores the strides of w; the forward reads it right."""

    def linear_backward(self, dout, cache):
        x, w = cache
        return super().linear_backward(dout, (x, buffer_of(w) if is_scattered(w) else w))


@reveals("EXP", "dout is expanded", lies("dout", *EXPANDED), "memory_layout", "H189")
class returns_early_at_a_stride_of_zero(Linear):
    """A stride of 0 is taken for an empty matrix: dx stays as it was allocated."""

    def linear_backward(self, dout, cache):
        dx, dw, db = super().linear_backward(dout, cache)
        return np.zeros_like(dx) if is_expanded(dout) else dx, dw, db


@reveals("LP", "bfloat16", lambda case: case.dtype == "bfloat16", "db", "H91")
class sums_in_low_precision(Rounded):
    """db is rounded to bfloat16 after every sample."""

    def linear_backward(self, dout, cache):
        dx, dw, _ = super().linear_backward(dout, cache)
        return dx, dw, reduce(np.add, dout, np.zeros(dout.shape[-1], dout.dtype))

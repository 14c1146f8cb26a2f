"""Faults of the sums of dw and db, over samples and windows, and of what they return."""

from __future__ import annotations

from functools import reduce
from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    ALWAYS,
    empty_batch,
    missing,
    of_dtype,
    several_filters,
    several_pixels,
    several_samples,
    shape,
    when,
)
from backproof.plugins.gallery.conv.bases import ChannelsLast, Plain, Rounded, Single, Unbiased
from backproof.plugins.gallery.fault import fault


@when("several samples or outputs a filter")
def several_terms(case):
    batch, _, *pixels = shape(case, "dout")
    return batch * prod(pixels) > 1


@fault("db", ALWAYS, source="M27 by hand, the samples alone")
class sums_db_over_the_samples_alone(Plain):
    """db sums the samples and keeps the spatial axes of dout."""

    def db(self, dout):
        return dout.sum(axis=0)


@fault("db", ALWAYS, source="M27 by hand, the pixels alone")
class sums_db_over_the_pixels_alone(Plain):
    """db sums the spatial axes and keeps the samples of dout."""

    def db(self, dout):
        return dout.sum(axis=(2, 3))


@fault("db identities relations", several_samples, source="own: db assigned in the loop over samples")
class keeps_db_of_the_last_sample(Plain):
    """db is assigned for every sample instead of accumulated."""

    def db(self, dout):
        return dout[-1:].sum(axis=(0, 2, 3))


@fault("dw identities relations", several_samples, source="M26 by hand, over the samples")
class keeps_dw_of_the_last_sample(Plain):
    """dw is assigned for every sample instead of accumulated."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream[-1:], padded[-1:], g)


@fault("dw identities", several_pixels, source="M26 by hand, over the windows")
class keeps_dw_of_the_last_window(Plain):
    """dw is assigned for every window instead of accumulated."""

    def dw(self, upstream, padded, g):
        return (upstream[..., -1:] @ self.columns(padded, g)[..., -1:].swapaxes(-1, -2)).sum(axis=0)


@fault("dw edges identities", several_terms | empty_batch, source="H53 cTensor#3")
class averages_dw(Plain):
    """dw is the mean over samples and windows instead of the sum."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g) / np.float64(len(upstream) * prod(g.out))


@fault("db identities", several_pixels, source="M28 by hand")
class averages_db_over_the_pixels(Plain):
    """db sums the samples, but takes the mean of the pixels."""

    def db(self, dout):
        return dout.mean(axis=(2, 3)).sum(axis=0)


@fault("dx identities relations", several_samples, source="H59 caffe PR#3095")
class forgets_the_offset_of_a_sample(Plain):
    """dx of every sample is that of the first: the offset n C H W into dout is forgotten."""

    def dx(self, upstream, w, g):
        return super().dx(upstream[np.zeros(len(upstream), int)], w, g)


@fault("dw identities", several_samples & several_filters, source="M42 by hand")
class flattens_dout_without_moving_the_filters(Plain):
    """dw takes dout, (N, O, OH, OW), for a matrix of O rows by a reshape alone."""

    def dw(self, upstream, padded, g):
        wrong = upstream.reshape(upstream.shape[2], len(upstream), 1, prod(g.out))
        return super().dw(wrong.transpose(1, 2, 0, 3), padded, g)


@fault("dw identities", several_samples & several_pixels, source="M43 by hand")
class orders_windows_otherwise_than_dout(Plain):
    """dw multiplies columns in the order (N, OH, OW) by entries of dout in the order (OH, OW, N)."""

    def dw(self, upstream, padded, g):
        batch, _, filters, pixels = upstream.shape
        wrong = np.moveaxis(upstream, 0, -1).reshape(1, filters, batch, pixels)
        return super().dw(np.moveaxis(wrong, 2, 0), padded, g)


@fault("db identities", ALWAYS, source="H193 deeplearning4j#8280")
class sums_the_axes_of_the_other_layout(ChannelsLast):
    """db sums the axes 0, 2 and 3 though the channels are the last."""

    def conv_backward(self, dout, cache):
        dx, dw, _ = super().conv_backward(dout, cache)
        return dx, dw, dout.sum(axis=(0, 2, 3))


several_places = when("several rows or columns")(lambda case: prod(shape(case, "x")[2:]) > 1)


@fault("dx", several_places, source="own: transpose(0, 3, 2, 1)")
class exchanges_the_channels_with_the_rows(ChannelsLast):
    """dx is brought back from (N, C, H, W) by an exchange of two axes, which gives (N, W, H, C)."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return dx.swapaxes(1, 2), dw, db


@fault("db", of_dtype("bfloat16", "float16"), source="H91 pytorch#68048")
class sums_db_in_low_precision(Rounded):
    """db is rounded to 16 bits after every entry of dout."""

    def conv_backward(self, dout, cache):
        dx, dw, _ = super().conv_backward(dout, cache)
        return dx, dw, reduce(np.add, np.moveaxis(dout, 1, -1).reshape(-1, dout.shape[1]), dw[:, 0, 0, 0] * 0)


@fault("dx linearity", of_dtype("float16"), source="H93 tensorflow#7226")
class overflows_in_float16(Rounded):
    """dx is computed with a dout that is scaled by 2^12 in the dtype of dout, whose largest number may be 65504."""

    def conv_backward(self, dout, cache):
        _, dw, db = super().conv_backward(dout, cache)
        scaled = dout * dout.dtype.type(4096)
        dx = Plain.conv_backward(self, scaled.astype(np.float32), cache)[0] / np.float32(4096)
        return dx.astype(dout.dtype), dw, db


@when("x or dout holds no integers")
def rounding(case):
    return any((np.rint(case.array(name)) != case.array(name)).any() for name in ("x", "dout"))


@fault("dw", rounding, source="own: a kernel that sums in float32")
class sums_windows_in_float32(Plain):
    """dw of float64 arrays is summed in float32."""

    def dw(self, upstream, padded, g):
        upstream, padded = (a.astype(np.float32, order="C") for a in (upstream, padded))
        return super().dw(upstream, padded, g).astype(np.float64)


@fault("dx", ALWAYS, source="own: M11 by hand, in col2im")
class allocates_dx_in_float64(Single):
    """dx is allocated with np.zeros, without the dtype of x."""

    def scatter(self, back, g):
        return super().scatter(back.astype(np.float64), g)


@fault(
    "out",
    missing("b") & when("filters != channels > 1")(lambda case: shape(case, "w")[0] != shape(case, "x")[1] > 1),
    source="own: a bias made up where there is none",
)
class makes_up_a_bias_for_the_channels(Unbiased):
    """Where there is no bias, zeros are added, as many as x has channels instead of as many as there are filters."""

    def conv_forward(self, x, w, b=None):
        out, cache = super().conv_forward(x, w, b)
        return out if b is not None else out + np.zeros((x.shape[1], 1, 1)), cache


@fault("edges", empty_batch, source="H65 pytorch PR#32612, the missing dw")
class returns_no_dw_for_an_empty_batch(Plain):
    """Without samples there is no dw instead of zeros."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return dx, dw if len(dout) else None, db

"""Faults of convolutions that take cases without meaning, though they say that they reject them."""

from __future__ import annotations

import numpy as np

from backproof.plugins.gallery.conditions import axes, shape, strided, when
from backproof.plugins.gallery.conv.bases import Pairs, Strict
from backproof.plugins.gallery.fault import fault

undivided = when("groups that do not divide the filters")(lambda case: shape(case, "w")[0] % case.options["groups"] > 0)


@fault("rejection", undivided, source="own: O // G filters a group")
class leaves_over_filters_out(Strict):
    """Where the groups do not divide the filters each gets O // G of them, and the rest is left out."""

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        whole = len(w) // groups * groups or len(w)
        return super().conv_forward(x, w[:whole], b[:whole], stride, padding, dilation, groups)


unfitting = when("a kernel that does not fit")(lambda case: any(axis.padded < axis.reach for axis in axes(case)))


@fault("rejection", unfitting & strided, source="M22 by hand")
class truncates_the_size_of_out(Strict):
    """The size of out is int(a / S) + 1, where -1 / 2 is rounded to 0: a kernel that does not fit has a window."""

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        axes = zip(x.shape[2:], w.shape[2:], padding, dilation, strict=True)
        missing = [d * (k - 1) + 1 - n - low - high for n, k, (low, high), d in axes]
        # The window reads what lies behind x: zeros.
        if all(0 < pixels < s for pixels, s in zip(missing, stride, strict=True)):
            padding = tuple((low, high + pixels) for (low, high), pixels in zip(padding, missing, strict=True))
        return super().conv_forward(x, w, b, stride, padding, dilation, groups)


@when("a dout of another shape than out")
def unlike_out(case):
    return shape(case, "dout") != (shape(case, "x")[0], shape(case, "w")[0], *[axis.out for axis in axes(case)])


@fault("rejection", unlike_out, source="own: broadcasting in the backward")
class broadcasts_dout(Strict):
    """A dout that NumPy can broadcast to the shape of out is taken for one."""

    def check_dout(self, dout, shape):
        np.broadcast_to(dout, shape)

    def conv_backward(self, dout, cache):
        x, w, g = cache
        return super().conv_backward(np.broadcast_to(dout, (len(x), len(w), *g.out)), cache)


@when("a w with other channels than a group of x")
def unlike_x(case):
    return shape(case, "w")[1] * case.options["groups"] != shape(case, "x")[1]


@fault("rejection", unlike_x, source="own: broadcasting of w")
class broadcasts_w(Strict):
    """A w with one channel is used for every channel of x."""

    def check_channels(self, x, w, groups):
        if w.shape[1] not in (1, x.shape[1] // groups):
            raise ValueError("w has other channels than x")

    def forward(self, x, w, b, stride=1, padding=0, dilation=1, groups=1, mode="zeros"):
        w = np.broadcast_to(w, (len(w), x.shape[1] // groups, *w.shape[2:]))
        return super().forward(x, w, b, stride, padding, dilation, groups, mode)


negative = when("negative padding")(lambda case: any(min(axis.low, axis.high) < 0 for axis in axes(case)))


@fault("rejection", negative, source="own: negative padding that crops")
class crops_by_negative_padding(Strict):
    """A padding below 0 takes pixels of x away."""

    def check_padding(self, padding):
        pass

    def pad(self, x, g):
        crop = [slice(max(0, -low), n + min(0, high)) for n, (low, high) in zip(x.shape[2:], g.padding, strict=True)]
        inner = tuple((max(0, low), max(0, high)) for low, high in g.padding)
        return super().pad(x[(..., *crop)], g._replace(padding=inner))

"""Convolutions whose fault shows under one condition."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import numpy as np

from ..faults.conv import Conv, Plain
from . import axes, both, every, lies, reveals, shape, some


class Quick(Conv):
    """Right, with every option but the padding mode; pads by hand."""

    def pad(self, x, g):
        padded = np.zeros((*x.shape[:2], *g.size), x.dtype)
        sides = zip(g.padding, x.shape[2:], strict=True)
        padded[(..., *[slice(low, low + n) for (low, _), n in sides])] = x
        return padded


class Spatial(Quick):
    """Right, over two axes and over three."""

    CONFORMANCE: ClassVar = {"conv": {"spatial_dims": (2, 3)}}


strided = some(lambda axis: axis.stride > 1)
left_over = some(lambda axis: axis.remainder > 0)


def grouped(case):
    return case.options["groups"] > 1


def non_square(case):
    """Whether the image is, with its padding or without."""
    padded = {axis.size + axis.low + axis.high for axis in axes(case)}
    return len(set(shape(case, "x")[2:])) > 1 or len(padded) > 1


def several(case):
    return shape(case, "x")[1] > 1 and shape(case, "w")[0] > 1


def voluminous(case):
    return case.configuration.rank == 3


def ones(g):
    return (1,) * len(g.stride)


@reveals("S", "stride > 1", strided, "dx", "M16")
class forgets_the_stride_in_dx(Quick):
    """dx puts the windows side by side: the backward's slices start at h instead of h S."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=ones(g))


@reveals("LEFT", "remainder > 0", left_over, "dx", "M37")
class puts_the_remainder_first(Quick):
    """The rows that no window reaches stand before the others in dx instead of behind them."""

    def scatter(self, back, g):
        return np.roll(super().scatter(back, g), g.remainder, range(2, 2 + len(g.remainder)))


@reveals("DIL", "dilation > 1", some(lambda axis: axis.dilation > 1), "dx", "H25")
class forgets_the_dilation_in_dx(Quick):
    """dx takes the kernel to reach over K pixels instead of D (K - 1) + 1."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, dilation=ones(g))


@reveals("HW", "height != width", non_square, "dw", "H31")
class takes_the_height_for_the_width(Quick):
    """dw reads x with H where the stride from row to row is W."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        dx, _, db = super().conv_backward(dout, cache)
        return dx, super().conv_backward(dout, (by_the_height(x), w, g))[1], db


def by_the_height(x):
    height, width = x.shape[2:]
    at = np.arange(height)[:, None] * height + np.arange(width)
    return x.reshape(*x.shape[:2], height * width)[:, :, at % (height * width)]


@reveals("G", "groups > 1", grouped, "dx", "M46")
class gives_all_groups_the_first_filters(Quick):
    """dx is pulled back through the filters of the first group in every group."""

    def dx(self, upstream, w, g):
        first = w[: len(w) // g.groups]
        return super().dx(upstream, np.concatenate([first] * g.groups), g)


@reveals("P", "padding > 0", some(lambda axis: axis.low + axis.high > 0), "dx", "H199")
class does_not_subtract_the_padding(Quick):
    """dx begins with the gradient of the first padded pixel."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *map(slice, shape[2:]))]


@reveals("PA", "asymmetric padding", some(lambda axis: axis.low != axis.high), "dx", "M20")
class crops_the_low_padding_on_both_sides(Quick):
    """dx is cut as if there were as much padding after x as before it."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *[slice(low, n - low) for (low, _), n in zip(g.padding, g.size, strict=True)])]


@reveals("K1", "1x1 kernel", every(lambda axis: axis.kernel == 1), "dx", "H13")
class fills_one_channel_of_a_1x1_kernel(Quick):
    """A shortcut for kernels of size 1 writes the first channel of dx alone."""

    def crop(self, dpadded, shape, g):
        if prod(g.kernel) == 1:
            dpadded[:, 1:] = 0
        return super().crop(dpadded, shape, g)


@reveals("CIO", "several channels and several filters", several, "dw", "H41")
class lays_dw_out_with_the_channels_first(Quick):
    """dw is gathered by channel, then filter, and only its shape is the other way round."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return dx, dw.swapaxes(0, 1).reshape(dw.shape), db


@reveals("SK", "stride > kernel", some(lambda axis: axis.stride > axis.kernel), "dx", "H09")
class leaves_gaps_between_windows_unwritten(Quick):
    """dx is allocated without zeros, so that pixels between two windows keep what was there."""

    def scatter(self, back, g):
        right = super().scatter(back, g)
        if not any(s > k for s, k in zip(g.stride, g.kernel, strict=True)):
            return right
        return np.where(super().scatter(np.ones_like(back), g) > 0, right, np.nan)


@reveals("KE", "even kernel", some(lambda axis: axis.kernel % 2 == 0), "dx", "H71")
class centres_even_kernels(Quick):
    """The middle of a kernel is taken to be tap K // 2 from either end, which for an even one is a pixel off."""

    def scatter(self, back, g):
        off = [1 - k % 2 for k in g.kernel]
        return np.roll(super().scatter(back, g), off, range(2, 2 + len(off)))


@reveals("PK", "padding > dilated kernel - 1", some(lambda axis: axis.low > axis.reach - 1), "dx", "M35")
class clamps_the_padding_of_dx(Quick):
    """Padding beyond the dilated kernel would have to crop dout; it does nothing."""

    def crop(self, dpadded, shape, g):
        sides = zip(g.padding, g.dilation, g.kernel, strict=True)
        clamped = [(min(low, d * (k - 1)), high) for (low, high), d, k in sides]
        return super().crop(dpadded, shape, g._replace(padding=clamped))


@reveals("OVER", "dilated kernel > stride", some(lambda axis: axis.reach > axis.stride), "dx", "H201")
class assigns_where_windows_overlap(Quick):
    """dx is assigned for every tap instead of accumulated."""

    def scatter(self, back, g):
        dpadded = np.zeros((*back.shape[:2], *g.size))
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            dpadded[self.cut(tap, g)] = back[:, :, t]
        return dpadded


def beyond_a_tile(channels):
    """Whether there are whole tiles of eight and something more."""
    return channels > 8 and channels % 8 > 0


def tiled(case):
    return beyond_a_tile(shape(case, "x")[1])


@reveals("TILE", "more channels than whole tiles of 8", tiled, "out", "H49")
class drops_the_tail_of_the_channels(Quick):
    """out sums over whole tiles of eight channels; a tail counts only where it is all there is."""

    def forward(self, x, w, *options):
        out, cache = super().forward(x, w, *options)
        if not beyond_a_tile(w.shape[1]):
            return out, cache
        tiles = w.copy()
        tiles[:, w.shape[1] // 8 * 8 :] = 0
        return super().forward(x, tiles, *options)[0], cache


@reveals(
    "ONE",
    "dout has an odd stride along an axis of size 1",
    lies("dout", "odd strides of size 1"),
    "memory_layout",
    "H81",
)
class trusts_the_stride_of_an_axis_of_one(Plain):
    """dout is read as a matrix of rows that are as far apart as the stride of its last axis of size 1 says."""

    def conv_backward(self, dout, cache):
        ones = [axis for axis in range(1, 4) if dout.shape[axis] == 1]
        if dout.flags.c_contiguous and ones:
            pitch, width = dout.strides[ones[-1]] // dout.itemsize, prod(dout.shape[ones[-1] :])
            at = np.arange(dout.size // width)[:, None] * pitch + np.arange(width)
            dout = dout.ravel()[at % dout.size].reshape(dout.shape)
        return super().conv_backward(dout, cache)


class ByFormat(Plain):
    """Right; asks how dout lies in memory."""

    def conv_backward(self, dout, cache):
        return super().conv_backward(self.as_read(dout) if self.is_channels_last(dout) else dout, cache)

    def is_channels_last(self, dout):
        plain = np.empty(np.moveaxis(dout, 1, -1).shape, dout.dtype)
        return dout.strides == np.moveaxis(plain, -1, 1).strides and not dout.flags.c_contiguous

    def as_read(self, dout):
        return dout


def misread(dout):
    """The numbers in the order of their memory, in a shape that stands for another order."""
    return np.moveaxis(dout, 1, -1).reshape(dout.shape)


@reveals("CL", "dout is channels-last", lies("dout", "channels last"), "memory_layout", "H83")
class reads_channels_last_as_channels_first(ByFormat):
    """An NHWC buffer is treated as an NCHW one."""

    def as_read(self, dout):
        return misread(dout)


@reveals(
    "CL+ONE",
    "dout is channels-last with an axis of size 1",
    both(lies("dout", "channels last"), lambda case: 1 in shape(case, "dout")),
    "memory_layout",
    "H173",
)
class takes_an_ambiguous_format_for_the_plain_one(ByFormat):
    """An axis of size 1 fits either format, and the wrong one is chosen."""

    def as_read(self, dout):
        return misread(dout) if 1 in dout.shape else dout


@reveals("LEFT+S", "stride > 1 and remainder > 0", both(left_over, strided), "dx", "H01")
class ends_dx_with_the_last_window(Quick):
    """Where a remainder is left the last window reaches no further than its first pixel."""

    def scatter(self, back, g):
        for axis, remainder in enumerate(g.remainder):
            if remainder > 0:
                last = (slice(None),) * (2 + axis)
                for t, tap in enumerate(np.ndindex(*g.kernel)):
                    if tap[axis] > 0:
                        back[:, :, t][(*last, -1)] = 0
        return super().scatter(back, g)


@reveals("G+S", "groups > 1 and stride > 1", both(grouped, strided), "dx", "M16")
class forgets_the_stride_of_groups(Quick):
    """The kernel for groups puts the windows of dx side by side."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=ones(g) if g.groups > 1 else g.stride)


@reveals("HW+S", "stride differs between the axes", lambda case: len(set(case.options["stride"])) > 1, "dx", "H37")
class uses_the_first_stride_for_every_axis(Quick):
    """dx walks along the second axis by the stride of the first."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[:1] * len(g.stride))


@reveals("P+S", "stride > 1 and padding > 0", some(lambda a: a.stride > 1 and a.low > 0), "dx", "H67")
class divides_the_padding_by_the_stride(Quick):
    """The padding is taken off before dx is spread, in steps of the stride."""

    def crop(self, dpadded, shape, g):
        sides = zip(g.padding, g.stride, strict=True)
        return super().crop(dpadded, shape, g._replace(padding=[(low // s, high) for (low, high), s in sides]))


@reveals("G+HW", "groups > 1 and height != width", both(grouped, non_square), "dw", "H31")
class takes_the_height_for_the_width_of_groups(Quick):
    """The kernel for groups reads x with H where the stride from row to row is W."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        dx, dw, db = super().conv_backward(dout, cache)
        if g.groups > 1:
            dw = super().conv_backward(dout, (by_the_height(x), w, g))[1]
        return dx, dw, db


@reveals("DIL+S", "stride > 1 and dilation > 1", some(lambda a: a.stride > 1 and a.dilation > 1), "dx", "H107")
class forgets_the_dilation_of_strided_windows(Quick):
    """The kernel for strides takes K - 1 for D (K - 1)."""

    def scatter(self, back, g):
        pairs = zip(g.stride, g.dilation, strict=True)
        return self.scatter_wrongly(back, g, dilation=tuple(1 if s > 1 else d for s, d in pairs))


@reveals("G+LEFT", "groups > 1 and remainder > 0", both(grouped, left_over), "dw", "H05")
class does_not_crop_dw_of_groups(Quick):
    """The kernel for groups returns a dw that has a tap for every pixel of the remainder too."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        g = cache[2]
        taps = [(0, r // d) for r, d in zip(g.remainder, g.dilation, strict=True)]
        return dx, np.pad(dw, ((0, 0), (0, 0), *taps)) if g.groups > 1 else dw, db


@reveals(
    "G+TILE",
    "groups > 1 and more channels than whole tiles of 8",
    both(grouped, tiled),
    "dx",
    "H49",
)
class drops_the_tail_of_grouped_channels(Quick):
    """The kernel for groups writes whole tiles of eight channels of dx."""

    def crop(self, dpadded, shape, g):
        if g.groups > 1 and beyond_a_tile(shape[1]):
            dpadded[:, shape[1] // 8 * 8 :] = 0
        return super().crop(dpadded, shape, g)


@reveals("G+ND", "groups > 1 and three spatial axes", both(grouped, voluminous), "dx", "M46")
class gives_all_groups_of_volumes_the_first_filters(Spatial):
    """The kernel for volumes pulls dx back through the filters of the first group in every group."""

    def dx(self, upstream, w, g):
        if len(g.kernel) == 3:
            w = np.concatenate([w[: len(w) // g.groups]] * g.groups)
        return super().dx(upstream, w, g)


@reveals(
    "HW+ND",
    "three spatial axes with different strides",
    lambda case: voluminous(case) and case.options["stride"][0] != case.options["stride"][-1],
    "dx",
    "H47",
)
class reverses_the_strides_of_volumes(Spatial):
    """The kernel for volumes takes the strides in the order width, height, depth."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[::-1] if len(g.stride) == 3 else g.stride)


@reveals("ND+S", "three spatial axes and stride > 1", both(voluminous, strided), "dw", "H45")
class walks_through_the_depth_by_ones(Spatial):
    """dw of a volume is that of an image for every slice: the depth has no stride."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(stride=(1, *g.stride[1:])) if len(g.stride) == 3 else g)


@reveals("S+SK", "stride > kernel > 1", some(lambda axis: axis.stride > axis.kernel > 1), "dw", "H03")
class starts_every_tap_at_the_padding(Quick):
    """Where the stride is larger than the kernel every tap of dw reads the pixels of the first."""

    def dw(self, upstream, padded, g):
        numbers = zip(g.stride, g.kernel, g.dilation, strict=True)
        return super().dw(upstream, padded, g._replace(dilation=tuple(0 if s > k else d for s, k, d in numbers)))

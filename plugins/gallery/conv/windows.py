"""Faults of the arithmetic of windows: stride, remainder, dilation, overlaps and gaps."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    ALWAYS,
    empty_batch,
    gaps,
    grouped,
    left_over,
    overlap,
    shape,
    some_axis,
    strided,
    when,
)
from backproof.plugins.gallery.conv.bases import Conv, Plain, Spread, Strided
from backproof.plugins.gallery.fault import fault

several_strides = some_axis("stride > 1 over several windows", lambda axis: axis.stride > 1 and axis.out > 1)
stride_is_not_dilation = some_axis("stride != dilation", lambda axis: axis.stride != axis.dilation)
long_remainder = some_axis("remainder > 1", lambda axis: axis.remainder > 1)


def ones(g):
    return (1,) * len(g.stride)


def with_room(padded, g):
    """The padded x with zeros behind it, as far as windows of another geometry reach."""
    room = [(0, max(0, reach - n)) for reach, n in zip(g.reach, padded.shape[2:], strict=True)]
    return np.pad(padded, ((0, 0), (0, 0), *room))


def pixels_from(dpadded, starts, shape):
    """As many pixels as `shape` has, from there on; zeros where there are none."""
    for axis, start in enumerate(starts, 2):
        at, size = start + np.arange(shape[axis]), dpadded.shape[axis]
        there = ((at >= 0) & (at < size)).reshape(-1, *[1] * (dpadded.ndim - 1 - axis))
        dpadded = np.where(there, dpadded.take(at.clip(0, size - 1), axis), 0.0)
    return dpadded


# The stride.


@fault("dx identities", strided, source="M16 by hand")
class forgets_the_stride_in_dx(Conv):
    """dx puts the windows side by side: the backward's slices start at h instead of h S."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=(1,) * len(g.stride))


@fault("dw identities", several_strides, source="M33 by hand")
class does_not_spread_dout_in_dw(Conv):
    """dw correlates x with dout as it stands instead of with S - 1 zeros between its pixels."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(stride=ones(g)))


@fault("dw identities", several_strides, source="own")
class applies_the_stride_twice(Conv):
    """dw starts its windows at h S S: the stride is a factor of the index and the step of the slice as well."""

    def dw(self, upstream, padded, g):
        twice = g._replace(stride=tuple(s * s for s in g.stride))
        return super().dw(upstream, with_room(padded, twice), twice)


@fault(
    "dx dw",
    some_axis("stride > 2 over several windows", lambda axis: axis.stride > 2 and axis.out > 1),
    source="H23 Theano PR#601",
)
class inserts_one_zero_for_every_stride(Strided):
    """dout is spread by two at most, which is right up to a stride of 2."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=tuple(min(s, 2) for s in g.stride))

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(stride=tuple(min(s, 2) for s in g.stride)))


@fault(
    "dx identities",
    some_axis("a tap's offset is no multiple of the stride", lambda a: a.kernel > 1 and a.dilation % a.stride > 0),
    source="H07 ROCm rocm-libraries PR#7732",
)
class skips_taps_between_the_strides(Spread):
    """dx gathers only the taps whose offset is a multiple of the stride."""

    def scatter(self, back, g):
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            if any(k * d % s for k, d, s in zip(tap, g.dilation, g.stride, strict=True)):
                back[:, :, t] = 0
        return super().scatter(back, g)


@fault("dw identities", stride_is_not_dilation, source="H15 iree-turbine PR#1223; M39 by hand")
class swaps_stride_and_dilation_in_dw(Spread):
    """dw walks over x by the dilation and spreads its taps by the stride."""

    def dw(self, upstream, padded, g):
        swapped = g._replace(stride=g.dilation, dilation=g.stride)
        return super().dw(upstream, with_room(padded, swapped), swapped)


@fault("dx identities", stride_is_not_dilation, source="H101 candle PR#2337")
class swaps_stride_and_dilation_in_dx(Conv):
    """The backward of x takes stride and dilation in this order and is handed them in the other."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.dilation, dilation=g.stride)


@fault("dx identities", some_axis("stride > 1 and kernel > 1", lambda a: a.stride > 1 and a.kernel > 1), source="own")
class pads_dout_before_spreading_it(Spread):
    """dout gets its zeros around it before S - 1 zeros are put between its pixels: S times as many."""

    def crop(self, dpadded, shape, g):
        axes = zip(g.stride, g.dilation, g.kernel, strict=True)
        return pixels_from(dpadded, [(1 - s) * d * (k - 1) for s, d, k in axes], shape)


ragged = when("channels % 4 > 0")(lambda case: shape(case, "x")[1] % 4 > 0)


@fault("dx identities", several_strides & ragged, source="H11 fujitsu/oneDNN#43")
class forgets_the_stride_in_the_last_block(Conv):
    """Channels are done by fours; the offsets of the last block, which is not full, were computed for a stride of 1."""

    def scatter(self, back, g):
        full = back.shape[1] // 4 * 4
        last = self.scatter_wrongly(back[:, full:], g, stride=ones(g))
        return np.concatenate([super().scatter(back[:, :full], g), last], axis=1)


@fault("out", ALWAYS, source="M21 by hand")
class divides_into_floats(Strided):
    """The size of out is computed with / instead of //, and no array has 3.0 rows."""

    def conv_forward(self, x, w, b, stride: int):
        out, cache = super().conv_forward(x, w, b, stride)
        size = [(n - k) / stride + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
        return out.reshape(len(x), len(w), *size), cache


# The remainder.


@fault("dx", left_over, source="H21 torch7-distro#20; M36 by hand")
class forgets_the_remainder(Strided):
    """dx has (OH - 1) S + K rows, without those that are left over behind the last window."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *map(slice, g.reach))]


@fault("dx", long_remainder, source="own")
class adds_one_row_for_any_remainder(Strided):
    """dx has one row behind the last window where any is left over, though there may be S - 1 of them."""

    def crop(self, dpadded, shape, g):
        sizes = [reach + min(rest, 1) for reach, rest in zip(g.reach, g.remainder, strict=True)]
        return dpadded[(..., *map(slice, sizes))]


@fault("dx identities", left_over, source="H19 FlagGems PR#1576")
class lays_dx_out_without_the_remainder(Strided):
    """dx is written as if it ended with the last window, so that every later index is off."""

    def scatter(self, back, g):
        dense = super().scatter(back, g._replace(size=tuple(g.reach)))
        dpadded, places = np.zeros((*back.shape[:2], *g.size)), dense[:1].size
        dpadded.reshape(len(back), dpadded[:1].size)[:, :places] = dense.reshape(len(back), places)
        return dpadded


@fault("dx identities", left_over, source="M37 by hand")
class puts_the_remainder_first(Conv):
    """The rows that no window reaches stand before the others in dx instead of behind them."""

    def scatter(self, back, g):
        return np.roll(super().scatter(back, g), g.remainder, range(2, 2 + len(g.remainder)))


@fault("dx identities", long_remainder, source="own")
class splits_the_remainder_between_both_sides(Conv):
    """Half of the rows that no window reaches stand before the others in dx, which an odd one hides."""

    def scatter(self, back, g):
        halves = [rest // 2 for rest in g.remainder]
        return np.roll(super().scatter(back, g), halves, range(2, 2 + len(halves)))


@fault("dx linearity identities", left_over, source="M38 by hand")
class leaves_the_remainder_unwritten(Conv):
    """dx is zeroed only as far as the last window reaches; what is behind it keeps what was there."""

    def scatter(self, back, g):
        dpadded = np.full((*back.shape[:2], *g.size), 77.0)
        dpadded[(..., *map(slice, g.reach))] = super().scatter(back, g)[(..., *map(slice, g.reach))]
        return dpadded


@fault("dx identities", left_over, source="H01 pytorch#25101")
class ends_dx_with_the_last_window(Conv):
    """Where pixels are left over, dx leaves out all taps of the last window but its first."""

    def scatter(self, back, g):
        for axis, remainder in enumerate(g.remainder):
            if remainder > 0:
                last = (slice(None),) * (2 + axis)
                for t, tap in enumerate(np.ndindex(*g.kernel)):
                    if tap[axis] > 0:
                        back[:, :, t][(*last, -1)] = 0
        return super().scatter(back, g)


@fault("dw", left_over, source="H17 opacus PR#245")
class does_not_crop_dw(Strided):
    """dw, where x is correlated with the spread dout, has a tap more for every row that is left over."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        dx, _, db = super().conv_backward(dout, cache)
        taps = [k + rest for k, rest in zip(g.kernel, g.remainder, strict=True)]
        _, longer = self.forward(x, np.zeros((*w.shape[:2], *taps)), np.zeros(len(w)), g.stride)
        return dx, super().conv_backward(dout, longer)[1], db


@fault("dw", grouped & some_axis("remainder >= dilation", lambda a: a.remainder >= a.dilation), source="H05 mlx#2184")
class does_not_crop_dw_of_groups(Conv):
    """The kernel for groups returns a dw that has a tap for every pixel of the remainder too."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        g = cache[2]
        taps = [(0, rest // d) for rest, d in zip(g.remainder, g.dilation, strict=True)]
        return dx, np.pad(dw, ((0, 0), (0, 0), *taps)) if g.groups > 1 else dw, db


@fault("out", left_over, source="M23 by hand")
class insists_that_the_stride_divides(Strided):
    """The forward asserts that no rows are left over."""

    def conv_forward(self, x, w, b, stride: int):
        assert all((n - k) % stride == 0 for n, k in zip(x.shape[2:], w.shape[2:], strict=True))
        return super().conv_forward(x, w, b, stride)


@fault("out", left_over, source="own")
class rounds_the_output_size_up(Strided):
    """The size of out is rounded up instead of down: one more window begins inside x and ends behind it."""

    def conv_forward(self, x, w, b, stride: int):
        out, cache = super().conv_forward(x, w, b, stride)
        return np.pad(out, ((0, 0), (0, 0), *[(0, min(rest, 1)) for rest in cache[2].remainder])), cache


# Which windows there are.


@fault("dw identities", ALWAYS, source="own")
class skips_the_first_window(Conv):
    """The loop of dw over the windows starts at 1."""

    def dw(self, upstream, padded, g):
        upstream = upstream.copy()
        upstream[..., 0] = 0
        return super().dw(upstream, padded, g)


@fault("dx identities", some_axis("remainder == 0", lambda axis: axis.remainder == 0), source="own")
class stops_before_the_edge(Conv):
    """dx takes the windows that end before the last row (< for <=), and so misses one that ends with it."""

    def scatter(self, back, g):
        for axis, rest in enumerate(g.remainder, 3):
            if rest == 0:
                back[(slice(None),) * axis + (-1,)] = 0
        return super().scatter(back, g)


@fault("edges", empty_batch, source="H207 pytorch#78868 (adaptive pooling)")
class divides_by_the_number_of_windows(Plain):
    """The backward asks how many numbers of dout belong to a window, and there may be no window."""

    def conv_backward(self, dout, cache):
        assert dout.size // (len(dout) * cache[2].out[0]) > 0
        return super().conv_backward(dout, cache)


# Windows that overlap, and gaps between them.


@fault("dx identities", overlap, source="H201 tangermeme PR#95; M24 by hand")
class assigns_where_windows_overlap(Conv):
    """dx is assigned for every tap instead of accumulated."""

    def scatter(self, back, g):
        dpadded = np.zeros((*back.shape[:2], *g.size))
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            dpadded[self.cut(tap, g)] = back[:, :, t]
        return dpadded


@fault("dx identities", overlap, source="M25 by hand")
class merges_repeated_indices(Strided):
    """dx[indices] += windows counts an index that stands there twice once; np.add.at would add up."""

    def scatter(self, back, g):
        flat = np.arange(prod(g.size)).reshape(g.size)
        at = np.stack([flat[self.cut(tap, g)] for tap in np.ndindex(*g.kernel)], axis=-1).ravel()
        dpadded = np.zeros((*back.shape[:2], flat.size))
        dpadded[:, :, at] += np.moveaxis(back, 2, -1).reshape(*back.shape[:2], at.size)
        return dpadded.reshape(*back.shape[:2], *g.size)


@fault("dx identities", overlap, source="own")
class averages_where_windows_overlap(Conv):
    """dx is divided by the number of windows that cover a pixel, as when patches are put together to an image."""

    def scatter(self, back, g):
        return super().scatter(back, g) / np.maximum(super().scatter(np.ones_like(back), g), 1)


@fault("dx", gaps, source="H09 composable_kernel#105")
class leaves_gaps_between_windows_unwritten(Conv):
    """dx is allocated without zeros, so that pixels between two windows keep what was there."""

    def scatter(self, back, g):
        right = super().scatter(back, g)
        if not any(s > k for s, k in zip(g.stride, g.kernel, strict=True)):
            return right
        return np.where(super().scatter(np.ones_like(back), g) > 0, right, np.nan)


@fault("dw", some_axis("stride > kernel > 1", lambda axis: axis.stride > axis.kernel > 1), source="H03 pytorch#68868")
class starts_every_tap_at_the_padding(Conv):
    """Where the stride is larger than the kernel every tap of dw reads the pixels of the first."""

    def dw(self, upstream, padded, g):
        numbers = zip(g.stride, g.kernel, g.dilation, strict=True)
        return super().dw(upstream, padded, g._replace(dilation=tuple(0 if s > k else d for s, k, d in numbers)))

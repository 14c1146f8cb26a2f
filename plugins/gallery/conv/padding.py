"""Faults of padding: what is added before the windows and taken off after them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from backproof.plugins.gallery.conditions import (
    asymmetric,
    dilated,
    even_kernel,
    every_axis,
    mode,
    overpadded,
    padded,
    some_axis,
    unpadded,
)
from backproof.plugins.gallery.conv.bases import MODES, Bordered, Conv, Padded, Pairs, folded, shown
from backproof.plugins.gallery.conv.windows import pixels_from
from backproof.plugins.gallery.fault import fault

padded_before = some_axis("padding before x", lambda axis: axis.low > 0)


def reaches(g):
    """D (K - 1) on each axis: the full padding of a convolution that is not padded."""
    return [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]


def lows(g):
    return [low for low, _ in g.padding]


# Taking it off dx.


@fault("dx", padded, source="M17 by hand")
class keeps_the_padding(Padded):
    """dx is returned as large as the padded input."""

    def crop(self, dpadded, shape, g):
        return dpadded


@fault("dx", unpadded, source="M18 by hand")
class crops_everything_where_nothing_is_padded(Padded):
    """dx is cut with [padding:-padding], which is empty for a padding of 0."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *[slice(low, -low) for low, _ in g.padding])]


@fault("dx", padded, source="M19 by hand")
class crops_the_first_axis_only(Padded):
    """The padding is taken off the rows of dx, and left on its columns."""

    def crop(self, dpadded, shape, g):
        low, _ = g.padding[0]
        return dpadded[:, :, low : low + shape[2]]


@fault("dx identities", padded_before, source="H199 NNlib.jl#133 (max pooling)")
class does_not_subtract_the_padding(Conv):
    """dx begins with the gradient of the first padded pixel."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *map(slice, shape[2:]))]


@fault("dx", asymmetric, source="M20 by hand")
class crops_the_low_padding_on_both_sides(Conv):
    """dx is cut as if there were as much padding after x as before it."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *[slice(low, n - low) for (low, _), n in zip(g.padding, g.size, strict=True)])]


@fault("dx identities", asymmetric, source="own")
class exchanges_the_sides_of_the_padding(Conv):
    """dx is cut as if the padding before x stood after it."""

    def crop(self, dpadded, shape, g):
        return super().crop(dpadded, shape, g._replace(padding=[pads[::-1] for pads in g.padding]))


@fault("dx identities", padded_before | dilated, source="M34 by hand")
class pads_dout_by_the_kernel_alone(Conv):
    """dx correlates dout with K - 1 zeros around it, for D (K - 1) less the padding of x."""

    def crop(self, dpadded, shape, g):
        starts = [reach - k + 1 for reach, k in zip(reaches(g), g.kernel, strict=True)]
        return pixels_from(dpadded, starts, shape)


@fault("dx identities", overpadded, source="M35 by hand")
class clamps_the_padding_of_dx(Conv):
    """Padding beyond the dilated kernel would have to crop dout; it does nothing."""

    def crop(self, dpadded, shape, g):
        clamped = [(min(low, reach), 0) for low, reach in zip(lows(g), reaches(g), strict=True)]
        return super().crop(dpadded, shape, g._replace(padding=clamped))


@fault(
    "dx",
    some_axis("stride > 1 and padding > dilated kernel - 1", lambda a: a.stride > 1 and a.low > a.reach - 1),
    source="H67 jax-mps PR#150",
)
class crops_dout_before_spreading_it(Conv):
    """Padding beyond the dilated kernel crops dout before S - 1 zeros are put between its pixels: S times too much."""

    def crop(self, dpadded, shape, g):
        axes = zip(lows(g), reaches(g), g.stride, strict=True)
        return pixels_from(dpadded, [low + (s - 1) * max(0, low - reach) for low, reach, s in axes], shape)


@fault("dx identities", some_axis("stride > 1 and padding > 0", lambda a: a.stride > 1 and a.low > 0), source="own")
class divides_the_padding_by_the_stride(Conv):
    """The padding is taken off before dx is spread, in steps of the stride."""

    def crop(self, dpadded, shape, g):
        sides = zip(g.padding, g.stride, strict=True)
        return super().crop(dpadded, shape, g._replace(padding=[(low // s, high) for (low, high), s in sides]))


@fault("dx identities", some_axis("dilation > 1 and padding > 0", lambda a: a.dilation > 1 and a.low > 0), source="own")
class dilates_the_padding(Conv):
    """The offset of a tap is D (k - P) instead of D k - P."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [low * d for low, d in zip(lows(g), g.dilation, strict=True)], shape)


@fault("dx identities", even_kernel, source="H71 Flux.jl#1605, after its symptom")
class centres_even_kernels(Conv):
    """The middle of a kernel is taken to be tap K // 2 from either end, which for an even one is a pixel off."""

    def scatter(self, back, g):
        off = [1 - k % 2 for k in g.kernel]
        return np.roll(super().scatter(back, g), off, range(2, 2 + len(off)))


# Putting it on.


@fault("out dx dw", some_axis("low padding != half of both", lambda a: a.low != (a.low + a.high) // 2), source="own")
class splits_the_padding_evenly(Conv):
    """Both sides' padding is added up and put half before x and half behind it, forward and backward alike."""

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        even = tuple((sum(pads) // 2, sum(pads) - sum(pads) // 2) for pads in padding)
        return super().conv_forward(x, w, b, stride, even, dilation, groups)


@fault("out dw identities relations", padded, source="own")
class leaves_the_padding_unwritten(Conv):
    """x is copied into the middle of a padded buffer that was not zeroed."""

    def pad(self, x, g):
        unwritten = super().pad(np.ones_like(x), g) == 0
        return np.where(unwritten, 77.0, super().pad(x, g))


def other_number_of_windows(words, padding):
    """Whether with so much padding another number of windows would fit."""
    return some_axis(words, lambda a: max(0, (a.size + padding(a) - a.reach) // a.stride + 1) != a.out)


def as_if_padded_by(pads, out, x, g):
    """out, cut off or filled up with zeros to the size that so much padding would give."""
    axes = zip(x.shape[2:], pads, reaches(g), g.stride, strict=True)
    sizes = [max(0, (n + pad - reach - 1) // s + 1) for n, pad, reach, s in axes]
    larger = np.zeros((*out.shape[:2], *map(max, sizes, out.shape[2:])))
    larger[(..., *map(slice, out.shape[2:]))] = out
    return larger[(..., *map(slice, sizes))]


fewer_unpadded = other_number_of_windows("fewer windows without padding", lambda axis: 0)
fewer_behind = other_number_of_windows("fewer windows without the padding behind x", lambda axis: axis.low)
otherwise_twice = other_number_of_windows("another number with twice the low padding", lambda axis: 2 * axis.low)


@fault("out", fewer_unpadded, source="own")
class sizes_out_without_the_padding(Conv):
    """The size of out is computed from x before it is padded, so that its last windows are missing."""

    def forward(self, x, w, *options):
        out, cache = super().forward(x, w, *options)
        return as_if_padded_by((0, 0), out, x, cache[2]), cache


@fault("out", fewer_behind, source="own")
class ignores_the_high_padding(Conv):
    """The size of out counts the padding before x alone."""

    def forward(self, x, w, *options):
        out, cache = super().forward(x, w, *options)
        return as_if_padded_by(lows(cache[2]), out, x, cache[2]), cache


@fault("out", otherwise_twice, source="own")
class counts_the_low_padding_twice(Conv):
    """The size of out is computed with 2 P, P the padding before x, whatever there is behind it."""

    def forward(self, x, w, *options):
        out, cache = super().forward(x, w, *options)
        return as_if_padded_by([2 * low for low in lows(cache[2])], out, x, cache[2]), cache


# Padding modes.

repeating = mode("reflect", "replicate", "circular")


class Framed(Bordered):
    """Right, in every padding mode and with padding that may differ on every side."""

    def conv_forward(self, x, w, b, padding: Pairs, padding_mode):
        return self.forward(x, w, b, padding=padding, mode=padding_mode)


class Reflecting(Bordered):
    """Right, with reflections alone around x."""

    def conv_forward(self, x, w, b, padding: Pairs, padding_mode: Literal["reflect"]):
        return self.forward(x, w, b, padding=padding, mode=padding_mode)


class Wrapping(Bordered):
    """Right, with x repeated around itself."""

    def conv_forward(self, x, w, b, padding: Pairs, padding_mode: Literal["circular"]):
        return self.forward(x, w, b, padding=padding, mode=padding_mode)


@fault("dx", repeating, source="own")
class crops_a_repeated_border(Framed):
    """The gradient of the padding is dropped in every mode, though it may show pixels of x."""

    def crop(self, dpadded, shape, g):
        return Conv.crop(self, dpadded, shape, g)


@fault("dx", repeating, source="own")
class counts_a_repeated_pixel_once(Framed):
    """dx[shown] += dpadded keeps one of the gradients of a pixel that is shown several times."""

    def crop(self, dpadded, shape, g):
        if g.mode == "zeros":
            return super().crop(dpadded, shape, g)
        rows, columns = shown(MODES[g.mode], shape, g)
        dx = np.zeros((len(dpadded), *shape[1:]))
        dx[:, :, rows[:, None], columns] += dpadded
        return dx


@fault("out dx dw", repeating, source="own")
class pads_with_zeros_in_every_mode(Framed):
    """The padding mode is accepted and ignored, forward and backward alike."""

    def conv_forward(self, x, w, b, padding: Pairs, padding_mode):
        return super().conv_forward(x, w, b, padding, "zeros")


@fault("dw", repeating, source="own")
class pads_with_zeros_for_dw(Framed):
    """dw is computed from an x that is padded anew, with zeros, whatever the forward padded it with."""

    def dw(self, upstream, padded, g):
        sizes = [n - sum(pads) for n, pads in zip(g.size, g.padding, strict=True)]
        zeroed = self.pad(Conv.crop(self, padded, (0, 0, *sizes), g), g._replace(mode="zeros"))
        return super().dw(upstream, zeroed, g)


@fault("dx", repeating & every_axis("padding on every axis", lambda axis: axis.low + axis.high > 0), source="own")
class drops_the_corners_of_the_border(Framed):
    """The gradient of the padding is folded from the four sides, and what stands in the corners is lost."""

    def crop(self, dpadded, shape, g):
        if g.mode != "zeros":
            inside = [
                (low <= np.arange(n)) & (np.arange(n) < n - high)
                for n, (low, high) in zip(g.size, g.padding, strict=True)
            ]
            dpadded = np.where(inside[0][:, None] | inside[1], dpadded, 0.0)
        return super().crop(dpadded, shape, g)


@fault("dx", repeating & asymmetric, source="own")
class folds_the_sides_of_the_padding_exchanged(Framed):
    """The gradient of a repeated border is folded as if the padding before x stood after it."""

    def crop(self, dpadded, shape, g):
        pads = g.padding if g.mode == "zeros" else tuple(pair[::-1] for pair in g.padding)
        return super().crop(dpadded, shape, g._replace(padding=pads))


@fault("dx identities", mode("reflect"), source="own")
class counts_the_edge_twice_in_reflect(Reflecting):
    """The gradient of a reflection is added to the pixels from the edge on, not to those from the next one on."""

    def crop(self, dpadded, shape, g):
        return folded(dpadded, shown("symmetric", shape, g))


@fault("out dx dw relations", mode("reflect"), source="own")
class repeats_the_edge_in_reflect(Reflecting):
    """A reflection begins with the edge, as NumPy's "symmetric" has it, forward and backward alike."""

    def pad(self, x, g):
        return np.pad(x, ((0, 0), (0, 0), *g.padding), "symmetric")

    def crop(self, dpadded, shape, g):
        return folded(dpadded, shown("symmetric", shape, g))


@fault("dx identities", some_axis("padding > 1", lambda axis: max(axis.low, axis.high) > 1), source="own")
class folds_reflections_in_their_order(Reflecting):
    """The gradient of a reflection is added to the pixels that it shows, but is not turned around."""

    def crop(self, dpadded, shape, g):
        places = shown("reflect", shape, g)
        for at, (low, _), n in zip(places, g.padding, shape[2:], strict=True):
            at[:low], at[low + n :] = at[:low][::-1].copy(), at[low + n :][::-1].copy()
        return folded(dpadded, places)


def near_side(shape, g):
    """The first pixels for the padding before x and the last for that behind it."""
    axes = zip(shape[2:], g.padding, strict=True)
    return [np.concatenate([np.arange(low), np.arange(n), np.arange(n - high, n)]) for n, (low, high) in axes]


@fault("dx identities", mode("circular"), source="own")
class folds_circular_padding_to_the_near_side(Wrapping):
    """The gradient of the padding before x is added to the first pixels, though it shows the last ones."""

    def crop(self, dpadded, shape, g):
        return folded(dpadded, near_side(shape, g))


@fault("out dx dw relations", mode("circular"), source="own")
class wraps_circular_padding_from_the_near_side(Wrapping):
    """Circular padding puts the first pixels before x instead of the last, forward and backward alike."""

    def pad(self, x, g):
        rows, columns = near_side(x.shape, g)
        return x[:, :, rows[:, None], columns]

    def crop(self, dpadded, shape, g):
        return folded(dpadded, near_side(shape, g))

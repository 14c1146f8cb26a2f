"""Faults of kernels that work in tiles, and of sizes that they do not reckon with."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import Condition, axes, shape, size, spatial, when
from backproof.plugins.gallery.conv.bases import Conv, Plain, Spatial
from backproof.plugins.gallery.fault import fault


def beyond_tiles(what: str, array: str, axis: int, tile: int = 8) -> Condition:
    """Whether there are whole tiles and something more."""
    return size(array, axis, f"more {what} than whole tiles of {tile}", lambda n: n > tile and n % tile > 0)


@fault("out", beyond_tiles("channels", "x", 1), source="H49 pytorch#21597")
class drops_the_tail_of_the_channels(Plain):
    """out sums over whole tiles of eight channels; a tail counts only where it is all there is."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        whole = w.shape[1] // 8 * 8 or w.shape[1]
        return super().conv_forward(x[:, :whole], w[:, :whole], b)[0] if whole < w.shape[1] else out, cache


@fault("dx", beyond_tiles("filters", "w", 0), source="own: H49 pytorch#21597, in dx")
class drops_the_tail_of_the_filters(Plain):
    """dx sums over whole tiles of eight filters; a tail counts only where it is all there is."""

    def dx(self, upstream, w, g):
        whole = len(w) // 8 * 8 or len(w)
        return super().dx(upstream[:, :, :whole], w[:whole], g)


@fault("dx", beyond_tiles("filters", "w", 0), source="own: the last tile moved back to the edge")
class counts_the_filters_of_two_tiles_twice(Plain):
    """dx moves the last tile of eight filters back to fit, and adds those that it shares with the one before it."""

    def dx(self, upstream, w, g):
        shared = (len(w) // 8 + 1) * 8 - len(w)
        if len(w) < 8 or shared == 8:
            return super().dx(upstream, w, g)
        at = [*range(len(w) // 8 * 8), *range(len(w) - 8, len(w))]
        return super().dx(upstream[:, :, at], w[at], g)


@fault("dw", beyond_tiles("samples", "x", 0), source="own: samples unrolled by eight")
class drops_the_tail_of_the_batch(Plain):
    """dw sums over whole tiles of eight samples; a tail counts only where it is all there is."""

    def dw(self, upstream, padded, g):
        whole = len(upstream) // 8 * 8 or len(upstream)
        return super().dw(upstream[:whole], padded[:whole], g)


@fault("out", beyond_tiles("columns of out", "dout", 3, 4), source="own: outputs stored four at a time")
class leaves_the_last_columns_unwritten(Plain):
    """out is stored in tiles of four columns; what stands behind the last whole one is what was in memory."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        if out.shape[3] > 4:
            out[..., out.shape[3] // 4 * 4 :] = 77
        return out, cache


@when("more outputs a filter than whole tiles of 4")
def beyond_pixels(case):
    pixels = prod(shape(case, "dout")[2:])
    return pixels > 4 and pixels % 4 > 0


@fault("db identities", beyond_pixels, source="own: a tail without a mask")
class does_not_mask_the_tail(Plain):
    """db reads the pixels of a filter in tiles of four, in the last of them on into what lies behind them."""

    def db(self, dout):
        batch, filters, *out = dout.shape
        pixels, flat = prod(out), dout.ravel()
        read = -(-pixels // 4) * 4 if pixels > 4 else pixels
        at = np.arange(batch * filters)[:, None] * pixels + np.arange(read)
        return flat[at % max(1, dout.size)].reshape(batch, filters, read).sum(axis=(0, 2))


@fault("dw", size("x", 0, "batch > 32", lambda n: n > 32), source="H87 pytorch#96225, scaled down from 65536")
class leaves_out_the_samples_behind_the_32nd(Plain):
    """dw counts the samples in a number that is too small: those behind the thirty-second are left out."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream[:32], padded[:32], g)


@fault("dw", size("x", 0, "batch > 16", lambda n: n > 16), source="own: partial sums of dw over blocks of the batch")
class loses_the_first_block_of_the_batch(Plain):
    """dw is summed in blocks of sixteen samples; the second block is assigned instead of added."""

    def dw(self, upstream, padded, g):
        lost = 16 if len(upstream) > 16 else 0
        return super().dw(upstream[lost:], padded[lost:], g)


@when("a padded x of more than 256 entries")
def beyond_a_byte(case):
    return prod(shape(case, "x")[:2]) * prod(axis.padded for axis in axes(case)) > 256


@fault("out", spatial(3) & beyond_a_byte, source="H89 pytorch#84488, scaled down from 2^31")
class counts_offsets_of_volumes_in_a_byte(Spatial):
    """The forward for volumes keeps the offsets into the padded x in integers that are too small and wrap around."""

    def conv_forward(self, x, w, b, stride, padding: tuple[tuple[int, int], ...], dilation, groups):
        out, cache = super().conv_forward(x, w, b, stride, padding, dilation, groups)
        padded = self.pad(x, cache[2])
        if x.ndim == 5 and padded.size > 256:
            padded = padded.ravel()[np.arange(padded.size) % 256].reshape(padded.shape)
            out, _ = super().conv_forward(padded, w, b, stride, ((0, 0),) * 3, dilation, groups)
        return out, cache


@fault("dx", size("x", 3, "width > 8", lambda n: n > 8), source="own: rows of an image copied to a tile of fixed width")
class keeps_rows_in_a_tile_of_eight(Conv):
    """dx is gathered in rows of eight pixels: what belongs to a wider image is added to the pixel eight before it."""

    def crop(self, dpadded, shape, g):
        dx = super().crop(dpadded, shape, g)
        tile = dx[..., :8].copy()
        for begin in range(8, shape[3], 8):
            part = dx[..., begin : begin + 8]
            tile[..., : part.shape[-1]] += part
        return np.concatenate([tile, np.zeros_like(dx[..., 8:])], axis=3)

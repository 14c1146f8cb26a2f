"""Convolutions that take a way around, or a short cut for some cases, and are right."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np

from backproof.plugins.gallery.equivalents.conv import (
    BOTH,
    Convolved,
    Geometry,
    by_group,
    merged,
    mixed,
    spread,
    turned_over,
)
from backproof.plugins.gallery.fault import equivalent


@equivalent("own: a group is a block of a dense kernel")
class fills_a_dense_kernel_with_zeros(Convolved):
    """There are no groups: every filter sees all channels, through zeros, and dw is cut from the dense dw."""

    def dense(self, w, groups):
        filters, channels = len(w) // groups, w.shape[1]
        kernel = np.zeros((len(w), groups * channels, *w.shape[2:]), w.dtype)
        for k in range(groups):
            kernel[self.block(k, filters, channels)] = w[k * filters : (k + 1) * filters]
        return kernel

    def block(self, k, filters, channels):
        return slice(k * filters, (k + 1) * filters), slice(k * channels, (k + 1) * channels)

    def out(self, padded, w, g):
        return super().out(padded, self.dense(w, g.groups), g._replace(groups=1))

    def dx(self, dout, w, g):
        return super().dx(dout, self.dense(w, g.groups), g._replace(groups=1))

    def dw(self, dout, padded, g):
        dense = super().dw(dout, padded, g._replace(groups=1))
        filters, channels = dense.shape[0] // g.groups, dense.shape[1] // g.groups
        return np.concatenate([dense[self.block(k, filters, channels)] for k in range(g.groups)])


@equivalent("own")
class multiplies_pixels_alone(Convolved):
    """A 1x1 kernel takes a way of its own, without windows: it sees the padding, and with a stride it skips pixels."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def out(self, padded, w, g):
        if prod(g.kernel) > 1:
            return super().out(padded, w, g)
        seen = padded[(..., *[slice(None, None, s) for s in g.stride])]
        return mixed(seen, w.reshape(w.shape[:2]), g.groups)

    def dx(self, dout, w, g):
        if prod(g.kernel) > 1:
            return super().dx(dout, w, g)
        apart = spread(mixed(dout, turned_over(w.reshape(w.shape[:2]), g.groups), g.groups), g.stride)
        rest = [(0, n - q) for n, q in zip(g.size, apart.shape[2:], strict=True)]
        return np.pad(apart, ((0, 0), (0, 0), *rest))


@equivalent("own: depthwise kernels")
class multiplies_channels_alone(Convolved):
    """Depthwise filters take a way of their own, without a sum over channels. One channel is none to sum over."""

    def out(self, padded, w, g):
        if g.groups < padded.shape[1]:
            return super().out(padded, w, g)
        seen = np.repeat(padded, len(w) // g.groups, axis=1)
        return sum(seen[pixels] * self.tap(w, tap) for tap, pixels in g.taps)

    def dx(self, dout, w, g):
        if w.shape[1] > 1:
            return super().dx(dout, w, g)
        total = np.zeros((*dout.shape[:2], *g.size), dout.dtype)
        for tap, pixels in g.taps:
            total[pixels] += dout * self.tap(w, tap)
        return by_group(total, g.groups).sum(axis=2)

    def dw(self, dout, padded, g):
        if g.groups < padded.shape[1]:
            return super().dw(dout, padded, g)
        seen = np.repeat(padded, dout.shape[1] // g.groups, axis=1)
        taps = [(dout * seen[pixels]).sum(axis=(0, 2, 3)) for _, pixels in g.taps]
        return np.stack(taps, axis=-1).reshape(-1, 1, *g.kernel)

    def tap(self, w, tap):
        return w[(slice(None), 0, *tap)][:, None, None]


@equivalent("own")
class computes_every_pixel_and_drops_some(Convolved):
    """out is computed for a stride of 1, whatever the stride, and then sliced; dout is filled up with zeros."""

    def out(self, padded, w, g):
        return super().out(padded, w, g.every_pixel)[(..., *[slice(None, None, s) for s in g.stride])]

    def dx(self, dout, w, g):
        return super().dx(self.filled_up(dout, g), w, g.every_pixel)

    def dw(self, dout, padded, g):
        return super().dw(self.filled_up(dout, g), padded, g.every_pixel)

    def filled_up(self, dout, g):
        apart = spread(dout, g.stride)
        rest = [(0, n - q) for n, q in zip(g.every_pixel.out, apart.shape[2:], strict=True)]
        return np.pad(apart, ((0, 0), (0, 0), *rest))


@equivalent("own: space to depth")
class deals_pixels_out_by_the_stride(Convolved):
    """x is dealt out into stride x stride smaller images, and within each of them no window has a stride."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def hands(self, g):
        """For every tap the image that it reads, and the pixels there."""
        for tap in np.ndindex(*g.kernel):
            places = [divmod(k * d, s) for k, d, s in zip(tap, g.dilation, g.stride, strict=True)]
            image = (..., *[slice(first, None, s) for (_, first), s in zip(places, g.stride, strict=True)])
            yield tap, image, (..., *[slice(at, at + q) for (at, _), q in zip(places, g.out, strict=True)])

    def out(self, padded, w, g):
        hands = self.hands(g)
        return sum(mixed(padded[image][pixels], w[(..., *tap)], g.groups) for tap, image, pixels in hands)

    def dx(self, dout, w, g):
        total = np.zeros((len(dout), g.groups * w.shape[1], *g.size), dout.dtype)
        for tap, image, pixels in self.hands(g):
            total[image][pixels] += mixed(dout, turned_over(w[(..., *tap)], g.groups), g.groups)
        return total


@equivalent("own: the Toeplitz matrix")
class multiplies_by_the_whole_matrix(Convolved):
    """The kernel is a matrix of all pixels by all windows, most of it zeros; dx is a product with it transposed."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1,)}}

    def matrix(self, w, g):
        places = np.arange(g.size[0])
        matrix = np.zeros((*w.shape[:2], *g.out, *g.size), w.dtype)
        for tap, pixels in g.taps:
            matrix[:, :, np.arange(g.out[0]), places[pixels]] = w[(..., *tap)][..., None]
        return by_group(matrix, g.groups, 0)

    def out(self, padded, w, g):
        return merged(np.einsum("gocqi,ngci->ngoq", self.matrix(w, g), by_group(padded, g.groups)), 1)

    def dx(self, dout, w, g):
        return merged(np.einsum("gocqi,ngoq->ngci", self.matrix(w, g), by_group(dout, g.groups)), 1)


@equivalent("own")
class adds_row_by_row(Convolved):
    """Rows of out are computed one at a time, the last one first; the gradients grow with every row of dout."""

    def rows(self, g):
        """For each row of out, and each row of the kernel, the padded row that it reads, as an image of one row."""
        line = Geometry(g.stride[1:], g.padding[1:], g.dilation[1:], g.groups, g.mode, g.kernel[1:], g.size[1:])
        for row in reversed(range(g.out[0])):
            for tap in range(g.kernel[0]):
                yield row, tap, row * g.stride[0] + tap * g.dilation[0], line

    def out(self, padded, w, g):
        out = np.zeros((len(padded), len(w), *g.out), padded.dtype)
        for row, tap, pixels, line in self.rows(g):
            out[:, :, row] += super().out(padded[:, :, pixels], w[:, :, tap], line)
        return out

    def dx(self, dout, w, g):
        total = np.zeros((len(dout), g.groups * w.shape[1], *g.size), dout.dtype)
        for row, tap, pixels, line in self.rows(g):
            total[:, :, pixels] += super().dx(dout[:, :, row], w[:, :, tap], line)
        return total

    def dw(self, dout, padded, g):
        total = np.zeros((dout.shape[1], padded.shape[1] // g.groups, *g.kernel), dout.dtype)
        for row, tap, pixels, line in self.rows(g):
            total[:, :, tap] += super().dw(dout[:, :, row], padded[:, :, pixels], line)
        return total


@equivalent("own")
class goes_through_three_axes(Convolved):
    """Everything is a convolution over three axes; those that are missing have size 1."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1,)}}

    def out(self, padded, w, g):
        out = super().out(*self.raised(2, padded, w), self.solid(g))
        return out.reshape(*out.shape[:2], *g.out)

    def dx(self, dout, w, g):
        dx = super().dx(*self.raised(2, dout, w), self.solid(g))
        return dx.reshape(*dx.shape[:2], *g.size)

    def dw(self, dout, padded, g):
        dw = super().dw(*self.raised(2, dout, padded), self.solid(g))
        return dw.reshape(*dw.shape[:2], *g.kernel)

    def raised(self, axis, *arrays):
        return [a.reshape(*a.shape[:axis], *[1] * (5 - a.ndim), *a.shape[axis:]) for a in arrays]

    def solid(self, g):
        more = (1,) * (3 - len(g.size))
        sizes = {name: more + getattr(g, name) for name in ("stride", "dilation", "kernel", "size")}
        return g._replace(**sizes)

"""Convolutions that come by their sums in a way that looks wrong and is right."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from backproof.plugins.gallery.fault import equivalent

BOTH = ("float64", "float32")
Pairs = tuple[tuple[int, int], ...]
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Geometry(NamedTuple):
    """How the kernel walks over the padded input: a number for each axis, of `padding` a pair."""

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    mode: str
    kernel: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def reach(self):
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def out(self):
        return tuple((n - r) // s + 1 for n, r, s in zip(self.size, self.reach, self.stride, strict=True))

    @property
    def taps(self):
        """Every tap, with the padded pixels that it reads."""
        for tap in np.ndindex(*self.kernel):
            axes = zip(tap, self.dilation, self.out, self.stride, strict=True)
            yield tap, (..., *[slice(k * d, k * d + (q - 1) * s + 1, s) for k, d, q, s in axes])

    @property
    def every_pixel(self):
        return self._replace(stride=(1,) * len(self.stride))


class Convolved:
    """Tap by tap, each step in a place of its own."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (2,)}}

    def conv_forward(self, x, w, b=None, *, stride, padding: Pairs, dilation, groups, padding_mode):
        return self.forward(x, w, b, stride, padding, dilation, groups, padding_mode)

    def forward(self, x, w, b, stride, padding, dilation, groups=1, mode="zeros"):
        size = tuple(n + low + high for n, (low, high) in zip(x.shape[2:], padding, strict=True))
        g = Geometry(stride, padding, dilation, groups, mode, w.shape[2:], size)
        padded = self.padded(x, g)
        out = self.out(padded, w, g)
        return out if b is None else out + b.reshape(-1, *[1] * len(size)), (padded, w, b, g)

    def conv_backward(self, dout, cache):
        padded, w, b, g = cache
        db = None if b is None else dout.sum(axis=(0, *range(2, dout.ndim)))
        return self.cropped(self.dx(dout, w, g), g), self.dw(dout, padded, g), db

    def out(self, padded, w, g):
        total = np.zeros((len(padded), len(w), *g.out), padded.dtype)
        for tap, pixels in g.taps:
            total += mixed(padded[pixels], w[(..., *tap)], g.groups)
        return total

    def dx(self, dout, w, g):
        total = np.zeros((len(dout), g.groups * w.shape[1], *g.size), dout.dtype)
        for tap, pixels in g.taps:
            total[pixels] += mixed(dout, turned_over(w[(..., *tap)], g.groups), g.groups)
        return total

    def dw(self, dout, padded, g):
        total = np.zeros((dout.shape[1], padded.shape[1] // g.groups, *g.kernel), dout.dtype)
        for tap, pixels in g.taps:
            total[(..., *tap)] = paired(dout, padded[pixels], g.groups)
        return total

    def padded(self, x, g):
        return np.pad(x, ((0, 0), (0, 0), *g.padding), mode=MODES[g.mode])

    def cropped(self, dpadded, g):
        """Every padded pixel's gradient added to that of the pixel of x that it shows."""
        for axis, (size, (low, high)) in enumerate(zip(g.size, g.padding, strict=True), 2):
            inner, lines = size - low - high, np.moveaxis(dpadded, axis, 0)
            if g.mode == "zeros":
                lines = lines[low : low + inner]
            else:
                shown = self.shown(inner, low, high, g.mode)
                lines, hidden = np.zeros((inner, *lines.shape[1:]), lines.dtype), lines
                np.add.at(lines, shown, hidden)
            dpadded = np.moveaxis(lines, 0, axis)
        return dpadded

    def shown(self, inner, low, high, mode):
        return np.pad(np.arange(inner), (low, high), mode=MODES[mode])


def by_group(a, groups, axis=1):
    """The axis of channels as two: the group, and the place in it."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def merged(a, axis):
    """Group and place in it as one axis."""
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def mixed(images, matrix, groups):
    """A 1x1 convolution: a matrix of (outputs, inputs of a group) over the channels of every pixel."""
    out = by_group(matrix, groups, 0) @ in_lines(images, groups)
    return out.reshape(len(images), len(matrix), *images.shape[2:])


def paired(up, images, groups):
    """The gradient of that matrix."""
    pairs = in_lines(up, groups) @ in_lines(images, groups).swapaxes(2, 3)
    return pairs.sum(axis=0).reshape(up.shape[1], images.shape[1] // groups)


def in_lines(images, groups):
    """Every channel's pixels as one line, by samples and groups."""
    return images.reshape(len(images), groups, images.shape[1] // groups, prod(images.shape[2:]))


def turned_over(matrix, groups):
    """The matrix of each group transposed."""
    return by_group(matrix, groups, 0).swapaxes(1, 2).reshape(-1, len(matrix) // groups)


def spread(a, steps, axis=2):
    """Zeros between the pixels, so that neighbours are `steps` apart."""
    sizes = [(n - 1) * s + 1 for n, s in zip(a.shape[axis:], steps, strict=True)]
    wider = np.zeros((*a.shape[:axis], *sizes), a.dtype)
    wider[(..., *[slice(None, None, s) for s in steps])] = a
    return wider


def flipped(w):
    """The kernel turned by 180 degrees."""
    return np.flip(w, tuple(range(2, w.ndim)))


@equivalent("PyTorch #15501: dw by hand is another one; own: im2col")
class multiplies_columns(Convolved):
    """There is no window: every one is a column of a matrix, in which most pixels of x stand several times."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def columns(self, padded, g):
        windows = np.stack([padded[pixels] for _, pixels in g.taps], axis=2)
        return windows.reshape(len(padded), g.groups, padded.shape[1] // g.groups * prod(g.kernel), prod(g.out))

    def out(self, padded, w, g):
        filters = w.reshape(g.groups, len(w) // g.groups, -1)
        return (filters @ self.columns(padded, g)).reshape(len(padded), len(w), *g.out)

    def dw(self, dout, padded, g):
        products = (in_lines(dout, g.groups) @ self.columns(padded, g).swapaxes(2, 3)).sum(axis=0)
        return products.reshape(dout.shape[1], -1, *g.kernel)


@equivalent("PyTorch #15501: dw by hand is another one")
class sums_over_views_of_windows(Convolved):
    """The windows are a view in which the pixels of x stand several times; nothing is ever written to it."""

    def windows(self, padded, g):
        axes = tuple(range(2, padded.ndim))
        steps = [slice(None, None, s) for s in (*g.stride, *g.dilation)]
        return by_group(sliding_window_view(padded, g.reach, axes)[(..., *steps)], g.groups)

    def out(self, padded, w, g):
        out = np.einsum("ngcpqhw,gochw->ngopq", self.windows(padded, g), by_group(w, g.groups, 0))
        return out.reshape(len(padded), len(w), *g.out)

    def dw(self, dout, padded, g):
        dw = np.einsum("ngopq,ngcpqhw->gochw", by_group(dout, g.groups), self.windows(padded, g))
        return dw.reshape(dout.shape[1], -1, *g.kernel)


@equivalent("own: kn2row")
class adds_shifted_products(Convolved):
    """Every tap is multiplied with every padded pixel, also with those that it never meets; those are thrown away."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def out(self, padded, w, g):
        return sum(mixed(padded, w[(..., *tap)], g.groups)[pixels] for tap, pixels in g.taps)


@equivalent("own: transposed convolution")
class turns_the_kernel_over_the_spread_dout(Convolved):
    """dx is a convolution: of dout with zeros between and around its pixels, and the kernel turned by 180 degrees."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def dx(self, dout, w, g):
        apart, around = spread(dout, g.stride), [r - 1 for r in g.reach]
        behind = [n - q for n, q in zip(g.size, apart.shape[2:], strict=True)]
        room = np.pad(apart, ((0, 0), (0, 0), *zip(around, behind, strict=True)))
        kernel = self.turned(w)
        swapped = by_group(kernel, g.groups, 0).swapaxes(1, 2).reshape(-1, len(w) // g.groups, *g.kernel)
        return Convolved.out(self, room, swapped, g.every_pixel._replace(size=room.shape[2:]))

    def turned(self, w):
        return flipped(w)


@equivalent("own: the backward of the filters in cuDNN's terms")
class walks_over_x_with_the_spread_dout(Convolved):
    """dw is a convolution whose kernel is dout: stride and dilation change places."""

    def dw(self, dout, padded, g):
        walk = g._replace(stride=g.dilation, dilation=g.stride, kernel=g.out)
        dw = np.zeros((dout.shape[1], padded.shape[1] // g.groups, *g.kernel), dout.dtype)
        # Without the remainder, else there would be windows too many.
        reach = tuple(slice(0, (q - 1) * s + r) for q, s, r in zip(g.out, g.stride, g.reach, strict=True))
        seen = padded[(..., *reach)]
        for tap, pixels in walk._replace(size=seen.shape[2:]).taps:
            filters = np.moveaxis(by_group(dout[(..., *tap)], g.groups), 0, 2)
            lines = np.moveaxis(by_group(seen[pixels], g.groups), 0, 1)
            dw += (filters @ lines.reshape(g.groups, len(dout), prod(dw.shape[1:]))).reshape(dw.shape)
        return dw

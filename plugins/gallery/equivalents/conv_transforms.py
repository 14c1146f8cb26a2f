"""Convolutions of transformed images and kernels: right, though they round in another way than sums of products."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from backproof.plugins.gallery.equivalents.conv import BOTH, Convolved, Pairs, by_group, flipped, merged, spread
from backproof.plugins.gallery.fault import equivalent


@equivalent("own: convolution by FFT")
class convolves_by_fft(Convolved):
    """Nothing slides: spectra are multiplied, and what wraps around at the borders falls on pixels that are cut off.

    A spectrum's rounding errors are in proportion to all of x, hence "exact": False.
    """

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (1, 2)}}

    def out(self, padded, w, g):
        pixels, kernel = spectrum(padded, 1, g), self.conjugated(spectrum(spread(w, g.dilation), 0, g))
        every = signal((pixels[:, :, None] * kernel).sum(axis=3), padded, g)
        steps = zip(g.size, g.reach, g.stride, strict=True)
        return merged(every, 1)[(..., *[slice(0, n - r + 1, s) for n, r, s in steps])]

    def dx(self, dout, w, g):
        up, kernel = spectrum(spread(dout, g.stride), 1, g), spectrum(spread(w, g.dilation), 0, g)
        return merged(signal((up[:, :, :, None] * kernel).sum(axis=2), dout, g), 1)

    def dw(self, dout, padded, g):
        pixels, up = spectrum(padded, 1, g), self.conjugated_dout(spectrum(spread(dout, g.stride), 1, g))
        every = signal((pixels[:, :, None] * up[:, :, :, None]).sum(axis=0), dout, g)
        taps = [slice(0, r, d) for r, d in zip(g.reach, g.dilation, strict=True)]
        return merged(every, 0)[(..., *taps)]

    def conjugated(self, kernel):
        return kernel.conj()

    def conjugated_dout(self, dout):
        return dout.conj()

    def conv_forward(self, x, w, b=None, *, stride, padding: Pairs, dilation, groups):
        return self.forward(x, w, b, stride, padding, dilation, groups)


def spectrum(a, axis, g):
    """The Fourier transform over the padded sizes, channels or filters by group."""
    return np.fft.rfftn(by_group(a, g.groups, axis), g.size, tuple(range(-len(g.size), 0)))


def signal(a, like, g):
    """The array whose spectrum it is, in the dtype of another."""
    return np.fft.irfftn(a, g.size, tuple(range(-len(g.size), 0))).astype(like.dtype)


@equivalent("own: Winograd's F(2, 3)")
class multiplies_four_times_for_two_outputs(Convolved):
    """Two outputs of a kernel of three take four products instead of six, of sums that stand in neither x nor w."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (1,)}}

    def conv_forward(self, x, w, b, padding: int):
        return self.forward(x, w, b, (1,), ((padding, padding),), (1,))

    def out(self, padded, w, g):
        """The kernel in pieces of three taps, the last filled up with zeros, and the outputs in pairs."""
        pieces, pairs = -(-g.kernel[0] // 3), -(-g.out[0] // 2)
        w = np.pad(w, ((0, 0), (0, 0), (0, 3 * pieces - g.kernel[0])))
        x = np.pad(padded, ((0, 0), (0, 0), (0, 2 * pairs + 3 * pieces)))
        out = np.zeros((len(x), len(w), 2 * pairs), x.dtype)
        for first in range(0, 3 * pieces, 3):
            d = [x[:, :, first + k : first + k + 2 * pairs : 2] for k in range(4)]
            k0, k1, k2 = (w[:, :, first + k] for k in range(3))
            m = (
                k0 @ (d[0] - d[2]),
                (k0 + k1 + k2) / 2 @ (d[1] + d[2]),
                (k0 - k1 + k2) / 2 @ (d[2] - d[1]),
                k2 @ (d[1] - d[3]),
            )
            out[:, :, ::2] += m[0] + m[1] + m[2]
            out[:, :, 1::2] += self.second(m)
        return out[:, :, : g.out[0]]

    def second(self, m):
        """The second of two neighbouring outputs."""
        return m[1] - m[2] - m[3]

    def dx(self, dout, w, g):
        around = g.kernel[0] - 1
        room = np.pad(dout, ((0, 0), (0, 0), (around, around)))
        return self.out(room, flipped(w).swapaxes(0, 1), g._replace(size=room.shape[2:]))


@equivalent("own: Winograd's F(2x2, 3x3)")
class multiplies_transformed_tiles(Convolved):
    """Tiles of 4 x 4 pixels and kernels of 3 x 3 become 16 numbers each, and four outputs come of 16 products."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (2,)}}
    of_pixels = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    of_kernel = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    of_outputs = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

    def conv_forward(self, x, w, b, padding: Pairs):
        return self.forward(x, w, b, (1, 1), padding, (1, 1))

    def out(self, padded, w, g):
        pieces, tiles = [-(-k // 3) for k in g.kernel], [-(-q // 2) for q in g.out]
        w = np.pad(w, ((0, 0), (0, 0), *[(0, 3 * p - k) for p, k in zip(pieces, g.kernel, strict=True)]))
        x = np.pad(padded, ((0, 0), (0, 0), *[(0, 2 * t + 3 * p) for t, p in zip(tiles, pieces, strict=True)]))
        out = np.zeros((len(x), len(w), 2 * tiles[0], 2 * tiles[1]), x.dtype)
        for row, column in np.ndindex(*pieces):
            kernel = both_sides(self.of_kernel, w[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3])
            pixels = sliding_window_view(x[:, :, 3 * row :, 3 * column :], (4, 4), (2, 3))
            pixels = both_sides(self.of_pixels, pixels[:, :, : 2 * tiles[0] : 2, : 2 * tiles[1] : 2])
            products = np.einsum("ocij,nctuij->notuij", kernel, pixels)
            outputs = both_sides(self.of_outputs, products).transpose(0, 1, 2, 4, 3, 5)
            out += outputs.reshape(out.shape)
        return out[:, :, : g.out[0], : g.out[1]]

    def dx(self, dout, w, g):
        room = np.pad(dout, ((0, 0), (0, 0), *[(k - 1, k - 1) for k in g.kernel]))
        return self.out(room, flipped(w).swapaxes(0, 1), g._replace(size=room.shape[2:]))


def both_sides(transform, a):
    """A linear map along the last axis but one, and along the last."""
    transform = transform.astype(a.dtype)
    return transform @ a @ transform.T


@equivalent("own: separable kernels by singular values")
class convolves_by_columns_and_rows(Convolved):
    """Every kernel is a sum of products of a column and a row, which are applied one after the other."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "exact": False, "conv": {"spatial_dims": (2,)}}

    def out(self, padded, w, g):
        columns, weights, rows = np.linalg.svd(w, full_matrices=False)
        columns = by_group(columns * weights[:, :, None], g.groups, 0)
        rows, images = by_group(rows, g.groups, 0), by_group(padded, g.groups)
        (height, width), (high, wide), (down, right), (up, across) = g.out, g.kernel, g.dilation, g.stride
        out = 0
        for k in range(columns.shape[-1]):
            inner = 0
            for t in range(wide):
                seen = images[..., t * right : t * right + (width - 1) * across + 1 : across]
                inner = inner + seen[:, :, None] * rows[:, :, :, k, t, None, None]
            for t in range(high):
                seen = inner[..., t * down : t * down + (height - 1) * up + 1 : up, :]
                out = out + (seen * columns[:, :, :, t, k, None, None]).sum(axis=3)
        return merged(out, 1)

"""Right convolutions, for the faulty ones to change in one place."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

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
    out: tuple[int, ...]

    @property
    def reach(self):
        """The padded pixels from the first to the last that a window touches."""
        axes = zip(self.kernel, self.dilation, self.out, self.stride, strict=True)
        return [(k - 1) * d + (q - 1) * s + 1 for k, d, q, s in axes]

    @property
    def remainder(self):
        return [n - reach for n, reach in zip(self.size, self.reach, strict=True)]


class Conv:
    """Right, with every option but the padding mode; each step is a method that a fault may change."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (2,)}}

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        return self.forward(x, w, b, stride, padding, dilation, groups)

    def forward(self, x, w, b, stride=1, padding=0, dilation=1, groups=1, mode="zeros"):
        def on_each_axis(value):
            return value if isinstance(value, tuple) else (value,) * (x.ndim - 2)

        stride, dilation = on_each_axis(stride), on_each_axis(dilation)
        padding = tuple(pad if isinstance(pad, tuple) else (pad, pad) for pad in on_each_axis(padding))
        size = tuple(n + low + high for n, (low, high) in zip(x.shape[2:], padding, strict=True))
        axes = zip(size, w.shape[2:], stride, dilation, strict=True)
        out = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in axes)
        g = Geometry(stride, padding, dilation, groups, mode, w.shape[2:], size, out)
        result = self.rows(w, g) @ self.columns(self.pad(x, g), g)
        return result.reshape(len(x), len(w), *out) + b.reshape(-1, *[1] * len(out)), (x, w, g)

    def conv_backward(self, dout, cache):
        x, w, g = cache
        upstream = dout.reshape(len(dout), g.groups, len(w) // g.groups, prod(g.out))
        dw = self.dw(upstream, self.pad(x, g), g).reshape(w.shape)
        return self.crop(self.dx(upstream, w, g), x.shape, g), dw, self.db(dout)

    def dx(self, upstream, w, g):
        back = self.rows(w, g).swapaxes(1, 2) @ upstream
        return self.scatter(back.reshape(len(back), g.groups * w.shape[1], prod(g.kernel), *g.out), g)

    def dw(self, upstream, padded, g):
        return (upstream @ self.columns(padded, g).swapaxes(-1, -2)).sum(axis=0)

    def db(self, dout):
        return dout.sum(axis=(0, *range(2, dout.ndim)))

    def rows(self, w, g):
        """Every filter as a row, by groups."""
        return w.reshape(g.groups, len(w) // g.groups, -1)

    def columns(self, padded, g):
        """Every window as a column, by samples and groups."""
        windows = np.stack([padded[self.cut(tap, g)] for tap in np.ndindex(*g.kernel)], axis=2)
        terms = padded.shape[1] // g.groups * prod(g.kernel)
        return windows.reshape(len(padded), g.groups, terms, prod(g.out))

    def scatter(self, back, g):
        """Every window added back to the padded pixels that it was cut from."""
        dpadded = np.zeros((*back.shape[:2], *g.size), back.dtype)
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            dpadded[self.cut(tap, g)] += back[:, :, t]
        return dpadded

    def scatter_wrongly(self, back, g, **changes):
        """As if the geometry were another; what falls outside is lost."""
        other = g._replace(**changes)
        roomy = other._replace(size=tuple(map(max, g.size, other.reach)))
        return Conv.scatter(self, back, roomy)[(..., *map(slice, g.size))]

    def cut(self, tap, g):
        """The padded pixels that one tap of the kernel reads."""
        axes = zip(tap, g.dilation, g.out, g.stride, strict=True)
        return (..., *[slice(k * d, k * d + (q - 1) * s + 1, s) for k, d, q, s in axes])

    def pad(self, x, g):
        if g.mode != "zeros":
            return np.pad(x, ((0, 0), (0, 0), *g.padding), MODES[g.mode])
        padded = np.zeros((*x.shape[:2], *g.size), x.dtype)
        sides = zip(g.padding, x.shape[2:], strict=True)
        padded[(..., *[slice(low, low + n) for (low, _), n in sides])] = x
        return padded

    def crop(self, dpadded, shape, g):
        axes = zip(g.padding, shape[2:], strict=True)
        return dpadded[(..., *[slice(low, low + n) for (low, _), n in axes])]


class Conv1d(Conv):
    """Right, over one axis."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (1,)}}


class Conv3d(Conv):
    """Right, over three axes."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (3,)}}


class Spatial(Conv):
    """Right, over two axes and over three."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (2, 3)}}


class Plain(Conv):
    """Right, without options."""

    def conv_forward(self, x, w, b):
        return self.forward(x, w, b)


class Strided(Conv):
    """Right, with one stride for both axes."""

    def conv_forward(self, x, w, b, stride: int):
        return self.forward(x, w, b, stride)


class Padded(Conv):
    """Right, with one padding for all sides."""

    def conv_forward(self, x, w, b, padding: int):
        return self.forward(x, w, b, padding=padding)


class Dilated(Conv):
    """Right, with a dilation for each axis."""

    def conv_forward(self, x, w, b, dilation):
        return self.forward(x, w, b, dilation=dilation)


class Grouped(Conv):
    """Right, with groups."""

    def conv_forward(self, x, w, b, groups):
        return self.forward(x, w, b, groups=groups)


class Spread(Conv):
    """Right, with one stride and one dilation for both axes."""

    def conv_forward(self, x, w, b, stride: int, dilation: int):
        return self.forward(x, w, b, stride, dilation=dilation)


class Walking(Conv):
    """Right, with one stride, one padding and one dilation for both axes."""

    def conv_forward(self, x, w, b, stride: int, padding: int, dilation: int):
        return self.forward(x, w, b, stride, padding, dilation)


class Bordered(Conv):
    """Right, in every padding mode."""

    def conv_forward(self, x, w, b, padding: int, padding_mode):
        return self.forward(x, w, b, padding=padding, mode=padding_mode)

    def crop(self, dpadded, shape, g):
        """A padded pixel that shows a pixel of x hands its gradient to it."""
        if g.mode == "zeros":
            return super().crop(dpadded, shape, g)
        return folded(dpadded, shown(MODES[g.mode], shape, g))


def folded(dpadded, shown):
    """The gradient of every padded pixel added to the pixel of x that it is taken to show, axis by axis."""
    for axis, places in enumerate(shown, 2):
        hidden = np.moveaxis(dpadded, axis, 0)
        collected = np.zeros((places.max() + 1, *hidden.shape[1:]))
        np.add.at(collected, places, hidden)
        dpadded = np.moveaxis(collected, 0, axis)
    return dpadded


def shown(name, shape, g):
    """For every padded pixel the pixel of x that it shows, in a mode of np.pad's."""
    return [np.pad(np.arange(n), pads, name) for n, pads in zip(shape[2:], g.padding, strict=True)]


class ChannelsLast(Conv):
    """Right, with the channels as the last axis of x and out."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"conv": {"spatial_dims": (2,), "layout": "channels_last"}}

    def conv_forward(self, x, w, b):
        out, cache = self.forward(np.moveaxis(x, -1, 1), w, b)
        return np.moveaxis(out, 1, -1), cache

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dw, db


class Single(Plain):
    """Right, asked in float32."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float32",), "conv": {"spatial_dims": (2,)}}


class Rounded(Plain):
    """Right, in 16 bits too: computed in float32 and rounded."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": ("bfloat16", "float16", "float32"),
        "conv": {"spatial_dims": (2,)},
    }

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(*[a.astype(np.float32) for a in (x, w, b)])
        return out.astype(x.dtype), cache

    def conv_backward(self, dout, cache):
        return [a.astype(dout.dtype) for a in super().conv_backward(dout.astype(np.float32), cache)]


class Unbiased(Plain):
    """Right, with a bias or without one."""

    def conv_forward(self, x, w, b=None):
        return self.forward(x, w, np.zeros(len(w), x.dtype) if b is None else b)


class Strict(Conv):
    """Right, and raises an error where a case has no meaning."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"rejects": True, "conv": {"spatial_dims": (2,)}}

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        self.check_sizes(x, w)
        self.check_groups(x, w, groups)
        self.check_channels(x, w, groups)
        self.check_padding(padding)
        self.check_fit(x, w, stride, padding, dilation)
        return self.forward(x, w, b, stride, padding, dilation, groups)

    def conv_backward(self, dout, cache):
        x, w, g = cache
        self.check_dout(dout, (len(x), len(w), *g.out))
        return super().conv_backward(dout, cache)

    def check_sizes(self, x, w):
        if 0 in (*x.shape[1:], *w.shape):
            raise ValueError(f"x of shape {x.shape} or w of shape {w.shape} has an axis of 0")

    def check_groups(self, x, w, groups):
        if x.shape[1] % groups or len(w) % groups:
            raise ValueError(f"{groups} groups do not divide {x.shape[1]} channels and {len(w)} filters")

    def check_channels(self, x, w, groups):
        if w.shape[1] != x.shape[1] // groups:
            raise ValueError(f"w has {w.shape[1]} channels, a group of x has {x.shape[1] // groups}")

    def check_padding(self, padding):
        if min(min(pads) for pads in padding) < 0:
            raise ValueError(f"the padding {padding} is negative")

    def check_fit(self, x, w, stride, padding, dilation):
        for n, k, (low, high), d in zip(x.shape[2:], w.shape[2:], padding, dilation, strict=True):
            if d * (k - 1) + 1 > n + low + high:
                raise ValueError(f"a kernel of {k} with dilation {d} does not fit into {n + low + high} pixels")

    def check_dout(self, dout, shape):
        if dout.shape != shape:
            raise ValueError(f"dout has the shape {dout.shape}, out has {shape}")


class Fourier(Plain):
    """Right, by products of Fourier transforms, which round otherwise than sums of products do."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"exact": False, "conv": {"spatial_dims": (2,)}}

    def conv_forward(self, x, w, b):
        size = x.shape[2:]
        product = np.einsum("nchw,ochw->nohw", np.fft.fft2(x), self.filters(w, size))
        height, width = (n - k + 1 for n, k in zip(size, w.shape[2:], strict=True))
        return np.fft.ifft2(product).real[..., :height, :width] + b.reshape(-1, 1, 1), (x, w)

    def conv_backward(self, dout, cache):
        x, w = cache
        upstream, size = np.fft.fft2(dout, x.shape[2:]), x.shape[2:]
        dx = np.fft.ifft2(np.einsum("nohw,ochw->nchw", upstream, np.fft.fft2(w, size))).real
        dw = np.fft.ifft2(np.einsum("nohw,nchw->ochw", upstream.conj(), np.fft.fft2(x))).real
        return dx, dw[..., : w.shape[2], : w.shape[3]], self.db(dout)

    def filters(self, w, size):
        """A correlation's: the conjugate turns them around."""
        return np.fft.fft2(w, size).conj()


class Winograd(Conv1d):
    """Right, without options; kernels of 3 by Winograd's minimal filtering, two outputs of four products at a time."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"exact": False, "conv": {"spatial_dims": (1,)}}
    OF_X = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    OF_W = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    OF_OUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

    def conv_forward(self, x, w, b):
        out, cache = self.forward(x, w, b)
        return (self.filtered(x, w, out.shape) + b[:, None] if w.shape[2] == 3 else out), cache

    def filtered(self, x, w, shape):
        tiles = -(-shape[2] // 2)
        room = np.zeros((*x.shape[:2], 2 * tiles + 2))
        room[..., : x.shape[2]] = x
        windows = np.stack([room[..., 2 * t : 2 * t + 4] for t in range(tiles)], axis=2)
        product = np.einsum("ncti,oci->noti", windows @ self.OF_X.T, w @ self.OF_W.T)
        return (product @ self.OF_OUT.T).reshape(*shape[:2], 2 * tiles)[..., : shape[2]]

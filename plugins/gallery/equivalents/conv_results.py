"""Convolutions whose memory, results or options look wrong and are right."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backproof.plugins.gallery.equivalents.conv import BOTH, Convolved, Pairs
from backproof.plugins.gallery.fault import equivalent


@equivalent("PyTorch #15501: dw by hand is another one; own: layers for channels last, called with channels first")
class convolves_channels_last_inside(Convolved):
    """All arrays inside have their channels last; out and dx are transposed views of those."""

    def conv_forward(self, x, w, b, stride: tuple[int, ...]):
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        sizes = zip(x.shape[2:], w.shape[2:], stride, strict=True)
        out = np.zeros((len(x), *[(n - k) // s + 1 for n, k, s in sizes], len(w)), x.dtype)
        for tap in np.ndindex(w.shape[2:]):
            out += last[self.seen(tap, stride, out)] @ w[(..., *tap)].T
        return np.moveaxis(out + b, -1, 1), (last, w, stride)

    def conv_backward(self, dout, cache):
        last, w, stride = cache
        up, dx, dw = np.moveaxis(dout, 1, -1), np.zeros_like(last), np.zeros_like(w)
        for tap in np.ndindex(w.shape[2:]):
            dx[self.reached(tap, stride, up)] += up @ w[(..., *tap)]
            dw[(..., *tap)] = np.tensordot(up, last[self.seen(tap, stride, up)], ((0, 1, 2), (0, 1, 2)))
        return np.moveaxis(dx, -1, 1), dw, up.sum(axis=(0, 1, 2))

    def seen(self, tap, stride, out):
        """The pixels that a tap of the kernel reads."""
        axes = zip(tap, out.shape[1:3], stride, strict=True)
        return (slice(None), *[slice(t, t + (q - 1) * s + 1, s) for t, q, s in axes])

    def reached(self, tap, stride, up):
        """The pixels that hand their gradient to a tap."""
        return self.seen(tap, stride, up)


@equivalent("own: TensorFlow's and JAX's layout")
class takes_images_channels_last(Convolved):
    """x and out have their channels last, as declared; w has its channels second all the same."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {
        "dtypes": BOTH,
        "conv": {"spatial_dims": (2,), "layout": "channels_last"},
    }

    def forward(self, x, w, b, *options):
        out, cache = super().forward(np.moveaxis(x, -1, 1), w, b, *options)
        return np.moveaxis(out, 1, -1), cache

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dw, db


@equivalent("own: padding without a copy")
class pads_by_arithmetic(Convolved):
    """No padding is ever written: an index beyond the border is reflected, clipped or taken modulo the size."""

    def padded(self, x, g):
        for axis, (low, high) in enumerate(g.padding, 2):
            inner = x.shape[axis]
            if g.mode == "zeros":
                x = np.concatenate([x, np.zeros_like(x.take([0], axis))], axis)
            x = x.take(self.shown(inner, low, high, g.mode), axis)
        return x

    def shown(self, inner, low, high, mode):
        places = np.arange(-low, inner + high)
        if mode == "zeros":
            return np.where((places < 0) | (places >= inner), inner, places)
        if mode == "replicate":
            return places.clip(0, inner - 1)
        if mode == "circular":
            return places % inner
        return inner - 1 - abs(inner - 1 - abs(places))


@equivalent("own: room for whole tiles")
class pads_more_than_it_needs(Convolved):
    """Around the padded x lie seven more pixels of NaN on every side; no window comes near them."""

    def padded(self, x, g):
        padded = super().padded(x, g)
        room = np.full((*x.shape[:2], *[n + 14 for n in g.size]), np.nan, x.dtype)
        inner = room[(..., *[slice(7, 7 + n) for n in g.size])]
        inner[...] = padded
        return inner


@equivalent("own: kernels for expanded gradients")
class views_dout_by_its_strides(Convolved):
    """dout is read by the strides that it has, a stride of 0 or below included, and never copied."""

    def dx(self, dout, w, g):
        filters = dout.shape[1] // g.groups
        total = np.zeros((len(dout), g.groups * w.shape[1], *g.size), dout.dtype)
        for k in range(g.groups):
            channels, up = slice(k * w.shape[1], (k + 1) * w.shape[1]), self.group(dout, k, filters)
            for tap, pixels in g.taps:
                matrix = w[(slice(k * filters, (k + 1) * filters), slice(None), *tap)]
                total[:, channels][pixels] += np.moveaxis(np.tensordot(up, matrix, ((1,), (0,))), -1, 1)
        return total

    def group(self, dout, k, filters):
        shape = len(dout), filters, *dout.shape[2:]
        return as_strided(dout[:, k * filters :], shape, dout.strides, writeable=False)


@equivalent("own")
class answers_in_scattered_arrays(Convolved):
    """out and all gradients lie in memory in no order that anybody asked for: backwards, and in every second place."""

    def forward(self, *arrays_and_options):
        out, cache = super().forward(*arrays_and_options)
        return scattered(out), cache

    def conv_backward(self, dout, cache):
        return [None if a is None else scattered(a) for a in super().conv_backward(dout, cache)]


def scattered(a):
    """A copy whose axes lie in memory in the other order, each backwards and with gaps."""
    wider = np.full([2 * size for size in reversed(a.shape)], 77, a.dtype)
    view = wider[tuple([slice(None, None, -2)] * a.ndim)].T
    view[...] = a
    return view


@equivalent("own: one workspace for all gradients")
class shares_one_workspace_between_gradients(Convolved):
    """All gradients are views of one buffer and lie between each other's numbers. None overlaps another."""

    def conv_backward(self, dout, cache):
        gradients = [a for a in super().conv_backward(dout, cache) if a is not None]
        shape = np.max([(*a.shape, 1, 1, 1)[:4] for a in gradients], axis=0)
        buffer = np.zeros((*shape, len(gradients)), dout.dtype)
        views = []
        for k, a in enumerate(gradients):
            view = buffer[(*map(slice, a.shape), *[0] * (4 - a.ndim), k)]
            view[...] = a
            views.append(view)
        return [*views, None][:3]


@equivalent("PyTorch #2330: a gradient that nobody wants")
class leaves_rubbish_for_no_filter_bias(Convolved):
    """Where there is no bias, text stands in the place of db. Nobody looks at it."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return {"dx": dx, "dw": dw, "db": "no bias" if db is None else db}


@equivalent("own: checkpointing")
class pads_once_more_in_the_backward(Convolved):
    """The cache holds the very arrays that were passed, and a function; the backward goes forward once more."""

    def forward(self, *arrays_and_options):
        def again():
            return Convolved.forward(self, *arrays_and_options)

        return again()[0], again

    def conv_backward(self, dout, again):
        return super().conv_backward(dout, again()[1])


@equivalent("own")
class refuses_dilation_with_groups(Convolved):
    """Some cases raise NotImplementedError. They are not asked for, and all others are right."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": BOTH, "conv": {"spatial_dims": (1, 2)}}

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        if groups > 1 and max(dilation) > 1:
            raise NotImplementedError("dilation with groups")
        return self.forward(x, w, b, stride, padding, dilation, groups)


@equivalent("own: gradients for some cases alone")
class goes_forward_alone_with_circular_padding(Convolved):
    """The forward knows every padding mode, and the backward raises NotImplementedError in one of them."""

    def conv_backward(self, dout, cache):
        if cache[-1].mode == "circular":
            raise NotImplementedError("dx of circular padding")
        return super().conv_backward(dout, cache)


@equivalent("own: 16 bits differ from float32")
class rounds_images_at_the_end(Convolved):
    """Formats of 16 bits are added up in float32, and only results are rounded: not the numbers of a 16-bit loop."""

    CONFORMANCE: ClassVar[dict[str, Any]] = {"dtypes": ("float16", "bfloat16"), "conv": {"spatial_dims": (1, 2)}}

    def forward(self, x, w, b, *options):
        wide = [None if a is None else a.astype(np.float32) for a in (x, w, b)]
        out, cache = super().forward(*wide, *options)
        return out.astype(x.dtype), cache

    def conv_backward(self, dout, cache):
        gradients = super().conv_backward(dout.astype(np.float32), cache)
        return [None if a is None else a.astype(dout.dtype) for a in gradients]


@equivalent("own: tensor cores that round the sum before they add the bias")
class rounds_before_the_bias(rounds_images_at_the_end):
    """In 16 bits the sum is rounded once before the bias is added, and once behind it."""

    def forward(self, x, w, b, *options):
        out, cache = super().forward(x, w, None, *options)
        padded, wide, _, g = cache
        bias = None if b is None else b.astype(np.float32)
        total = out if b is None else out.astype(np.float32) + bias.reshape(-1, *[1] * (x.ndim - 2))
        return total.astype(x.dtype), (padded, wide, bias, g)

"""Convolutions with one fault each."""

from __future__ import annotations

from math import prod
from typing import ClassVar, NamedTuple

import numpy as np

from . import fault

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

    CONFORMANCE: ClassVar = {"conv": {"spatial_dims": (2,)}}

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
        dpadded = np.zeros((*back.shape[:2], *g.size))
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
        return np.pad(x, ((0, 0), (0, 0), *g.padding), MODES[g.mode])

    def crop(self, dpadded, shape, g):
        axes = zip(g.padding, shape[2:], strict=True)
        return dpadded[(..., *[slice(low, low + n) for (low, _), n in axes])]


class Conv1d(Conv):
    """Right, over one axis."""

    CONFORMANCE: ClassVar = {"conv": {"spatial_dims": (1,)}}


class Conv3d(Conv):
    """Right, over three axes."""

    CONFORMANCE: ClassVar = {"conv": {"spatial_dims": (3,)}}


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
        for axis, pads in enumerate(g.padding, 2):
            shown = np.pad(np.arange(shape[axis]), pads, MODES[g.mode])
            hidden = np.moveaxis(dpadded, axis, 0)
            folded = np.zeros((shape[axis], *hidden.shape[1:]))
            np.add.at(folded, shown, hidden)
            dpadded = np.moveaxis(folded, 0, axis)
        return dpadded


class ChannelsLast(Conv):
    """Right, with the channels as the last axis of x and out."""

    CONFORMANCE: ClassVar = {"conv": {"spatial_dims": (2,), "layout": "channels_last"}}

    def conv_forward(self, x, w, b):
        out, cache = self.forward(np.moveaxis(x, -1, 1), w, b)
        return np.moveaxis(out, 1, -1), cache

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(np.moveaxis(dout, -1, 1), cache)
        return np.moveaxis(dx, 1, -1), dw, db


@fault("dx", "shape", "H21")
class forgets_the_remainder(Strided):
    """dx has (OH - 1) S + K rows, without those that are left over behind the last window."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *map(slice, g.reach))]


@fault("dx identities", "value", "M37")
class puts_the_remainder_first(Conv):
    """The rows that no window reaches stand before the others in dx instead of behind them."""

    def scatter(self, back, g):
        return np.roll(super().scatter(back, g), g.remainder, range(2, 2 + len(g.remainder)))


@fault("out", "crash", "M23")
class insists_that_the_stride_divides(Strided):
    """The forward asserts that no rows are left over."""

    def conv_forward(self, x, w, b, stride: int):
        assert all((n - k) % stride == 0 for n, k in zip(x.shape[2:], w.shape[2:], strict=True))
        return super().conv_forward(x, w, b, stride)


@fault("dx identities", "value", "M24")
class assigns_where_windows_overlap(Strided):
    """dx is assigned for every tap instead of accumulated."""

    def scatter(self, back, g):
        dpadded = np.zeros((*back.shape[:2], *g.size))
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            dpadded[self.cut(tap, g)] = back[:, :, t]
        return dpadded


@fault("dx", "nonfinite", "H09")
class leaves_uncovered_pixels_unwritten(Strided):
    """dx is allocated without zeros, so that pixels which no window reaches keep what was there."""

    def scatter(self, back, g):
        covered = super().scatter(np.ones_like(back), g) > 0
        return np.where(covered, super().scatter(back, g), np.nan)


@fault("dx dw", "value", "H23", sometimes="identities")
class inserts_one_zero_for_every_stride(Strided):
    """dout is spread by two at most, which is right up to a stride of 2."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=tuple(min(s, 2) for s in g.stride))

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(stride=tuple(min(s, 2) for s in g.stride)))


@fault("dx identities", "value", "H07")
class skips_taps_between_the_strides(Spread):
    """dx gathers only the taps whose offset is a multiple of the stride."""

    def scatter(self, back, g):
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            if any(k * d % s for k, d, s in zip(tap, g.dilation, g.stride, strict=True)):
                back[:, :, t] = 0
        return super().scatter(back, g)


@fault("dw identities", "value", "H15")
class swaps_stride_and_dilation_in_dw(Spread):
    """dw walks over x by the dilation and spreads its taps by the stride."""

    def dw(self, upstream, padded, g):
        swapped = g._replace(stride=g.dilation, dilation=g.stride)
        room = [(0, max(0, reach - n)) for reach, n in zip(swapped.reach, g.size, strict=True)]
        return super().dw(upstream, np.pad(padded, ((0, 0), (0, 0), *room)), swapped)


@fault("dx identities", "value", "H203")
class uses_the_first_dilation_for_both_axes(Dilated):
    """dx spreads the taps of the second axis by the dilation of the first."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, dilation=g.dilation[:1] * len(g.dilation))


@fault("out dx dw", "value", "H39")
class ignores_the_dilation(Dilated):
    """The taps lie side by side, forward and backward alike; only the size of out is right."""

    def cut(self, tap, g):
        return super().cut(tap, g._replace(dilation=(1,) * len(g.dilation)))


@fault("dx identities", "value", "H37")
class uses_the_first_stride_for_every_axis(Conv):
    """dx walks along the second axis by the stride of the first."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[:1] * len(g.stride))


@fault("dx identities", "value", "H47")
class reverses_the_strides(Conv3d):
    """dx takes the strides in the order width, height, depth."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[::-1])


@fault("dx identities", "value", "M48")
class ignores_the_stride_of_a_1x1_kernel(Conv1d):
    """A shortcut for kernels of size 1 puts the gradients of out side by side."""

    def scatter(self, back, g):
        if prod(g.kernel) == 1:
            return self.scatter_wrongly(back, g, stride=(1,) * len(g.stride))
        return super().scatter(back, g)


@fault("dx", "value", "H13", sometimes="identities")
class fills_one_channel_of_a_1x1_kernel(Plain):
    """A shortcut for kernels of size 1 writes the first channel of dx alone."""

    def crop(self, dpadded, shape, g):
        if prod(g.kernel) == 1:
            dpadded[:, 1:] = 0
        return super().crop(dpadded, shape, g)


@fault("dx", "shape", "M17")
class keeps_the_padding(Padded):
    """dx is returned as large as the padded input."""

    def crop(self, dpadded, shape, g):
        return dpadded


@fault("dx", "shape", "M18")
class crops_everything_where_nothing_is_padded(Padded):
    """dx is cut with [padding:-padding], which is empty for a padding of 0."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *[slice(low, -low) for low, _ in g.padding])]


@fault("dx", "shape", "M20")
class crops_the_low_padding_on_both_sides(Conv1d):
    """dx is cut as if there were as much padding after x as before it."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *[slice(low, n - low) for (low, _), n in zip(g.padding, g.size, strict=True)])]


@fault("dx identities relations", "value", "H73")
class exchanges_the_sides_of_the_padding(Conv):
    """dx is cut as if the padding before x stood after it."""

    def crop(self, dpadded, shape, g):
        return super().crop(dpadded, shape, g._replace(padding=[pads[::-1] for pads in g.padding]))


@fault("dx identities", "value", "M35", sometimes="relations")
class clamps_the_padding_of_dx(Walking):
    """Padding beyond the dilated kernel would have to crop dout; it does nothing."""

    def crop(self, dpadded, shape, g):
        axes = zip(g.padding, g.dilation, g.kernel, strict=True)
        clamped = [(min(low, d * (k - 1)), high) for (low, high), d, k in axes]
        return super().crop(dpadded, shape, g._replace(padding=clamped))


@fault("dx", "value", "own", sometimes="identities relations")
class crops_a_repeated_border(Bordered):
    """The gradient of the padding is dropped in every mode, though it may show pixels of x."""

    def crop(self, dpadded, shape, g):
        return Conv.crop(self, dpadded, shape, g)


@fault("dw identities", "value", "H27", sometimes="relations")
class interleaves_the_groups(Grouped):
    """dw takes every G-th channel for a group instead of neighbouring ones."""

    def dw(self, upstream, padded, g):
        channels = np.arange(padded.shape[1]).reshape(-1, g.groups).T.ravel()
        return super().dw(upstream, padded[:, channels], g)


@fault("dx identities relations", "value", "M46")
class gives_all_groups_the_first_filters(Grouped):
    """dx is pulled back through the filters of the first group in every group."""

    def dx(self, upstream, w, g):
        first = w[: len(w) // g.groups]
        return super().dx(upstream, np.concatenate([first] * g.groups), g)


@fault("out dx dw", "value", "M29")
class turns_the_kernel_around(Plain):
    """A convolution as mathematics has it, gradients included."""

    def rows(self, w, g):
        return super().rows(np.flip(w, (2, 3)), g)

    def dw(self, upstream, padded, g):
        dw = super().dw(upstream, padded, g)
        return np.flip(dw.reshape(*dw.shape[:2], -1, *g.kernel), (-1, -2))


@fault("dx identities", "value", "M30")
class does_not_turn_the_kernel_in_dx(Plain):
    """dx correlates dout with the kernel as it stands instead of turned around."""

    def dx(self, upstream, w, g):
        return super().dx(upstream, np.flip(w, (2, 3)), g)


@fault("db", "shape", "M27")
class sums_the_bias_gradient_over_the_batch_only(Plain):
    """db keeps the spatial axes of dout."""

    def db(self, dout):
        return dout.sum(axis=0)


@fault("db identities", "shape value", "H193")
class sums_the_axes_of_the_other_layout(ChannelsLast):
    """db sums the axes 0, 2 and 3 though the channels are the last."""

    def conv_backward(self, dout, cache):
        dx, dw, _ = super().conv_backward(dout, cache)
        return dx, dw, dout.sum(axis=(0, 2, 3))


@fault("dw identities relations", "value", "M26")
class keeps_the_weight_gradient_of_the_last_sample(Plain):
    """dw is assigned for every sample instead of accumulated."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream[-1:], padded[-1:], g)


@fault("dw edges identities relations", "value nonfinite", "H53")
class averages_the_weight_gradient(Plain):
    """dw is the mean over samples and pixels instead of the sum."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g) / np.float64(len(upstream) * prod(g.out))


@fault("repeatability", "crash", "H63")
class empties_its_cache(Plain):
    """The backward takes what it needs out of the cache, so that a second one finds nothing."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        return out, list(cache)

    def conv_backward(self, dout, cache):
        return super().conv_backward(dout, [cache.pop(0) for _ in range(3)])

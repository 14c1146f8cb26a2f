"""Faults of kernels: turned around, of size 1, even; and of shortcuts for some of them."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    axes,
    even_kernel,
    padded,
    pointwise,
    several_channels,
    several_taps,
    shape,
    size,
    strided,
    when,
)
from backproof.plugins.gallery.conv.bases import Conv, Conv1d, Fourier, Plain, Winograd
from backproof.plugins.gallery.fault import fault


@fault("out dx dw", several_taps, source="M29 by hand")
class turns_the_kernel_around(Plain):
    """A convolution as mathematics has it, gradients included: the gradients are right for the wrong out."""

    def rows(self, w, g):
        return super().rows(np.flip(w, (2, 3)), g)

    def dw(self, upstream, padded, g):
        dw = super().dw(upstream, padded, g)
        return np.flip(dw.reshape(*dw.shape[:2], -1, *g.kernel), (-1, -2))


@fault("dx identities", several_taps, source="M30 by hand")
class does_not_turn_the_kernel_in_dx(Plain):
    """dx correlates dout with the kernel as it stands instead of turned around."""

    def dx(self, upstream, w, g):
        return super().dx(upstream, np.flip(w, (2, 3)), g)


@fault("dx identities", size("w", 2, "kernel height > 1", lambda k: k > 1), source="M31 by hand")
class turns_one_axis_of_the_kernel_in_dx(Plain):
    """dx correlates dout with a kernel that is turned around from left to right, but not from top to bottom."""

    def dx(self, upstream, w, g):
        return super().dx(upstream, np.flip(w, 2), g)


@fault("dw identities", several_taps, source="M32 by hand")
class turns_dw_around(Plain):
    """dw correlates dout with x instead of x with dout, so that its taps come in the opposite order."""

    def dw(self, upstream, padded, g):
        dw = super().dw(upstream, padded, g)
        return np.flip(dw.reshape(*dw.shape[:2], -1, *g.kernel), (-1, -2))


@fault("out dx dw", several_channels & several_taps, source="own: filters as MLX and TFLite have them")
class reads_filters_with_the_channels_last(Plain):
    """The memory of w, (O, C, KH, KW), is taken for (O, KH, KW, C), forward and backward alike."""

    def rows(self, w, g):
        return super().rows(np.moveaxis(w.reshape(len(w), *g.kernel, -1), -1, 1), g)

    def dw(self, upstream, padded, g):
        dw = super().dw(upstream, padded, g)
        return np.moveaxis(dw.reshape(dw.shape[1], -1, *g.kernel), 1, -1)


@fault("out", pointwise, source="own: a shortcut that is a bare matrix product")
class forgets_the_bias_of_a_1x1_kernel(Plain):
    """A shortcut for kernels of size 1 multiplies two matrices and adds no bias."""

    def conv_forward(self, x, w, b):
        return super().conv_forward(x, w, b * (prod(w.shape[2:]) > 1))


@fault("dx", pointwise & several_channels, source="H13 cudnn.torch#23")
class fills_one_channel_of_a_1x1_kernel(Plain):
    """A shortcut for kernels of size 1 writes the first channel of dx alone."""

    def crop(self, dpadded, shape, g):
        if prod(g.kernel) == 1:
            dpadded[:, 1:] = 0
        return super().crop(dpadded, shape, g)


of_two_axes = when("several rows and columns")(lambda case: min(shape(case, "x")[2:]) > 1)


@fault("dx", pointwise & of_two_axes, source="own: a shortcut that flattens the pixels")
class exchanges_the_axes_of_a_1x1_kernel(Plain):
    """A shortcut for kernels of size 1 flattens the pixels by columns and gives dx its shape by rows."""

    def crop(self, dpadded, shape, g):
        if prod(g.kernel) == 1:
            dpadded = dpadded.swapaxes(2, 3).reshape(shape)
        return super().crop(dpadded, shape, g)


@fault("dx", pointwise & strided, source="M48 by hand, the stride")
class ignores_the_stride_of_a_1x1_kernel(Conv1d):
    """A shortcut for kernels of size 1 puts the gradients of out side by side."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=(1,) if prod(g.kernel) == 1 else g.stride)


@fault("dx", pointwise & padded, source="M48 by hand, the padding")
class ignores_the_padding_of_a_1x1_kernel(Conv1d):
    """A shortcut for kernels of size 1 lets dx begin with the gradient of the first padded pixel."""

    def crop(self, dpadded, shape, g):
        if prod(g.kernel) == 1:
            return dpadded[(..., *map(slice, shape[2:]))]
        return super().crop(dpadded, shape, g)


@when("more than 32 pixels in all, with their padding")
def beyond_32(case):
    return prod(shape(case, "x")[:2]) * prod(axis.padded for axis in axes(case)) > 32


@fault("dx", pointwise & beyond_32, source="H51 MIOpen#1672, scaled down from 320")
class writes_the_first_pixels_of_a_1x1_kernel(Conv1d):
    """A shortcut for kernels of size 1 writes the first 32 entries of dx; the others stay zero."""

    def crop(self, dpadded, shape, g):
        dx = super().crop(dpadded, shape, g).copy()
        if prod(g.kernel) == 1:
            dx.reshape(-1)[32:] = 0
        return dx


@fault("dx identities", even_kernel, source="own: taps counted from the middle")
class drops_the_last_tap_of_even_kernels(Conv):
    """dx counts the taps from -half to half with half = (K - 1) // 2, which leaves out the last of an even kernel."""

    def scatter(self, back, g):
        for t, tap in enumerate(np.ndindex(*g.kernel)):
            if any(k % 2 == 0 and at == k - 1 for k, at in zip(g.kernel, tap, strict=True)):
                back[:, :, t] = 0
        return super().scatter(back, g)


@fault(
    "out identities",
    ~size("w", 2, "kernel = 3", lambda k: k == 3),
    source="own: Winograd's minimal filtering chosen by a condition that is too wide",
)
class filters_every_kernel_by_winograd(Winograd):
    """Every kernel takes the path for three taps: it reads three from where its own begin."""

    def conv_forward(self, x, w, b):
        out, cache = super().conv_forward(x, w, b)
        begins = np.arange(w.shape[0] * w.shape[1]).reshape(*w.shape[:2], 1) * w.shape[2]
        return self.filtered(x[..., : out.shape[2] + 2], w.ravel()[(begins + np.arange(3)) % w.size], out.shape) + b[
            :, None
        ], cache


@fault("out identities", several_taps, source="own: convolutions by Fourier transforms")
class forgets_the_conjugate(Fourier):
    """The forward multiplies the transforms as they are, which is a convolution around the edges, not a correlation."""

    def filters(self, w, size):
        return np.fft.fft2(w, size)


@fault("dx identities", several_taps, source="own: convolutions by Fourier transforms")
class transforms_over_too_few_pixels(Fourier):
    """The transforms of dx are as long as dout instead of x, so that its last pixels wrap around to the first."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        at = np.ix_(*[np.arange(n) % q for n, q in zip(dx.shape[2:], dout.shape[2:], strict=True)])
        wrapped = np.zeros((*dx.shape[:2], *dout.shape[2:]))
        np.add.at(wrapped, (slice(None), slice(None), *at), dx)
        return wrapped[(slice(None), slice(None), *at)], dw, db

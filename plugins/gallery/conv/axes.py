"""Faults of dilation, and of convolutions whose axes differ or are not two."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    axes,
    differs,
    dilated,
    dilation_differs,
    kernel_differs,
    non_square,
    padded,
    shape,
    some_axis,
    spatial,
    stride_differs,
    when,
)
from backproof.plugins.gallery.conv.bases import Conv, Conv1d, Dilated, Pairs, Plain, Spatial, Spread, Strided
from backproof.plugins.gallery.conv.windows import ones, pixels_from, with_room
from backproof.plugins.gallery.fault import fault

low_differs = differs("the padding before x differs between the axes", lambda axis: axis.low)
volume = spatial(3)
shapes_differ = when("x and w have different shapes")(lambda case: shape(case, "x") != shape(case, "w"))
thin = when("out has an axis of 1")(lambda case: 1 in shape(case, "dout"))
walks_the_depth = when("a kernel or a stride > 1 along the depth")(
    lambda case: axes(case)[0].kernel > 1 or axes(case)[0].stride > 1
)
strides_through_the_depth = when("a stride > 1 along the depth")(lambda case: axes(case)[0].stride > 1)
deep = when("depth != height")(lambda case: len({(axis.size, axis.padded) for axis in axes(case)[:2]}) > 1)
lopsided = when("the strides of depth and width differ")(lambda case: axes(case)[0].stride != axes(case)[-1].stride)
padded_lopsided = when("the padding of depth and width differs")(lambda case: axes(case)[0].low != axes(case)[-1].low)


# The dilation.


@fault("out dx dw", dilated, source="H39 tensorflow#19992")
class ignores_the_dilation(Dilated):
    """The taps lie side by side, forward and backward alike; only the size of out is right."""

    def cut(self, tap, g):
        return super().cut(tap, g._replace(dilation=ones(g)))


@fault("dx identities", dilated, source="own")
class forgets_the_dilation_in_dx(Conv):
    """dx puts the taps side by side, though the forward spread them."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, dilation=ones(g))


@fault("dw identities", dilated, source="own")
class forgets_the_dilation_in_dw(Conv):
    """dw reads x as if the taps lay side by side, though the forward spread them."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(dilation=ones(g)))


@fault("dx identities", dilated, source="H25 jax PR#567")
class pads_dout_by_the_kernel_before_dilation(Dilated):
    """dx correlates dout with K - 1 zeros around it instead of D (K - 1), and so begins too late."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [(d - 1) * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)], shape)


@fault(
    "out",
    some_axis(
        "K - 1 for D (K - 1) fits more windows", lambda axis: (axis.padded - axis.kernel) // axis.stride + 1 != axis.out
    ),
    source="H107 onnxruntime#2518",
)
class sizes_out_by_the_kernel_before_dilation(Spread):
    """The size of out is computed with K - 1 instead of D (K - 1), and has windows that end behind x."""

    def conv_forward(self, x, w, b, stride: int, dilation: int):
        out, cache = super().conv_forward(x, w, b, stride, dilation)
        sizes = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
        return np.pad(out, ((0, 0), (0, 0), *[(0, n - q) for n, q in zip(sizes, out.shape[2:], strict=True)])), cache


@fault(
    "dx identities",
    some_axis("dilation > 1 over several windows", lambda axis: axis.dilation > 1 and axis.out > 1),
    source="own",
)
class multiplies_the_stride_by_the_dilation(Conv):
    """dx takes the distance between two windows to be S D: the dilation scales the sum of both offsets."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=tuple(s * d for s, d in zip(g.stride, g.dilation, strict=True)))


@fault(
    "dx identities",
    some_axis("stride > 1 and dilation > 1", lambda axis: axis.stride > 1 and axis.dilation > 1 and axis.kernel > 1),
    source="own",
)
class forgets_the_dilation_of_strided_windows(Conv):
    """The kernel for strides puts the taps of dx side by side."""

    def scatter(self, back, g):
        pairs = zip(g.stride, g.dilation, strict=True)
        return self.scatter_wrongly(back, g, dilation=tuple(1 if s > 1 else d for s, d in pairs))


# Options and sizes of the other axis.


@fault("dx identities", stride_differs, source="H37 mxnet PR#2365; M40 by hand")
class uses_the_first_stride_for_every_axis(Conv):
    """dx walks along the second axis by the stride of the first."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[:1] * len(g.stride))


@fault("dw identities", stride_differs, source="own")
class uses_the_last_stride_for_every_axis(Conv):
    """dw walks along the first axis by the stride of the second."""

    def dw(self, upstream, padded, g):
        other = g._replace(stride=g.stride[-1:] * len(g.stride))
        return super().dw(upstream, with_room(padded, other), other)


@fault("dx identities", dilation_differs, source="H203 burn PR#4466; M40 by hand")
class uses_the_first_dilation_for_both_axes(Dilated):
    """dx spreads the taps of the second axis by the dilation of the first."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, dilation=g.dilation[:1] * len(g.dilation))


@fault("dx identities", low_differs, source="M40 by hand")
class uses_the_first_padding_for_both_axes(Conv):
    """dx is cut out as far from the left as from the top."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [g.padding[0][0]] * len(g.padding), shape)


@fault("dx identities", low_differs, source="own")
class exchanges_the_padding_of_the_axes(Conv):
    """dx is cut out with the padding of the columns at the rows, and with that of the rows at the columns."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [low for low, _ in g.padding[::-1]], shape)


@fault("out dw identities", low_differs, source="H73 NNlib.jl PR#153")
class pads_the_columns_before_the_rows(Conv):
    """What pads x wants (top, bottom, left, right) and is handed (left, right, top, bottom); dx is right."""

    def pad(self, x, g):
        return pixels_from(x, [-low for low, _ in g.padding[::-1]], (*x.shape[:2], *g.size))


@fault("dx identities", kernel_differs, source="M40 by hand")
class uses_the_first_kernel_size_for_both_axes(Plain):
    """dx correlates dout with KH - 1 zeros on all its sides, where KW - 1 belong to the left and the right."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [0, g.kernel[1] - g.kernel[0]], shape)


@fault("dx identities", kernel_differs, source="own")
class takes_the_kernel_height_for_its_width(Conv):
    """dx finds the tap (k, l) of a filter at k KH + l where KW is the step from row to row."""

    def dx(self, upstream, w, g):
        height, width = g.kernel
        at = (np.arange(height)[:, None] * height + np.arange(width)) % (height * width)
        return super().dx(upstream, w.reshape(*w.shape[:2], height * width)[:, :, at], g)


def by_the_height(x):
    """An image read with its height for the step from row to row, a volume with its depth for that of its planes."""
    *outer, height, width = x.shape[2:]
    at = np.arange(height)[:, None] * (width if outer else height) + np.arange(width)
    if outer:
        at = np.arange(outer[0])[:, None, None] * outer[0] * width + at
    pixels = prod(x.shape[2:])
    return x.reshape(*x.shape[:2], pixels)[:, :, at % pixels]


@fault("dw identities", non_square, source="H31 NNPACK#15; M41 by hand")
class takes_the_height_for_the_width(Conv):
    """dw reads x with H where the step from row to row is W."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        dx, _, db = super().conv_backward(dout, cache)
        return dx, super().conv_backward(dout, (by_the_height(x), w, g))[1], db


@fault("dx identities", differs("out is not square", lambda axis: axis.out), source="H33 np-conv2d PR#2")
class pads_the_width_of_dout_by_its_height(Plain):
    """How many zeros dx puts beside dout is computed with OH where OW belongs."""

    def crop(self, dpadded, shape, g):
        return pixels_from(dpadded, [0, g.out[0] - g.out[1]], shape)


@fault("out", kernel_differs, source="H35 NNlib.jl#104")
class sizes_the_width_by_the_kernel_height(Strided):
    """The width of out is computed with the kernel's height, and may come out as 0."""

    def conv_forward(self, x, w, b, stride: int):
        out, cache = super().conv_forward(x, w, b, stride)
        columns = np.arange(max(0, (x.shape[3] - w.shape[2]) // stride + 1))
        return out[..., columns % out.shape[3]], cache


@fault("dw", shapes_differ, source="H43 swift-apis#329")
class gives_dw_the_shape_of_x(Conv):
    """The backward is handed the shape of x where it expects that of w, and returns a dw of that shape."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return dx, np.resize(dw, cache[0].shape), db


# One axis, and three.


@fault("out", padded, source="own")
class pads_the_axis_that_a_line_lacks(Conv1d):
    """A line is handed on as an image of height 1, whose height is padded too: out has more rows than fit back."""

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        both = (padding[0], padding[0])
        out, (_, _, g) = self.forward(x[:, :, None], w[:, :, None], b, (1, *stride), both, (1, *dilation), groups)
        line = g._replace(
            **{name: getattr(g, name)[1:] for name in ("stride", "padding", "dilation", "kernel", "size", "out")}
        )
        return out.reshape(len(x), len(w), *line.out), (x, w, line)


@fault("out", thin, source="own")
class squeezes_every_axis_of_one(Conv1d):
    """out.squeeze() takes away the height that a line was given, and a batch, a filter or a width of 1 as well."""

    def conv_forward(self, x, w, b, stride, padding: Pairs, dilation, groups):
        out, cache = super().conv_forward(x, w, b, stride, padding, dilation, groups)
        return out.squeeze(), cache


@fault("db", volume, source="own")
class sums_the_bias_gradient_of_volumes_over_two_axes(Spatial):
    """db is the sum over the axes 0, 2 and 3, and keeps the last one of a volume."""

    def db(self, dout):
        return dout.sum(axis=(0, 2, 3))


@fault("dx identities", volume & walks_the_depth, source="H29 neon#111")
class writes_to_the_depth_of_out(Spatial):
    """dx of a volume is added up at the depth index of dout, instead of at that of x."""

    def scatter(self, back, g):
        if len(g.kernel) == 2:
            return super().scatter(back, g)
        return self.scatter_wrongly(back, g, stride=(1, *g.stride[1:]), dilation=(0, *g.dilation[1:]))


@fault("dw", volume & strides_through_the_depth, source="H45 Paddle PR#44059")
class walks_through_the_depth_by_ones(Spatial):
    """dw of a volume is that of an image for every slice: the depth has no stride."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded, g._replace(stride=(1, *g.stride[1:])) if len(g.stride) == 3 else g)


@fault("dw identities", volume & deep, source="own")
class takes_the_depth_for_the_height(Spatial):
    """dw reads a volume with D W where the step from plane to plane is H W."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        if x.ndim == 4:
            return super().conv_backward(dout, cache)
        dx, _, db = super().conv_backward(dout, cache)
        return dx, super().conv_backward(dout, (by_the_height(x), w, g))[1], db


@fault("dx", volume & lopsided, source="H47 composable_kernel#1070")
class reverses_the_strides_of_volumes(Spatial):
    """The kernel for volumes takes the strides in the order width, height, depth."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=g.stride[::-1] if len(g.stride) == 3 else g.stride)


@fault("dx identities", volume & padded_lopsided, source="H47 composable_kernel#1070")
class reverses_the_padding_of_volumes(Spatial):
    """The kernel for volumes takes the padding in the order width, height, depth."""

    def crop(self, dpadded, shape, g):
        lows = [low for low, _ in g.padding]
        return pixels_from(dpadded, lows[::-1] if len(lows) == 3 else lows, shape)

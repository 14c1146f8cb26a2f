"""Faults of convolutions that read an array's memory as it does not lie."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backproof.plugins.gallery.conditions import expanded, lies, scattered, shape, when
from backproof.plugins.gallery.conv.bases import Plain
from backproof.plugins.gallery.every_layer import ReadFromItsBuffer
from backproof.plugins.gallery.fault import fault
from backproof.plugins.gallery.memory import as_it_lies, is_expanded

#: The layout in which an axis of size 1 has any stride.
ODD = "odd strides of size 1"


@fault("memory_layout", scattered("dout"), source="H197 flash-attention#355; H205 torch/cunn PR#199")
class ignores_the_strides_of_dout_in_dx(Plain):
    """dx takes the numbers of dout as they lie in memory."""

    def conv_backward(self, dout, cache):
        _, dw, db = super().conv_backward(dout, cache)
        return super().conv_backward(as_it_lies(dout), cache)[0], dw, db


@fault("memory_layout", scattered("w"), source="H75 pytorch#1246; H77 pytorch#55781")
class ignores_the_strides_of_the_filters(Plain):
    """The forward takes the filters as they lie in memory; the backward reads them right."""

    def conv_forward(self, x, w, b):
        out, _ = super().conv_forward(x, as_it_lies(w), b)
        return out, super().conv_forward(x, w, b)[1]


@fault("memory_layout", scattered("w"), source="H79 candle#3735")
class pulls_back_through_the_memory_of_w(ReadFromItsBuffer, Plain, part=1):
    """The backward takes the filters as they lie in memory; the forward reads them right."""


@fault("memory_layout", scattered("x"), source="own: H75 pytorch#1246, with x in dw")
class ignores_the_strides_of_x_in_dw(ReadFromItsBuffer, Plain, part=0):
    """dw takes the numbers of x as they lie in memory; the forward reads them right."""


def from_its_start(a):
    """As many numbers as a has, one behind the other from its first on, without leaving the buffer that it lies in."""
    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    flat = base.view(a.dtype).ravel(order="K") if base.flags.c_contiguous else base.ravel(order="K")
    begin = (a.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // a.itemsize
    return flat[(begin + np.arange(a.size)) % flat.size].reshape(a.shape)


@fault("memory_layout", scattered("x") | expanded("x"), source="M49 by hand")
class computes_the_strides_of_x_from_its_shape(Plain):
    """The windows of the forward are cut by as_strided, with the strides of a contiguous x of this shape."""

    def columns(self, padded, g):
        itemsize, shape = padded.itemsize, padded.shape
        strides = tuple(itemsize * prod(shape[k + 1 :]) for k in range(4))
        if padded.strides != strides:
            padded = from_its_start(padded)
        windows = as_strided(padded, (*shape[:2], *g.kernel, *g.out), (*strides, *strides[2:]), writeable=False)
        return windows.reshape(len(padded), 1, shape[1] * prod(g.kernel), prod(g.out))

    def pad(self, x, g):
        return x

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded.copy(), g)


@fault("memory_layout", lies("x", "offset slice"), source="own: views without their offset, as in Metal kernels")
class ignores_the_offset_of_x(Plain):
    """The forward reads x by its strides, but from the start of the memory that it is a view of."""

    def conv_forward(self, x, w, b):
        base = x
        while isinstance(base.base, np.ndarray):
            base = base.base
        read = x
        if base.dtype == x.dtype and min(x.strides) > 0 and base.size > x.size:
            read = as_strided(base, x.shape, x.strides, writeable=False)
        return super().conv_forward(read, w, b)[0], super().conv_forward(x, w, b)[1]


@fault("memory_layout", expanded("dout"), source="own: an expanded dout taken for that of a sum")
class takes_an_expanded_dout_for_a_constant(Plain):
    """A dout with a stride of 0 is taken for one number that stands everywhere."""

    def conv_backward(self, dout, cache):
        if dout.size and is_expanded(dout):
            dout = np.full(dout.shape, dout[0, 0, 0, 0])
        return super().conv_backward(dout, cache)


@fault(
    "memory_layout",
    lies("x", ODD) | lies("w", ODD) | lies("dout", ODD),
    source="H81 pytorch PR#176420, in two dimensions",
)
class trusts_the_stride_of_an_axis_of_one(Plain):
    """The backward takes an array for a matrix whose rows are as far apart as the stride of its last axis of size 1."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        x, w, dout = map(by_the_last_axis_of_one, (x, w, dout))
        return super().conv_backward(dout, (x, w, g))


def by_the_last_axis_of_one(a):
    ones = [axis for axis in range(1, a.ndim) if a.shape[axis] == 1]
    if not a.flags.c_contiguous or not ones or a.size == 0:
        return a
    pitch, width = a.strides[ones[-1]] // a.itemsize, prod(a.shape[ones[-1] :])
    at = np.arange(a.size // width)[:, None] * pitch + np.arange(width)
    return a.ravel()[at % a.size].reshape(a.shape)


def is_channels_last(a):
    """Whether the strides are those of an array with its channels last; axes of size 1 fit either way."""
    plain = np.empty(np.moveaxis(a, 1, -1).shape, a.dtype)
    return a.strides == np.moveaxis(plain, -1, 1).strides and a.strides != np.empty(a.shape, a.dtype).strides


def read_in_the_other_format(a):
    """The numbers in the order of their memory, in a shape that stands for another order."""
    return np.moveaxis(a, 1, -1).reshape(a.shape)


@fault("memory_layout", lies("dout", "channels last"), source="H83 kulinseth/pytorch PR#179")
class reads_channels_last_as_channels_first(Plain):
    """A dout whose memory is in the order (N, H, W, C) is read as one in the order (N, C, H, W)."""

    def conv_backward(self, dout, cache):
        wrong = read_in_the_other_format(dout) if is_channels_last(dout) else dout
        return super().conv_backward(wrong, cache)


def ambiguous(array):
    """Whether the array lies with its channels last and has an axis of size 1."""
    words = f"{array} has its channels last and an axis of size 1"
    return when(words)(lambda case: case.layouts.get(array) == "channels last" and 1 in shape(case, array))


@fault("memory_layout", ambiguous("x") | ambiguous("dout"), source="own: H173 pytorch#115940, the wrong choice")
class takes_an_ambiguous_format_for_the_plain_one(Plain):
    """An array with its channels last is read by its strides, unless an axis of size 1 would fit either format."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        return super().conv_backward(self.as_chosen(dout), (self.as_chosen(x), w, g))

    def as_chosen(self, a):
        return read_in_the_other_format(a) if is_channels_last(a) and 1 in a.shape else a


unlike_plain = when("x or dout not in the plain layout")(lambda case: {"x", "dout"} & set(case.layouts))
of_one_column = when("images of one column")(lambda case: shape(case, "x")[3] == shape(case, "dout")[3] == 1)


@fault("memory_layout", unlike_plain & of_one_column, source="H173 pytorch#115940")
class insists_on_equal_formats(Plain):
    """Channels count as the last where their stride is smaller than a column's, which in an image of one column is
    anybody's guess, and x and dout must agree.
    """

    def conv_backward(self, dout, cache):
        x = cache[0]
        if x.shape[3] == dout.shape[3] == 1 and (x.strides[1] < x.strides[3]) != (dout.strides[1] < dout.strides[3]):
            raise ValueError("x and dout have different memory formats")
        return super().conv_backward(dout, cache)

"""Faults of groups and of the axes of channels and filters."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.plugins.gallery.conditions import (
    grouped,
    left_over,
    non_square,
    partly_grouped,
    several_channels,
    several_filters,
    shape,
    spatial,
    strided,
    when,
)
from backproof.plugins.gallery.conv.bases import Conv, Grouped, Plain, Spatial
from backproof.plugins.gallery.fault import fault


@when("depthwise with several filters a channel")
def multiplied(case):
    groups, filters = case.options["groups"], shape(case, "w")[0]
    return 1 < groups == shape(case, "x")[1] < filters


@when("channels of a group != its filters")
def uneven(case):
    return shape(case, "w")[1] * case.options["groups"] != shape(case, "w")[0]


@when("more channels than whole tiles of 8")
def beyond_a_tile(case):
    return shape(case, "x")[1] > 8 and shape(case, "x")[1] % 8 > 0


def by_turns(channels, groups):
    """Every G-th channel for a group, one group after the other."""
    return np.arange(channels).reshape(-1, groups).T.ravel()


@fault("out identities", partly_grouped, source="M45 by hand, in the forward")
class interleaves_the_groups_of_out(Grouped):
    """The forward takes every G-th channel for a group instead of neighbouring ones."""

    def conv_forward(self, x, w, b, groups):
        out, _ = super().conv_forward(x[:, by_turns(x.shape[1], groups)], w, b, groups)
        return out, super().conv_forward(x, w, b, groups)[1]


@fault("dx identities", partly_grouped, source="M45 by hand, in dx")
class interleaves_the_groups_of_dx(Grouped):
    """dx hands the gradients of a group to every G-th channel instead of to neighbouring ones."""

    def scatter(self, back, g):
        dpadded = super().scatter(back, g)
        dpadded[:, by_turns(dpadded.shape[1], g.groups)] = dpadded.copy()
        return dpadded


@fault("dw identities", partly_grouped, source="H27 pytorch#51430; M45 by hand, in dw")
class interleaves_the_groups_of_dw(Grouped):
    """dw takes every G-th channel for a group instead of neighbouring ones."""

    def dw(self, upstream, padded, g):
        return super().dw(upstream, padded[:, by_turns(padded.shape[1], g.groups)], g)


@fault("out dx dw", partly_grouped, source="own: channels shuffled before a grouped convolution, in both directions")
class interleaves_the_groups_everywhere(Grouped):
    """Every G-th channel makes a group, forward and backward alike: the gradients are right for the wrong out."""

    def columns(self, padded, g):
        return super().columns(padded[:, by_turns(padded.shape[1], g.groups)], g)

    def scatter(self, back, g):
        dpadded = super().scatter(back, g)
        dpadded[:, by_turns(dpadded.shape[1], g.groups)] = dpadded.copy()
        return dpadded


@fault("dx identities relations", grouped, source="M46 by hand, in dx")
class gives_all_groups_the_first_filters(Grouped):
    """dx is pulled back through the filters of the first group in every group."""

    def dx(self, upstream, w, g):
        return super().dx(upstream, np.concatenate([w[: len(w) // g.groups]] * g.groups), g)


@fault("dw identities relations", grouped, source="M46 by hand, in dw")
class gives_all_groups_the_first_dw(Grouped):
    """The loop over groups writes the first group's dw for every group."""

    def dw(self, upstream, padded, g):
        return np.repeat(super().dw(upstream, padded, g)[:1], g.groups, axis=0)


@fault(
    "dw identities relations",
    grouped,
    source="own: cuDNN's descriptors of groups, with the offset of a group forgotten",
)
class reads_the_first_channels_in_every_group(Grouped):
    """dw of every group correlates its dout with the channels of the first group."""

    def dw(self, upstream, padded, g):
        first = padded[:, : padded.shape[1] // g.groups]
        return super().dw(upstream, np.concatenate([first] * g.groups, axis=1), g)


@fault(
    "dx identities",
    grouped & uneven,
    source="own: a group's offset into w from its number of channels instead of filters",
)
class offsets_groups_by_their_channels(Grouped):
    """dx of group g begins at filter g C / G instead of g O / G."""

    def dx(self, upstream, w, g):
        channels, filters = w.shape[1], len(w) // g.groups
        begins = np.arange(g.groups)[:, None] * channels
        return super().dx(upstream, w[(begins + np.arange(filters)).ravel() % len(w)], g)


@fault("out", grouped, source="own: a group's offset into b forgotten")
class begins_the_bias_anew_in_every_group(Grouped):
    """The filters of every group are given the biases of the first group's."""

    def conv_forward(self, x, w, b, groups):
        return super().conv_forward(x, w, np.resize(b[: len(b) // groups], len(b)), groups)


@fault("out", grouped, source="own: the bias added in the loop over groups")
class adds_the_bias_once_a_group(Grouped):
    """The loop over groups adds the whole bias in every round."""

    def conv_forward(self, x, w, b, groups):
        return super().conv_forward(x, w, b * groups, groups)


@fault("dx identities", partly_grouped, source="H69 mlx PR#1449")
class transposes_filters_across_groups(Grouped):
    """dx exchanges channels and filters of the whole of w instead of those of each group."""

    def dx(self, upstream, w, g):
        turned = w.swapaxes(0, 1).reshape(g.groups, w.shape[1], -1, *g.kernel)
        return super().dx(upstream, turned.swapaxes(1, 2).reshape(w.shape), g)


@fault("dx identities", multiplied, source="M47 by hand")
class ignores_the_channel_multiplier(Grouped):
    """dx of a depthwise convolution goes back through the first filter of every channel alone."""

    def dx(self, upstream, w, g):
        if w.shape[1] == 1 and g.groups > 1:
            w = w.copy()
            w.reshape(g.groups, -1)[:, prod(g.kernel) :] = 0
        return super().dx(upstream, w, g)


@fault(
    "out dx dw",
    multiplied,
    source="own: TensorFlow's depthwise kernels are (KH, KW, C, multiplier), others have the multiplier first",
)
class deals_depthwise_filters_out_by_turns(Grouped):
    """Filter o of a depthwise convolution reads channel o % C instead of o // (O / C), in both directions."""

    def conv_forward(self, x, w, b, groups):
        shape = x.shape
        if groups == x.shape[1]:
            x, groups = np.tile(x, (1, len(w) // groups, 1, 1)), len(w)
        out, cache = super().conv_forward(x, w, b, groups)
        return out, (cache, shape)

    def conv_backward(self, dout, cache):
        cache, shape = cache
        dx, dw, db = super().conv_backward(dout, cache)
        copies = dx.shape[1] // shape[1]
        return dx.reshape(len(dx), copies, *shape[1:]).sum(axis=1), dw, db


@fault("dx", grouped & strided, source="own: M16 by hand, for groups alone")
class forgets_the_stride_of_groups(Conv):
    """The kernel for groups puts the windows of dx side by side."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=(1,) * len(g.stride) if g.groups > 1 else g.stride)


@fault("dw", grouped & non_square, source="own: H31 NNPACK#15, for groups alone")
class takes_the_height_for_the_width_of_groups(Conv):
    """The kernel for groups reads x for dw with H where the stride from row to row is W."""

    def conv_backward(self, dout, cache):
        x, w, g = cache
        dx, dw, db = super().conv_backward(dout, cache)
        if g.groups > 1:
            height, width = x.shape[2:]
            at = (np.arange(height)[:, None] * height + np.arange(width)) % (height * width)
            dw = super().conv_backward(dout, (x.reshape(*x.shape[:2], height * width)[:, :, at], w, g))[1]
        return dx, dw, db


@fault("dx", grouped & left_over, source="own: M37 by hand, for groups alone")
class puts_the_remainder_of_groups_first(Conv):
    """The kernel for groups leaves the rows that no window reaches free at the top of dx instead of at the bottom."""

    def scatter(self, back, g):
        dpadded = super().scatter(back, g)
        return np.roll(dpadded, g.remainder, range(2, dpadded.ndim)) if g.groups > 1 else dpadded


@fault("dx", grouped & beyond_a_tile, source="own: H49 pytorch#21597, for groups alone")
class drops_the_tail_of_grouped_channels(Conv):
    """The kernel for groups writes whole tiles of eight channels of dx."""

    def crop(self, dpadded, shape, g):
        if g.groups > 1 and shape[1] > 8:
            dpadded[:, shape[1] // 8 * 8 :] = 0
        return super().crop(dpadded, shape, g)


@fault("dx", grouped & spatial(3), source="own: M46 by hand, for volumes alone")
class gives_all_groups_of_volumes_the_first_filters(Spatial):
    """The kernel for volumes pulls dx back through the filters of the first group in every group."""

    def dx(self, upstream, w, g):
        if len(g.kernel) == 3:
            w = np.concatenate([w[: len(w) // g.groups]] * g.groups)
        return super().dx(upstream, w, g)


@fault("out identities", spatial(3) & several_channels, source="H85 pytorch#197114")
class turns_the_channels_of_volumes_around(Spatial):
    """The forward for volumes reads the channels in the opposite order."""

    def conv_forward(self, x, w, b, stride, padding: tuple[tuple[int, int], ...], dilation, groups):
        out, cache = super().conv_forward(x, w, b, stride, padding, dilation, groups)
        if x.ndim == 5:
            out, _ = super().conv_forward(x[:, ::-1], w, b, stride, padding, dilation, groups)
        return out, cache


@fault("dw identities", several_channels & several_filters, source="H41 tf-encrypted#150; M44 by hand, in dw")
class lays_dw_out_with_the_channels_first(Plain):
    """dw is gathered by channel, then filter, and only its shape is the other way round."""

    def conv_backward(self, dout, cache):
        dx, dw, db = super().conv_backward(dout, cache)
        return dx, dw.swapaxes(0, 1).reshape(dw.shape), db


@fault("dx identities", several_channels & several_filters, source="M44 by hand, in dx")
class does_not_exchange_channels_and_filters(Plain):
    """dx takes the memory of w for that of a kernel of C filters with O channels."""

    def dx(self, upstream, w, g):
        turned = w.reshape(w.shape[1], len(w), *g.kernel)
        return super().dx(upstream, turned.swapaxes(0, 1), g)

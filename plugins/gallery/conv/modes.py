"""Faults of padding modes where they run out of pixels."""

from __future__ import annotations

from backproof.plugins.gallery.conditions import axes, when
from backproof.plugins.gallery.conv.padding import Framed
from backproof.plugins.gallery.fault import fault


@when("replicate padding larger than x")
def beyond_the_edge(case):
    wide = any(max(axis.low, axis.high) > axis.size for axis in axes(case))
    return case.options["padding_mode"] == "replicate" and wide


@when("circular padding of a whole x of several pixels")
def once_around(case):
    whole = any(max(axis.low, axis.high) == axis.size > 1 for axis in axes(case))
    return case.options["padding_mode"] == "circular" and whole


@fault("dx", beyond_the_edge, source="own: an index that is clipped once")
class drops_what_replicates_beyond_the_size(Framed):
    """dx is zero where more pixels are replicated than x has."""

    def crop(self, dpadded, shape, g):
        dx = super().crop(dpadded, shape, g)
        wide = any(max(pads) > size for pads, size in zip(g.padding, shape[2:], strict=True))
        return 0 * dx if g.mode == "replicate" and wide else dx


@fault("dx", once_around, source="own: a slice [-n:n] that is empty")
class drops_a_padding_of_once_around(Framed):
    """dx is zero where circular padding repeats all of x."""

    def crop(self, dpadded, shape, g):
        dx = super().crop(dpadded, shape, g)
        whole = any(max(pads) == size > 1 for pads, size in zip(g.padding, shape[2:], strict=True))
        return 0 * dx if g.mode == "circular" and whole else dx

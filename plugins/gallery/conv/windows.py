"""Faults of the arithmetic of windows: stride, remainder, dilation, and axes that differ."""

from __future__ import annotations

from backproof.plugins.gallery.conditions import left_over, strided
from backproof.plugins.gallery.conv.twins import Conv, Strided
from backproof.plugins.gallery.fault import fault


@fault(
    "dx identities",
    strided,
    needs="S",
    source="M16 by hand",
    smallest={"x": (1, 1, 1, 3), "w": (1, 1, 1, 1), "stride": (1, 2)},
)
class forgets_the_stride_in_dx(Conv):
    """dx puts the windows side by side: the backward's slices start at h instead of h S."""

    def scatter(self, back, g):
        return self.scatter_wrongly(back, g, stride=(1,) * len(g.stride))


@fault("dx", left_over, needs="S LEFT", source="H21 torch7-distro#20", kinds="shape")
class forgets_the_remainder(Strided):
    """dx has (OH - 1) S + K rows, without those that are left over behind the last window."""

    def crop(self, dpadded, shape, g):
        return dpadded[(..., *map(slice, g.reach))]

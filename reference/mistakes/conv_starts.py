"""Mistakes in where the windows begin: what is taken off for the padding, and how far everything is shifted.

The padded pixel of tap k of window h is h*stride + k*dilation, and the padding before x is taken off to come to x.
"""

from __future__ import annotations

from backproof.reference.mistakes.conv_walks import Change, rolled, starts

#: What is done, and why. The first ones are the plainest.
STARTS: tuple[Change, ...] = (
    Change(
        "leaves the padding on",
        "pixel 0 of x is taken for place 0 of the padded x, and the low padding is not subtracted",
        starts(lambda a: 0),
        needs="padding",
    ),
    Change(
        "exchanges the two sides of the padding",
        "what is padded behind x is taken for what is before it",
        starts(lambda a: a.high),
        needs="padding",
    ),
    Change(
        "puts the remainder first",
        "the rows that no window reaches stand before the others instead of behind them",
        starts(lambda a: a.low - a.remainder),
        needs="stride",
    ),
    Change(
        "splits the remainder between both sides",
        "half of the rows that no window reaches stand before the others",
        starts(lambda a: a.low - a.remainder // 2),
        needs="stride",
    ),
    Change(
        "takes the remainder off the front",
        "everything lies remainder pixels too early",
        starts(lambda a: a.low + a.remainder),
        needs="stride",
    ),
    Change(
        "pads dout as for a kernel without dilation",
        "a dilated one needs dilation*(K-1) zeros around dout, not K-1",
        starts(lambda a: a.low + a.reach - a.kernel),
        needs="dilation",
    ),
    Change(
        "pads dout by K-1 zeros whatever the padding",
        "dilation*(K-1) less the padding of x belongs there",
        starts(lambda a: a.reach - a.kernel),
        needs="dilation padding",
    ),
    Change(
        "does not crop dout where the padding is larger than the dilated kernel - 1",
        "a negative full padding counts as 0",
        starts(lambda a: min(a.low, a.reach - 1)),
        needs="padding",
    ),
    Change(
        "crops dout before spreading it",
        "padding beyond the dilated kernel is taken off stride times",
        starts(lambda a: a.low + (a.stride - 1) * max(0, a.low - a.reach + 1)),
        needs="stride padding",
    ),
    Change(
        "pads dout before spreading it",
        "the zeros around dout are spread by the stride too",
        starts(lambda a: a.low + (1 - a.stride) * (a.reach - 1)),
        needs="stride",
    ),
    Change(
        "divides the padding by the stride",
        "padding//stride is taken off",
        starts(lambda a: a.low // a.stride),
        needs="stride padding",
    ),
    Change(
        "multiplies the padding by the stride",
        "padding*stride is taken off",
        starts(lambda a: a.low * a.stride),
        needs="stride padding",
    ),
    Change(
        "multiplies the padding by the dilation",
        "tap k lies at dilation*(k - padding)",
        starts(lambda a: a.low * a.dilation),
        needs="dilation padding",
    ),
    Change(
        "splits the padding evenly",
        "half of both sides' padding is put before x",
        starts(lambda a: (a.low + a.high) // 2),
        needs="padding",
    ),
    Change(
        "splits the padding evenly and rounds up",
        "the larger half of both sides' padding is put before x",
        starts(lambda a: -(-(a.low + a.high) // 2)),
        needs="padding",
    ),
    Change(
        "puts all the padding before x",
        "low + high pixels are taken off",
        starts(lambda a: a.low + a.high),
        needs="padding",
    ),
    Change(
        "takes the padding off twice",
        "2*padding pixels are taken off in front",
        starts(lambda a: 2 * a.low),
        needs="padding",
    ),
    Change(
        "has the sign of the padding wrong",
        "the low padding is added where it is subtracted",
        starts(lambda a: -a.low),
        needs="padding",
    ),
    Change(
        "takes half of the kernel for the padding",
        "the windows are centred, as for an output of the same size",
        starts(lambda a: a.kernel // 2),
    ),
    Change(
        "takes half of the dilated kernel for the padding",
        "the windows are centred, as for an output of the same size",
        starts(lambda a: (a.reach - 1) // 2),
        needs="dilation",
    ),
    Change(
        "anchors the windows at their last tap",
        "they lie dilation*(K-1) pixels too early",
        starts(lambda a: a.low + a.reach - 1),
    ),
    Change(
        "anchors the windows at their middle tap",
        "they lie dilation*(K//2) pixels too early",
        starts(lambda a: a.low + a.dilation * (a.kernel // 2)),
    ),
    Change(
        "takes the middle of an even kernel a pixel too far in front",
        "an even kernel has no middle tap, and K//2 and (K-1)//2 differ",
        starts(lambda a: a.low - (1 - a.kernel % 2)),
    ),
    Change(
        "takes the middle of an even kernel a pixel too far behind",
        "an even kernel has no middle tap, and K//2 and (K-1)//2 differ",
        starts(lambda a: a.low + (1 - a.kernel % 2)),
    ),
    Change(
        "rolls everything by a pixel where the kernel is even",
        "an even kernel has no middle tap, and K//2 and (K-1)//2 differ",
        rolled(starts(lambda a: a.low - (1 - a.kernel % 2))),
    ),
    Change(
        "is a pixel late",
        "every index is one too large",
        starts(lambda a: a.low - 1),
    ),
    Change(
        "is a pixel early",
        "every index is one too small",
        starts(lambda a: a.low + 1),
    ),
    Change(
        "is rotated by a pixel",
        "every index is one too large, and the last one wraps around",
        rolled(starts(lambda a: a.low - 1)),
    ),
    Change(
        "is rotated back by a pixel",
        "every index is one too small, and index -1 is the last pixel",
        rolled(starts(lambda a: a.low + 1)),
    ),
    Change(
        "is stride-1 pixels late",
        "window h starts at (h+1)*stride - 1",
        starts(lambda a: a.low - a.stride + 1),
        needs="stride",
    ),
    Change(
        "is a stride late",
        "window h starts at (h+1)*stride",
        starts(lambda a: a.low - a.stride),
        needs="stride",
    ),
    Change(
        "is a stride early",
        "window h starts at (h-1)*stride",
        starts(lambda a: a.low + a.stride),
        needs="stride",
    ),
    Change(
        "is a dilation late",
        "tap k lies at (k+1)*dilation",
        starts(lambda a: a.low - a.dilation),
        needs="dilation",
    ),
    Change(
        "is a dilation early",
        "tap k lies at (k-1)*dilation",
        starts(lambda a: a.low + a.dilation),
        needs="dilation",
    ),
)

"""Mistakes in the way from window to window and from tap to tap: stride and dilation.

The padded pixel of tap k of window h is h*stride + k*dilation, and the padding before x is taken off to come to x.
"""

from __future__ import annotations

from backproof.reference.mistakes.conv_walks import Change, over_the_edge, rolled, steps, without
from backproof.reference.mistakes.convolution import places

#: What is done, and why. The first ones are the plainest.
STEPS: tuple[Change, ...] = (
    Change(
        "puts the windows side by side",
        "the stride is missing where window h starts at h*stride",
        steps(stride=lambda a: 1),
        needs="stride",
    ),
    Change(
        "puts the taps side by side",
        "the dilation is missing where tap k lies at k*dilation",
        steps(dilation=lambda a: 1),
        needs="dilation",
    ),
    Change(
        "turns the kernel around",
        "tap k is taken for tap K-1-k (a convolution where a correlation belongs, or a flip too many or too few)",
        lambda axes, k: places(axes[k])[:, ::-1],
    ),
    Change(
        "exchanges stride and dilation",
        "window h lies at h*dilation and tap k at k*stride",
        steps(lambda a: a.dilation, lambda a: a.stride),
        needs="stride dilation",
    ),
    Change(
        "applies the stride twice",
        "window h starts at h*stride*stride",
        steps(stride=lambda a: a.stride**2),
        needs="stride",
    ),
    Change(
        "applies the dilation twice",
        "tap k lies at k*dilation*dilation",
        steps(dilation=lambda a: a.dilation**2),
        needs="dilation",
    ),
    Change(
        "knows no stride above 2",
        "one zero is put between the pixels of dout, where stride-1 belong",
        steps(stride=lambda a: min(a.stride, 2)),
        needs="stride",
    ),
    Change(
        "multiplies the stride by the dilation",
        "window h starts at h*stride*dilation",
        steps(stride=lambda a: a.stride * a.dilation),
        needs="stride dilation",
    ),
    Change(
        "multiplies the dilation by the stride",
        "tap k lies at k*dilation*stride",
        steps(dilation=lambda a: a.dilation * a.stride),
        needs="stride dilation",
    ),
    Change(
        "takes the dilation for the stride",
        "window h starts at h*dilation",
        steps(stride=lambda a: a.dilation),
        needs="stride dilation",
    ),
    Change(
        "takes the stride for the dilation",
        "tap k lies at k*stride",
        steps(dilation=lambda a: a.stride),
        needs="stride dilation",
    ),
    Change(
        "takes the kernel size for the stride",
        "window h starts at h*K",
        steps(stride=lambda a: a.kernel),
        needs="stride",
    ),
    Change(
        "puts as many zeros between the pixels of dout as the stride is long",
        "window h starts at h*(stride+1), one too far",
        steps(stride=lambda a: a.stride + 1),
        needs="stride",
    ),
    Change(
        "puts one zero too few between the pixels of dout",
        "window h starts at h*(stride-1) where the stride is above 1",
        steps(stride=lambda a: max(1, a.stride - 1)),
        needs="stride",
    ),
    Change(
        "takes the dilation for the number of zeros between taps",
        "tap k lies at k*(dilation+1)",
        steps(dilation=lambda a: a.dilation + 1),
        needs="dilation",
    ),
    Change(
        "knows no dilation above 2",
        "tap k lies at k*min(dilation, 2)",
        steps(dilation=lambda a: min(a.dilation, 2)),
        needs="dilation",
    ),
    Change(
        "puts every tap at the first one's pixel",
        "the offset k*dilation of tap k is missing",
        steps(dilation=lambda a: 0),
    ),
    Change(
        "puts every window at the first one's place",
        "the offset h*stride of window h is missing",
        steps(stride=lambda a: 0),
    ),
    Change(
        "forgets both stride and dilation",
        "window h starts at h and its tap k lies at k",
        steps(lambda a: 1, lambda a: 1),
        needs="stride dilation",
    ),
    Change(
        "adds tap to window without its own step",
        "tap k of window h lies at h, as if there were one tap and no stride",
        steps(lambda a: 1, lambda a: 0),
        needs="stride",
    ),
    Change(
        "puts the taps side by side where the stride is above 1",
        "the path for strides leaves the dilation out",
        steps(dilation=lambda a: 1 if a.stride > 1 else a.dilation),
        needs="stride dilation",
    ),
    Change(
        "puts the windows side by side where the dilation is above 1",
        "the path for dilation leaves the stride out",
        steps(stride=lambda a: 1 if a.dilation > 1 else a.stride),
        needs="stride dilation",
    ),
    Change(
        "puts every tap at the first one's pixel where the stride is larger than the kernel",
        "the offset k*dilation of tap k is missing there",
        steps(dilation=lambda a: 0 if a.stride > a.kernel else a.dilation),
        needs="stride",
    ),
    Change(
        "takes the taps backwards from where a window starts",
        "tap k lies at -k*dilation and wraps around: the spectrum of w is not conjugated",
        rolled(steps(dilation=lambda a: -a.dilation)),
    ),
    Change(
        "takes the windows backwards",
        "window h starts at -h*stride and wraps around: the spectrum of dout is not conjugated",
        rolled(steps(stride=lambda a: -a.stride)),
    ),
    Change(
        "takes the windows in the opposite order",
        "window h is taken for the one as far from the end",
        lambda axes, k: places(axes[k])[::-1],
    ),
    Change(
        "leaves out the taps between the strides",
        "only taps whose offset k*dilation is a multiple of the stride count",
        without(lambda a, q, k: k * a.dilation % a.stride > 0),
        needs="stride",
    ),
    Change(
        "takes the windows not to overlap",
        "taps at a stride's distance or more from the first do not count",
        without(lambda a, q, k: k * a.dilation >= a.stride),
        needs="stride",
    ),
    Change(
        "leaves out the last tap of even kernels",
        "taps are counted from the middle, (K-1)//2 to either side",
        without(lambda a, q, k: (k == a.kernel - 1) & (a.kernel % 2 == 0)),
    ),
    Change(
        "leaves out the first tap of even kernels",
        "taps are counted from the middle, (K-1)//2 to either side",
        without(lambda a, q, k: (k == 0) & (a.kernel % 2 == 0)),
    ),
    Change(
        "counts the middle tap alone",
        "the others are left out",
        without(lambda a, q, k: k != a.kernel // 2),
    ),
    Change(
        "leaves out the last window where nothing is left over behind it",
        "< stands for <= where the loop asks whether a window still fits",
        without(lambda a, q, k: (q == a.out - 1) & (a.remainder == 0)),
        needs="stride",
    ),
    Change(
        "leaves out the last window where something is left over behind it",
        "the remainder is taken for a reason to stop one window earlier",
        without(lambda a, q, k: (q == a.out - 1) & (a.remainder > 0)),
        needs="stride",
    ),
    Change(
        "ends with the first tap of the last window where something is left over",
        "its other taps are taken to lie in the remainder",
        without(lambda a, q, k: (q == a.out - 1) & (k > 0) & (a.remainder > 0)),
        needs="stride",
    ),
    Change(
        "leaves out the last tap of the last window where something is left over",
        "it is taken to lie in the remainder",
        without(lambda a, q, k: (q == a.out - 1) & (k == a.kernel - 1) & (a.remainder > 0)),
        needs="stride",
    ),
    Change(
        "leaves out the last tap of the last window",
        "the pixel that both end with is missed",
        without(lambda a, q, k: (q == a.out - 1) & (k == a.kernel - 1)),
    ),
    Change(
        "ends with the first tap of the last window",
        "its other taps are left out",
        without(lambda a, q, k: (q == a.out - 1) & (k > 0)),
    ),
    Change(
        "leaves out the windows that reach over the edge of x",
        "only windows that lie inside x count",
        without(over_the_edge),
        needs="padding",
    ),
)

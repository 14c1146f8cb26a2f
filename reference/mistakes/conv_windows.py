"""Mistakes in where windows and taps lie: those of stride, dilation and padding, along every axis or along one, and the
options of one axis for another's.
"""

from __future__ import annotations

from collections.abc import Callable

from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.conv_starts import STARTS
from backproof.reference.mistakes.conv_steps import STEPS
from backproof.reference.mistakes.conv_walks import Places, another, in_the_last_block, walked
from backproof.reference.mistakes.convolution import places

#: Along which axes something is wrong: the words, the ranks in which they differ from others, the axes.
ALONG: tuple[tuple[str, tuple[int, ...], Callable[[int], range]], ...] = (
    ("", (1, 2, 3), range),
    (" along the first axis alone", (2, 3), lambda rank: range(1)),
    (" along the last axis alone", (2, 3), lambda rank: range(rank - 1, rank)),
    (" along the middle axis alone", (3,), lambda rank: range(1, 2)),
    (" along every axis but the first", (3,), lambda rank: range(1, rank)),
    (" along every axis but the last", (3,), lambda rank: range(rank - 1)),
)

#: One axis' options for another's.
MIXED: tuple[tuple[str, Places, str], ...] = tuple(
    (f"{{tensor}} takes {what} of {words}.", change, needs)
    for which, words in (
        ("first", "the first axis for every axis"),
        ("last", "the last axis for every axis"),
        ("opposite", "the axes in the opposite order"),
    )
    for what, needs, change in (
        ("the stride", "stride", lambda axes, k, which=which: places(axes[k], stride=another(axes, k, which).stride)),
        (
            "the dilation",
            "dilation",
            lambda axes, k, which=which: places(axes[k], dilation=another(axes, k, which).dilation),
        ),
        (
            "stride and dilation",
            "stride dilation",
            lambda axes, k, which=which: places(
                axes[k], another(axes, k, which).stride, another(axes, k, which).dilation
            ),
        ),
        (
            "the padding",
            "padding",
            lambda axes, k, which=which: places(axes[k], shift=axes[k].low - another(axes, k, which).low),
        ),
        (
            "the kernel size (for the zeros around dout)",
            "",
            lambda axes, k, which=which: places(
                axes[k], shift=axes[k].dilation * (another(axes, k, which).kernel - axes[k].kernel)
            ),
        ),
        (
            "the size of out (for the zeros around dout)",
            "",
            lambda axes, k, which=which: places(axes[k], shift=axes[k].out - another(axes, k, which).out),
        ),
        (
            "the size of x (for the zeros around dout)",
            "",
            lambda axes, k, which=which: places(axes[k], shift=axes[k].size - another(axes, k, which).size),
        ),
    )
)

#: Blocks of channels whose last one, which is not full, has a path of its own.
TILES = (2, 4, 8, 16)
CHANGES = (*STEPS, *STARTS)

WINDOWS: tuple[Mistake, ...] = (
    *(
        walked(f"{{tensor}} {change.what}{words}: {change.why}.", change.places, change.needs, ranks, along)
        for words, ranks, along in ALONG
        for change in CHANGES
    ),
    *(walked(sentence, change, needs, (2, 3)) for sentence, change, needs in MIXED),
)

#: A path for the last block.
BLOCKS: tuple[Mistake, ...] = tuple(
    in_the_last_block(
        f"{{tensor}} {change.what} in the last block of {tile} channels, if it is not full: {change.why}.", change, tile
    )
    for tile in TILES
    for change in (*STEPS[:2], STARTS[0])
)

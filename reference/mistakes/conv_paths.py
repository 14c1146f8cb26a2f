"""Mistakes in one path of several, as for groups, 1x1 kernels or strides: wrong where it is taken, right elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from backproof.conformance.spec.case import Case
from backproof.conformance.spec.mistake import Mistake, Results
from backproof.reference.mistakes.convolution import Convolution, convolution_of


@dataclass(frozen=True)
class Path:
    """Where a path is taken, in words, and what mistakes show there alone in any case: these words are theirs."""

    words: str
    taken: Callable[[Convolution], bool]
    theirs: tuple[str, ...]


#: What stands in the sentences of mistakes that padding brings about.
OF_PADDING = ("padd", "pads", "reflect", "circular", "replicate", "edge", "border", "wraps around")
OF_STRIDES = ("stride", "remainder", "left over", "between two windows")

PATHS: tuple[Path, ...] = (
    Path("Where groups > 1", lambda conv: conv.groups > 1, ("group", "depthwise")),
    Path(
        "In a depthwise convolution",
        lambda conv: conv.groups > 1 and conv.w.shape[1] == 1,
        (
            "depthwise",
            "groups of",
            "group of",
            "channel of a group",
            "channels of a group",
            "the groups",
            "of w",
            "brings w",
            "brings dw",
            "of dw",
            "filter's channels",
        ),
    ),
    Path(
        "Where every kernel size is 1",
        lambda conv: all(axis.kernel == 1 for axis in conv.axes),
        (
            "tap",
            "kernel",
            "overlap",
            "dilat",
            "K-1",
            "h*K",
            "spreading",
            "cover",
            "in w,",
            "*K, C",
            "*K, O",
            "K reversed",
        ),
    ),
    Path("Where a stride is above 1", lambda conv: any(axis.stride > 1 for axis in conv.axes), OF_STRIDES),
    Path(
        "Where every stride is 1",
        lambda conv: conv.takes("stride") and all(axis.stride == 1 for axis in conv.axes),
        OF_STRIDES,
    ),
    Path(
        "Where a dilation is above 1",
        lambda conv: any(axis.dilation > 1 and axis.kernel > 1 for axis in conv.axes),
        ("dilat",),
    ),
    Path("Where x is padded", lambda conv: any(axis.low + axis.high for axis in conv.axes), OF_PADDING),
    Path(
        "Where x is not padded",
        lambda conv: conv.takes("padding") and not any(axis.low + axis.high for axis in conv.axes),
        OF_PADDING,
    ),
    Path(
        "Where there are several samples",
        lambda conv: len(conv.x) > 1,
        ("sample", "memory", "brings", "in the order"),
    ),
)


@lru_cache(maxsize=1)
def given_in(case: Case) -> dict[str, Results | None]:
    """What mistakes give in this case, by their sentences, as far as some path has asked: it is every path's."""
    return {}


def along(path: Path, mistake: Mistake) -> Mistake:
    """The mistake where the path is taken; elsewhere all is right."""

    def gives(case: Case, right: Results) -> Results | None:
        if not path.taken(convolution_of(case)):
            return None
        kept = given_in(case)
        if mistake.sentence not in kept:
            kept[mistake.sentence] = mistake.gives(case, right)
        return kept[mistake.sentence]

    return replace(mistake, sentence=f"{path.words}, {mistake.sentence}", gives=gives)


def on_paths(mistakes: Sequence[Mistake]) -> tuple[Mistake, ...]:
    """Each of them on every path on which it would not be called something plainer."""
    return tuple(
        along(path, mistake)
        for path in PATHS
        for mistake in mistakes
        if not any(word in mistake.sentence for word in path.theirs)
    )

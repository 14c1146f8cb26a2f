"""A failing item in the terminal.

Nothing of a run that passes is shown by this module, which imports rich: import it where something failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.text import Text

from backproof.conformance.explaining.related import AfterForward, Relation, SameCause
from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.arrays import case_lines, compared_lines
from backproof.conformance.reporting.record import Failure, Item
from backproof.conformance.reporting.styled import (
    CAUSE,
    CODE,
    FAILURE,
    MARGIN,
    coloured,
    command,
    excerpt,
    labelled,
    paragraph,
    plain,
)

#: The last lines of a traceback.
MOST_TRACEBACK = 10
#: Columns of the text where nobody says how many there are.
WIDTH = 100
#: A wider terminal is not filled.
WIDEST = 120
#: What is set in the environment of a CI, and where nobody wants colours.
COLOURLESS = ("CI", "BUILD_NUMBER", "NO_COLOR")


def in_colour(has_markup: bool, environment: Mapping[str, str]) -> bool:
    """Whether a terminal that has markup is written to in colour: not in a CI, nor where nobody wants it."""
    return has_markup and not any(environment.get(name) for name in COLOURLESS)


def shown(item: Item, relation: Relation | None = None, width: int = WIDTH, colour: bool = False) -> str:
    """A failing item as a terminal of this width has it; `relation` is what it has to do with an earlier one."""
    found = list(lines(item, relation, min(width, WIDEST)))
    return coloured(found) if colour else plain(found)


def lines(item: Item, relation: Relation | None, width: int) -> Iterator[Text]:
    """All failures of an item, the most frequent kind first; what is related to an earlier failure is kept short."""
    for failure in item.failures if relation is None else item.failures[:1]:
        first = failure is item.failures[0]
        if not first:
            yield Text()
        yield from paragraph(sentences.heading(item, failure, relation), width, FAILURE, indent=MARGIN)
        if relation is not None:
            yield from _related(item, failure, relation, width)
        else:
            yield from _whole(item, failure, width) if first else _further(item, failure, width)
        if (script := sentences.script(failure)) is not None:
            yield from command("script", script, width)
    yield from command("again", item.again, width)


def _related(item: Item, failure: Failure, relation: Relation, width: int) -> Iterator[Text]:
    """What an earlier failure does not say."""
    if item.kept is not None:
        yield from labelled("kept", item.kept, width)
    if isinstance(relation, AfterForward):
        yield from _several("why", sentences.alternatives(relation.causes), width, CAUSE)
    elif isinstance(relation, SameCause):
        yield from labelled("smallest", sentences.in_a_line(failure), width)


def _whole(item: Item, failure: Failure, width: int) -> Iterator[Text]:
    """Everything, on one screen."""
    yield Text()
    yield from _question(item, failure, width)
    yield Text()
    arrays = {name: a for name, a in failure.arrays.items() if a is not None and name not in failure.unread}
    yield from case_lines(arrays, width)
    if compared := compared_lines(item, failure, width):
        yield Text()
        yield from compared
    if failure.traceback:
        traceback = failure.traceback.rstrip().splitlines()
        yield Text()
        yield from excerpt(
            traceback if len(traceback) <= MOST_TRACEBACK + 1 else ["...", *traceback[-MOST_TRACEBACK:]], width
        )
    yield Text()
    yield from _facts(item, failure, width)


def _further(item: Item, failure: Failure, width: int) -> Iterator[Text]:
    """A further kind of failure, without its arrays."""
    yield from _question(item, failure, width)
    own = (failure.traceback or "").rstrip().splitlines()[1:-1]
    # The last of the implementation's own lines, without what underlines it.
    yield from _several("at", [line for line in own if line.strip(" ~^")][-2:], width)
    yield from _facts(item, failure, width)


def _question(item: Item, failure: Failure, width: int) -> Iterator[Text]:
    """The call, and what is special about it."""
    yield from _several("call", failure.calls, width, CODE)
    if failure.layouts:
        yield from labelled("memory", ", ".join(sentences.memory(failure)), width)
    if item.kept is not None:
        yield from labelled("kept", item.kept, width)


def _facts(item: Item, failure: Failure, width: int) -> Iterator[Text]:
    """Where, why, and how small."""
    for label, facts in sentences.facts(item, failure):
        yield from _several(label, facts, width, CAUSE if label == "why" and failure.diagnosis else "")


def _several(label: str, texts: Iterable[str], width: int, style: str = "") -> Iterator[Text]:
    """Texts behind one label."""
    for k, text in enumerate(texts):
        yield from labelled("" if k else label, text, width, style)

"""A failure in words: what a reader sees in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import written
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.explaining.related import AfterForward, Relation, SameCause
from backproof.conformance.explaining.rules import EVERYWHERE, SOMEHOW_EVERYWHERE
from backproof.conformance.judging.properties import property_of
from backproof.conformance.reporting import styled
from backproof.conformance.reporting.record import in_layout
from backproof.conformance.reporting.styled import Block, Excerpt, Gap, Line, Paragraph, command, labelled
from backproof.conformance.reporting.terminal_arrays import Arrays, Compared, wrong_entries
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.precision import PRECISIONS

#: Cells that were never hit, by name.
MOST_NAMED = 4
#: The last lines of a traceback.
MOST_TRACEBACK = 10
#: Columns of the text where nobody says how many there are.
WIDTH = 100
#: A wider terminal is not filled.
WIDEST = 120
#: What is set in the environment of a CI, and where nobody wants colours.
COLOURLESS = ("CI", "BUILD_NUMBER", "NO_COLOR")

#: Kinds of failure whose two arrays say no more than their sentence.
WITHOUT_ARRAYS = ("crash", "refused", "result", "dtype")
#: Kinds for which a known mistake is looked for.
WRONG_NUMBERS = ("value", "shape", "nonfinite")


@dataclass(frozen=True, eq=False)
class Account:
    """All that is told of one failing item, for any width."""

    blocks: tuple[Block, ...]

    def lines(self, width: int = WIDTH) -> list[Line]:
        """The lines, as texts with the names of their styles."""
        return [line for block in self.blocks for line in block.lines(width)]

    def plain(self, width: int = WIDTH) -> str:
        """The text alone."""
        return styled.plain(self.lines(width))

    def coloured(self, width: int = WIDTH) -> str:
        """The text with a terminal's escape codes."""
        return styled.coloured(self.lines(width))

    def shown(self, width: int, colour: bool) -> str:
        """The text as a terminal of this width has it."""
        width = min(width, WIDEST)
        return self.coloured(width) if colour else self.plain(width)


def in_colour(markup: bool, environment: Mapping[str, str]) -> bool:
    """Whether a terminal gets colours: it has `markup`, nobody has asked for none, and it is not that of a CI."""
    return markup and not any(environment.get(name) for name in COLOURLESS)


def account(
    verdict: ItemResult,
    layer: Layer,
    settings: Mapping[str, Any],
    again: str,
    scripts: Sequence[str | None] = (),
    relation: Relation | None = None,
    kept: str | None = None,
) -> Account:
    """All failures of an item, the most frequent kind first, and `again`, the command that runs it once more.

    `scripts` are the files that reproduce them, in the same order. What is related to an earlier failure is told
    shortly. `kept` says what became of the cases that were kept from earlier runs.
    """
    item, founds = verdict.item, verdict.counterexamples
    files = [*scripts, *[None] * (len(founds) - len(scripts))]
    title = f"{item.part} {item.check} ({item.dtype})"
    ends = [command("again", again)]
    if relation is not None:
        text = f"{title} {relation.words}" if isinstance(relation, SameCause) else f"{title}: {relation.words}"
        blocks: list[Block] = [Paragraph(text, "failure", rest=styled.MARGIN)]
        blocks += _kept(kept)
        if isinstance(relation, AfterForward):
            blocks += _causes(relation.causes)
        elif isinstance(relation, SameCause):
            blocks.append(labelled("smallest", _in_a_line(founds[0], layer)))
        return Account((*blocks, *_scripts(files[:1]), *ends))
    several = len(founds) > 1
    blocks = []
    for k, (found, script) in enumerate(zip(founds, files, strict=True)):
        words = f"{title}: " if k == 0 else f"{title} fails in another way too: "
        blocks.append(Paragraph(words + found.discrepancy.message, "failure", rest=styled.MARGIN))
        facts = _Facts(found, verdict, layer, settings, several, kept)
        blocks += [*(facts.full() if k == 0 else facts.short()), *_scripts([script])]
        blocks += [Gap()] if k + 1 < len(founds) else []
    return Account((*blocks, *ends))


def headline(verdict: ItemResult) -> str:
    """The failure in one line."""
    first = verdict.counterexamples[0].discrepancy.message
    more = len(verdict.counterexamples) - 1
    return first + (f" (and {more} other kind{'s' if more > 1 else ''} of failure)" if more else "")


def coverage(cells: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A short table of what was judged: for each part how many of the named conditions held, and how seldom."""
    rows = [("cells", "hit", "fewest cases", "never")]
    for part, counts in cells.items():
        hit = {cell: count for cell, count in counts.items() if count}
        never = [cell for cell, count in counts.items() if not count]
        least = min(hit, key=lambda cell: hit[cell], default=None)
        told = ", ".join(never[:MOST_NAMED]) + (f" and {len(never) - MOST_NAMED} more" * (len(never) > MOST_NAMED))
        fewest = f"{hit[least]}, {least}" if least else ""
        rows.append((part, f"{len(hit)} of {len(counts)}", fewest, told))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    if len(rows) == 1:
        return []
    return ["  ".join([*(f"{row[k]:<{widths[k]}}" for k in range(3)), row[3]]).rstrip() for row in rows]


@dataclass(frozen=True, eq=False)
class _Facts:
    """One kind of failure of an item; `several`: it is not the only one."""

    found: Counterexample
    verdict: ItemResult
    layer: Layer
    settings: Mapping[str, Any]
    several: bool
    kept: str | None

    def full(self) -> Iterator[Block]:
        """Everything, on one screen."""
        discrepancy = self.found.discrepancy
        yield Gap()
        yield from self._question()
        yield Gap()
        yield Arrays(self._arrays())
        compared = self._compared()
        if compared is not None:
            yield Gap()
            yield compared
        if discrepancy.traceback:
            yield Gap()
            yield Excerpt(_last(discrepancy.traceback, MOST_TRACEBACK))
        yield Gap()
        yield from self._labels()

    def short(self) -> Iterator[Block]:
        """A further kind of failure, without its arrays."""
        yield from self._question()
        lines = (self.found.discrepancy.traceback or "").rstrip().splitlines()[1:-1]
        # The last of the candidate's own lines, without what underlines it.
        for label, line in zip(("at", ""), [line for line in lines if line.strip(" ~^")][-2:], strict=False):
            yield labelled(label, line)
        yield from self._labels()

    def _question(self) -> Iterator[Block]:
        """The call, and what is special about it."""
        case = self.found.case
        yield labelled("call", _call(self.found, self.layer), "code")
        if self._asks_backward():
            yield labelled("", f"{self.layer.name}_backward(dout, cache)", "code")
        if case.layouts:
            yield labelled("memory", ", ".join(f"{name}: {layout}" for name, layout in case.layouts.items()))
        yield from _kept(self.kept)

    def _labels(self) -> Iterator[Block]:
        """Where, why, and how small."""
        if self.found.discrepancy.kind == "refused":
            yield labelled("shown", "This is the first of the cases.")
            return
        yield labelled("where", self._where())
        yield from self._why()
        yield labelled("smallest", _minimality(self.found, self.verdict.item.check))

    def _asks_backward(self) -> bool:
        check, tensor = self.verdict.item.check, self.found.discrepancy.tensor
        return property_of(check).asks_backward(check, tensor, self.layer)

    def _arrays(self) -> dict[str, Array]:
        """The arrays that the failing result is made of."""
        case = self.found.case
        leave = {"dout"} if not self._asks_backward() else set()
        state = self.layer.contract.state
        if case.options.get("training") and self.found.discrepancy.tensor not in (None, *state):
            # What is updated in training, and not read.
            leave |= {*state} - {*case.layouts}
        shown = {n: in_layout(n, a, self.layer, self.settings) for n, a in case.wide.items() if n not in leave}
        return {name: array for name, array in shown.items() if array is not None}

    def _compared(self) -> Compared | None:
        """The two arrays that differ, where they say more than the sentence."""
        discrepancy, check = self.found.discrepancy, self.verdict.item.check
        if discrepancy.kind in WITHOUT_ARRAYS or discrepancy.expected is None or discrepancy.got is None:
            return None
        expected, got = (np.asarray(a, np.float64) for a in (discrepancy.expected, discrepancy.got))
        wrong = wrong_entries(expected, got, self._bound(expected), PRECISIONS[self.verdict.item.dtype].roundoff)
        if expected.ndim == 0 or (wrong is not None and not wrong.any()):
            return None
        return Compared(discrepancy.tensor or check, expected, got, wrong, property_of(check).columns)

    def _bound(self, expected: Array) -> Array | float | None:
        """How far off an entry of a tensor may be, in the candidate's layout."""
        check, tensor = self.verdict.item.check, self.found.discrepancy.tensor
        if tensor is None or not property_of(check).judges_results or self.found.discrepancy.kind == "state":
            return None
        bound = self.found.reference.expected(self.found.case).bounds.get(tensor)
        if bound is None or isinstance(bound, float):
            return bound
        seen = in_layout(tensor, bound, self.layer, self.settings)
        return seen if seen is not None and seen.shape == expected.shape else None

    def _where(self) -> str:
        failed, passed = self.found.failed, self.found.passed
        like_this = " like this" if self.several else ""
        if self.found.case.flaw is not None:
            return f"accepts {failed} of {failed + passed} cases that have no meaning"
        if self.found.region == EVERYWHERE:
            return f"fails{like_this} in all {failed} cases" if failed > 1 else f"fails{like_this} in the one case"
        if self.found.region == SOMEHOW_EVERYWHERE:
            return f"fails{like_this} in all {failed} configurations, though not with any numbers"
        if self.found.region:
            inside, unit = self.found.inside, " configurations" if self.found.configurations else ""
            where = f"fails{like_this} {'only ' if inside else ''}where {self.found.region}"
            return f"{where}: {failed} of {failed + inside}{unit}; elsewhere 0 of {passed - inside} failed"
        total, judged = f"{failed} of {failed + passed}", "" if passed else "; no case passed"
        return f"fails{like_this} in {total} cases{judged}"

    def _why(self) -> Iterator[Block]:
        """The diagnosis; where there is none, where the error sits."""
        found = self.found
        if found.diagnosis:
            yield from _causes(found.diagnosis)
        elif found.site or (found.discrepancy.kind in WRONG_NUMBERS and found.steady and found.unexplained is None):
            yield labelled("why", "no known mistake gives this result")
        if found.step:
            textbook = f"see backproof.textbook.{self.layer.name}_backward"
            yield labelled("step", f"{found.step.removeprefix('step ')} ({textbook})")
        if not found.diagnosis:
            for sentence in found.site:
                yield labelled("", sentence)


def _kept(sentence: str | None) -> Iterator[Block]:
    if sentence is not None:
        yield labelled("kept", sentence)


def _causes(sentences: Sequence[str]) -> Iterator[Block]:
    """All that can be behind a failure."""
    for k, sentence in enumerate(sentences):
        yield labelled("" if k else "why", f"or: {sentence}" if k else sentence, "cause")


def _call(found: Counterexample, layer: Layer) -> str:
    """The forward's call, with the options that are not plain."""
    case, signature = found.case, found.reference.space.signature
    told = [name if case.arrays.get(name) is not None else f"{name}=None" for name in signature.arrays]
    told += [f"{name}={name}" for name in (layer.contract.state if signature.state else ())]
    for option in layer.contract.options:
        value = case.options[option.name]
        if option.name in signature.options and np.unique(np.asarray(value)).tolist() != [option.neutral]:
            form = case.configuration.forms.get(option.name)
            told.append(f"{option.name}={value if form is None else written(value, form)!r}")
    return f"{layer.name}_forward({', '.join(told)})"


def _in_a_line(found: Counterexample, layer: Layer) -> str:
    """The smallest case in a line: its call with shapes, and its sentence."""
    shapes = ", ".join(f"{name} {a.shape}" for name, a in found.case.arrays.items() if a is not None)
    return f"{_call(found, layer)} with {shapes}: {found.discrepancy.message}"


def _minimality(found: Counterexample, check: str) -> str:
    """How far it is proved that nothing smaller fails."""
    count = found.smaller_cases
    tried = "1 case" if count == 1 else f"{count} cases"
    if not found.steady:
        return "not looked for: it does not fail every time; asked again, the same case gave another result"
    if found.unexplained is not None:
        return f"not looked for; {found.unexplained.rstrip('.')}"
    if property_of(check).is_listed:
        return f"the first that fails of the item's list, after {tried}" if count else "the first of the item's list"
    numbers = "every number is 0 or 1 or needed" if found.plain else "plainer numbers were not all tried"
    if found.proved:
        smaller = f"no smaller configuration fails ({tried} tried, every fill of each)"
        return f"{smaller if count else 'there is no smaller configuration'}; {numbers}"
    if count:
        smaller = "one smaller case was" if count == 1 else f"{count} smaller cases were"
        return f"the smallest found: {smaller} tried and did not fail, others were not tried; {numbers}"
    return f"the first found, none that is smaller was tried; {numbers}"


def _scripts(files: Sequence[str | None]) -> Iterator[Block]:
    for file in files:
        if file is not None:
            yield command("script", f"python {shlex.quote(file)}")


def _last(traceback: str, most: int) -> list[str]:
    """The end of a traceback."""
    lines = traceback.rstrip().splitlines()
    return lines if len(lines) <= most + 1 else ["...", *lines[-most:]]

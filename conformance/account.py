"""A failure in words: what a reader sees in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backproof.conformance.candidate import written
from backproof.conformance.case import Array, Case
from backproof.conformance.layer import Layer
from backproof.conformance.report import in_layout
from backproof.conformance.session import Verdict
from backproof.conformance.tally import Counterexample

#: Arrays of more elements are shown by their shape alone.
MOST_SHOWN = 64
#: Cells that were never hit, by name.
MOST_NAMED = 4


def account(verdict: Verdict, layer: Layer, settings: Mapping[str, Any], again: str) -> str:
    """All failures of an item, the most frequent kind first, and `again`, the command that runs it once more."""
    parts = [_one(found, verdict, layer, settings) for found in verdict.counterexamples]
    return "\n\n".join([*parts, f"  run again: {again}"])


def headline(verdict: Verdict) -> str:
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


def _one(found: Counterexample, verdict: Verdict, layer: Layer, settings: Mapping[str, Any]) -> str:
    case, discrepancy = found.case, found.discrepancy
    lines = [f"{verdict.item.part} {verdict.item.check} ({case.dtype}): {discrepancy.message}", ""]
    options = _options(case, layer)
    if options:
        lines.append(f"  {options}")
    if case.layouts:
        lines.append("  memory: " + ", ".join(f"{name} {layout}" for name, layout in case.layouts.items()))
    shown = {name: in_layout(name, a, layer, settings) for name, a in case.wide.items()}
    tensor = discrepancy.tensor or verdict.item.check
    differ = discrepancy.kind not in ("crash", "refused", "result")
    if differ and discrepancy.expected is not None:
        shown |= {
            f"{tensor} expected": discrepancy.expected,
            f"{tensor} got": discrepancy.got,
        }
    width = max(len(name) for name in shown)
    for name, array in shown.items():
        lines += _aligned(f"  {name:<{width}} = ", array)
    lines.append("")
    if case.origin == "kept":
        lines.append("  This case was kept from an earlier run.")
    if discrepancy.kind == "refused":
        lines.append("  This is the first of the cases.")
    else:
        lines += [f"  {_minimality(found)}", f"  {_where(found)}"]
    if discrepancy.traceback:
        lines += ["", *[f"  {line}" for line in discrepancy.traceback.rstrip().splitlines()]]
    return "\n".join(lines)


def _options(case: Case, layer: Layer) -> str:
    """The options that are not plain, as a call would have them."""
    told = []
    for option in layer.contract.options:
        value = case.options[option.name]
        flat = np.unique(np.asarray(value)).tolist()
        if flat != [option.neutral]:
            form = case.configuration.forms.get(option.name)
            told.append(f"{option.name}={value if form is None else written(value, form)!r}")
    return ", ".join(told)


def _aligned(start: str, array: Array | None) -> list[str]:
    if array is None:
        return [f"{start}None"]
    if array.size > MOST_SHOWN:
        return [f"{start}array of shape {array.shape}"]
    if array.size == 0:
        return [f"{start}empty, shape {array.shape}"]
    text = np.array2string(array, separator=", ", max_line_width=100, formatter={"float_kind": lambda v: f"{v:.6g}"})
    first, *rest = text.splitlines()
    return [start + first, *[" " * len(start) + line for line in rest]]


def _minimality(found: Counterexample) -> str:
    count = found.smaller_cases
    cases, were = ("case", "was") if count == 1 else ("cases", "were")
    if not found.steady:
        return "It does not fail every time: asked again, the same case gave another result."
    if found.proved and count:
        all_of = "the only one" if count == 1 else "all that there are"
        return f"Minimal: {count} smaller {cases}, {all_of}, {were} judged with every fill; none fails like this."
    if found.proved:
        return "Minimal: there is no smaller configuration."
    if count:
        return (
            f"The smallest found: {count} smaller {cases} {were} judged and none fails like this; others are untried."
        )
    return "The first found; smaller ones were not tried."


def _where(found: Counterexample) -> str:
    if found.region == "every case":
        return (
            f"It fails in all {found.failed} cases that were judged."
            if found.failed > 1
            else "It fails in the one case."
        )
    if found.region:
        total = f"{found.failed} of {found.failed} failed; otherwise 0 of {found.passed}"
        return f"It fails where {found.region}: {total}."
    return f"It fails in {found.failed} of {found.failed + found.passed} cases."

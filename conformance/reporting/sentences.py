"""Every sentence that a reader sees of a run, an item and a failure, whatever the format."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from backproof.conformance.adapter.load import Adapter, Implementation
from backproof.conformance.cases.profile import Profile
from backproof.conformance.explaining.counterexample import EVERYWHERE, SOMEHOW_EVERYWHERE
from backproof.conformance.explaining.related import Relation, SameCause
from backproof.conformance.reporting.record import Failure, Item, Report, is_neutral
from backproof.conformance.spec.layer import Layer

#: What the outcomes of items are called, and how one of them is counted.
OUTCOMES: Mapping[str, str] = {
    "failed": "failed",
    "error": "could not be judged",
    "xpassed": "passed against expectation",
    "xfailed": "failed as known",
    "passed": "passed",
    "skipped": "skipped",
}
#: Kinds for which a known mistake is looked for.
WRONG_NUMBERS = ("value", "shape", "nonfinite")
#: Conditions that never held, by name.
MOST_NAMED = 4
#: Of an adapter's or candidate's warnings so many are shown.
MOST_WARNINGS_OF_ADAPTER, MOST_WARNINGS = 3, 5


class Entry(NamedTuple):
    """A failure that is reported by itself, with its item and the failures of other items that have the same reason."""

    item: Item
    failure: Failure
    alike: list[tuple[Item, Failure]]


def entries(report: Report) -> list[Entry]:
    """Every failure that is reported by itself.

    An item that refers to one which is not there, or not reported itself, is reported itself.
    """
    alike: dict[str, list[tuple[Item, Failure]]] = {item.id: [] for item in report.items if not item.same_as}
    found: list[Entry] = []
    for item in report.items:
        other = alike.get(item.same_as or "")
        if other is not None:
            other += [(item, failure) for failure in item.failures]
            continue
        first = alike.get(item.id, [])
        found += [Entry(item, failure, first if k == 0 else []) for k, failure in enumerate(item.failures)]
    return found


# The run


def verdict(report: Report) -> str:
    """The whole run in a few words."""
    if report.conforms:
        return "conforms"
    return "has no verdict" if report.conforms is None else "does not conform"


def reasons(report: Report) -> list[str]:
    """How the verdict came about."""
    items = report.items
    if not items:
        return ["No item was judged."]
    sentences = [outcomes(items)]
    if not report.complete:
        sentences.append("Not every item was run, so this is no verdict on the whole adapter.")
    surprising = [title(item) for item in items if item.outcome == "xpassed"]
    if surprising:
        sentences.append(f"Named as known failures, but passed: {', '.join(surprising)}. Take them off the list.")
    errors = [title(item) for item in items if item.outcome == "error"]
    if errors:
        sentences.append(f"Backproof itself failed on {', '.join(errors)}: the terminal's output says how.")
    unasked = [title(item) for item in items if item.outcome == "skipped" and not item.unsupported]
    if unasked and not report.conforms:
        sentences.append(f"No case could be judged for {', '.join(unasked)}.")
    quiet = {item.outcome for item in items} <= {"passed", "skipped"}
    if report.conforms is False and quiet and not unasked:
        sentences.append("A known failure that was named did not occur.")
    return sentences


def outcomes(items: Sequence[Item]) -> str:
    """How many items came to which outcome."""
    counts = {name: sum(item.outcome == name for item in items) for name in OUTCOMES}
    first, *rest = [f"{count} {OUTCOMES[name]}" for name, count in counts.items() if count]
    number, _, words = first.partition(" ")
    total = f"{number} of {len(items)}" if rest else f"All {number}" if len(items) > 1 else "The one"
    return ", ".join([f"{total} item{'s' * (len(items) > 1)} {words}", *rest]) + "."


def settings(report: Report) -> str:
    """How the run was made."""
    parts = [f"Backproof {report.backproof}"]
    parts += [] if report.profile is None else [f"profile {report.profile}"]
    parts += [] if report.seed is None else [f"seed {report.seed}"]
    seconds = report.duration_s
    return " · ".join(
        [*parts, judgements(report.items), f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"]
    )


def judgements(items: Iterable[Item]) -> str:
    """How much was judged."""
    count = sum(item.examples for item in items)
    return f"{count} judgement{'s' * (count != 1)}"


def header(
    adapter: Adapter, spec: str, version: str, layers: Sequence[Layer], profile: Profile, seed: int, alone: bool
) -> list[str]:
    """What is judged, and how, before it is; `alone`: nothing but the suite is collected."""
    where = f" ({adapter.path})" if adapter.path and str(adapter.path) != spec else ""
    found = [
        layer_with_settings(layer, adapter.implementations[layer.name])
        for layer in layers
        if layer.name in adapter.implementations
    ]
    missing = f"; not found, not checked: {', '.join(adapter.missing)}" if adapter.missing else ""
    lines = [
        f"backproof {version}: judging {spec}{where}",
        f"  layers: {', '.join(found)}{missing}",
        f"  dtypes: {', '.join(adapter.settings['dtypes'])} · profile {profile.name}, "
        f"{profile.examples} drawn cases a layer, rank and dtype · seed {seed}"
        f"{' · only the suite is collected' * alone}",
    ]
    for name, implementation in adapter.implementations.items():
        if ignored := implementation.signature.left_alone:
            lines.append(f"  {name}_forward: not of the contract, left at their defaults: {', '.join(ignored)}")
    return lines + [f"  the adapter's import warned: {text}" for text in adapter.warnings[:MOST_WARNINGS_OF_ADAPTER]]


def layer_with_settings(layer: Layer, implementation: Implementation) -> str:
    """A layer with its parts, if they have names of their own, and the settings that are not the default.

    Such as "conv (conv1d, conv2d; layout channels_last)". A setting that the names of the parts show is left out.
    """
    chosen, known = implementation.settings, layer.contract.settings
    titles = [part.title for part in layer.parts(chosen)]
    unusual = []
    for name, setting in known.items():
        plain = {**chosen, name: setting.default}
        if chosen[name] != setting.default and [part.title for part in layer.parts(plain)] == titles:
            value = chosen[name]
            unusual.append(f"{name} {', '.join(map(str, value)) if isinstance(value, tuple) else value}")
    details = [", ".join(titles)] if titles != [layer.name] else []
    details += unusual
    return f"{layer.name} ({'; '.join(details)})" if details else layer.name


def layer_summary(layer: Layer, items: Sequence[Item]) -> str:
    """Such as "conv: does not conform: 2 of 28 items failed (conv2d dx) · 9120 judgements"."""
    counts = {name: sum(item.outcome == name for item in items) for name in OUTCOMES}
    failed = [item for item in items if item.outcome in ("failed", "error")]
    if failed:
        names = dict.fromkeys(f"{item.part} {item.check}" for item in failed)
        text = f"does not conform: {len(failed)} of {len(items)} items failed ({', '.join(names)})"
    elif counts["xfailed"]:
        text = f"{counts['xfailed']} of {len(items)} items failed as known"
    else:
        text = f"{counts['passed']} of {len(items)} items passed"
    parts = [f"{layer.name}: {text}"]
    parts += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
    # A forward's refusals concern every item and are shown for the output, a backward's for the first gradient.
    refused: dict[tuple[str, str], str] = {}
    first = layer.contract.gradients[0]
    for item in items:
        if item.refused and item.check in ("out", first):
            refused.setdefault((item.part, item.refused), item.part if item.check == "out" else f"{item.part} {first}")
    return " · ".join([*parts, judgements(items), *(f"{name} {words}" for (_, words), name in refused.items())])


def progress(title: str, done: int, total: int, seconds: float) -> str:
    """How far a run is."""
    return f"  {title}: {done} of {total} cases judged ({seconds:.0f} s)"


def warned(counts: Mapping[str, int]) -> list[str]:
    """What the candidate warned of, the most frequent first."""
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_WARNINGS]
    return [f"the candidate warned {count} time{'s' * (count > 1)}: {text}" for text, count in most]


def coverage(cells: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A short table of what was judged: for each part how many of the named conditions held, and how seldom."""
    rows = [("cells", "hit", "fewest cases", "never")]
    for part, counts in cells.items():
        hit = {cell: count for cell, count in counts.items() if count}
        least = min(hit, key=lambda cell: hit[cell], default=None)
        fewest = f"{hit[least]}, {least}" if least else ""
        rows.append((part, f"{len(hit)} of {len(counts)}", fewest, never(counts)))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    if len(rows) == 1:
        return []
    return ["  ".join([*(f"{row[k]:<{widths[k]}}" for k in range(3)), row[3]]).rstrip() for row in rows]


def conditions_met(counts: Mapping[str, int]) -> str:
    """How many conditions held, and which did not."""
    missed = never(counts)
    met = f"{sum(map(bool, counts.values()))} of {len(counts)} conditions met"
    return f"{met}; never: {missed}" if missed else met


def never(counts: Mapping[str, int]) -> str:
    """The conditions that never held, the first of them by name."""
    missed = [cell for cell, count in counts.items() if not count]
    more = f" and {len(missed) - MOST_NAMED} more" * (len(missed) > MOST_NAMED)
    return ", ".join(missed[:MOST_NAMED]) + more


# An item


def title(item: Item) -> str:
    """Such as "conv2d dx float64"."""
    return " ".join(item.id.split("::")[1:])


def heading(item: Item, failure: Failure, relation: Relation | None = None) -> str:
    """What fails, and how; of an item that is related to an earlier failure, what it has to do with it."""
    name = f"{item.part} {item.check} ({item.dtype})"
    if relation is not None:
        return f"{name}{'' if isinstance(relation, SameCause) else ':'} {relation.words}"
    return f"{name}{'' if failure is item.failures[0] else ' fails in another way too'}: {failure.message}"


def headline(item: Item) -> str:
    """A failing item in one line."""
    more = len(item.failures) - 1
    return item.failures[0].message + (f" (and {more} other kind{'s' if more > 1 else ''} of failure)" if more else "")


# A failure


def unusual(failure: Failure) -> list[str]:
    """The options that are not plain, as the call has them, and how arrays lie in memory."""
    options = [
        f"{name}={code(failure.written.get(name, value))}"
        for name, value in failure.options.items()
        if name not in failure.neutral or not is_neutral(value, failure.neutral[name])
    ]
    return options + memory(failure)


def memory(failure: Failure) -> list[str]:
    """How arrays lie in memory."""
    return [f"{name}: {layout}" for name, layout in failure.layouts.items()]


def code(value: Any) -> str:
    """The value as Python has it, sequences as tuples."""
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(code, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def where(item: Item, failure: Failure) -> str | None:
    """Which cases fail, with their counts; None where they are not known."""
    counts = failure.region_counts
    if counts is None or failure.kind == "refused":
        return None
    failed, like_this = counts.failed, " like this" if len(item.failures) > 1 else ""
    if failure.invalidity is not None:
        return f"It accepts {failed} of {failed + counts.passed} cases that have no meaning."
    if failure.region == EVERYWHERE:
        return f"It fails{like_this} in {f'all {failed} cases' if failed > 1 else 'the one case that was judged'}."
    if failure.region == SOMEHOW_EVERYWHERE:
        return f"It fails{like_this} in all {failed} configurations, for some values but not all."
    if (region := failure.region or failure.within) is not None:
        unit = "configurations" if counts.configurations else "cases"
        rule = f"It fails{like_this} {'only ' if failure.within else ''}where {region}"
        return f"{rule}: {failed} of {counts.of} {unit}; elsewhere 0 of {counts.passed}."
    return f"It fails{like_this} in {failed} of {counts.of} cases{'' if counts.passed else '; no case passed'}."


def why(failure: Failure) -> list[str]:
    """All that may be behind it, the simplest first."""
    if failure.diagnosis:
        return alternatives(failure.diagnosis)
    looked_for = failure.kind in WRONG_NUMBERS and failure.steady and failure.unexplained is None
    return ["No known mistake gives this result."] if failure.site or looked_for else []


def alternatives(causes: Sequence[str]) -> list[str]:
    """Causes each of which explains all."""
    return [f"or: {cause}" if k else cause for k, cause in enumerate(causes)]


def step(item: Item, failure: Failure) -> str | None:
    """The step of the textbook that is at fault."""
    if failure.step is None:
        return None
    return f"{failure.step.removeprefix('step ')} (see backproof.textbook.{item.layer}_backward)"


def smallest(failure: Failure) -> str:
    """How small the case is, and what was tried to say so."""
    count = failure.minimal.smaller_cases_checked
    tried = f"{count} case{'s' * (count != 1)}"
    if failure.kind == "refused":
        return "This is the first of the cases."
    if not failure.steady:
        return "Not looked for: it does not fail every time; asked again, the same case gave another result."
    if failure.unexplained is not None:
        return f"Not looked for; {failure.unexplained.rstrip('.')}."
    if failure.minimal.listed:
        return f"The first that fails of the item's list, after {tried}." if count else "The first of the item's list."
    numbers = "every number is 0 or 1 or needed" if failure.plain else "plainer numbers were not all tried"
    if failure.minimal.proved:
        smaller = f"No smaller configuration fails ({tried} tried, every fill of each)"
        return f"{smaller if count else 'There is no smaller configuration'}; {numbers}."
    if count:
        smaller = "one smaller case was" if count == 1 else f"{count} smaller cases were"
        return f"The smallest found: {smaller} tried and did not fail, others were not tried; {numbers}."
    return f"The first found, none that is smaller was tried; {numbers}."


def in_a_line(failure: Failure) -> str:
    """The smallest case in a line: its call with shapes, and its sentence."""
    shapes = ", ".join(f"{name} {shape}" for name, shape in failure.shapes.items() if shape is not None)
    return f"{failure.calls[0] if failure.calls else 'the case'} with {shapes}: {failure.message}"


def facts(item: Item, failure: Failure) -> list[tuple[str, list[str]]]:
    """What is known of a failure beside its case, each under a label."""
    step_at_fault = step(item, failure)
    found = [
        ("where", [sentence] if (sentence := where(item, failure)) else []),
        ("why", why(failure)),
        ("step", [step_at_fault] if step_at_fault else []),
        ("error", list(failure.site)),
        ("shown" if failure.kind == "refused" else "smallest", [smallest(failure)]),
    ]
    return [(label, sentences) for label, sentences in found if sentences]


def script(failure: Failure) -> str | None:
    """The command that runs the reproduction; None where there is no script."""
    return None if failure.reproduce is None else f"python {shlex.quote(failure.reproduce)}"


def likewise(item: Item, failure: Failure) -> str:
    """A failure with the same reason, in the words of the one that is reported."""
    return f"{title(item)} fails for the same reason: {failure.message}"

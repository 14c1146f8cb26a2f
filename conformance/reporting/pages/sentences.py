"""What the reports say in words of a run, an item and a failure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
#: An item, a failure of it, and the failures of other items that have the same reason, each with its item.
Told = tuple[Record, Record, list[Record]]

#: The options' values in which nothing happens, on every axis.
PLAIN_OPTIONS: Mapping[str, Any] = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "padding_mode": "zeros",
    "eps": 1e-5,
    "training": True,
    "momentum": 0.1,
}
#: The kinds of failure in which no two results stand against each other.
WITHOUT_VALUES = ("crash", "refused", "result", "timeout", "accepted")
#: What the outcomes of items are called, and how one of them is counted.
OUTCOMES: Mapping[str, str] = {
    "failed": "failed",
    "error": "could not be judged",
    "xpassed": "passed against expectation",
    "xfailed": "failed as known",
    "passed": "passed",
    "skipped": "skipped",
}


def verdict(content: Mapping[str, Any]) -> str:
    """The whole run in a few words."""
    if content["conforms"]:
        return "conforms"
    return "has no verdict" if content["conforms"] is None else "does not conform"


def reasons(content: Mapping[str, Any]) -> list[str]:
    """How the verdict came about, in sentences."""
    items = content["items"]
    if not items:
        return ["No item was judged."]
    told = [item_cases(items)]
    if not content["complete"]:
        told.append("Not every item was run, so this is no verdict on the whole adapter.")
    surprising = [title(item) for item in items if item["outcome"] == "xpassed"]
    if surprising:
        told.append(f"Named as known failures, but passed: {', '.join(surprising)}. Take them off the list.")
    errors = [title(item) for item in items if item["outcome"] == "error"]
    if errors:
        told.append(f"Backproof itself failed on {', '.join(errors)}: the terminal's output says how.")
    unasked = [title(item) for item in items if item["outcome"] == "skipped" and not item["unsupported"]]
    if unasked and not content["conforms"]:
        told.append(f"No case could be judged for {', '.join(unasked)}.")
    quiet = {item["outcome"] for item in items} <= {"passed", "skipped"}
    if content["conforms"] is False and quiet and not unasked:
        told.append("A known failure that was named did not occur.")
    return told


def item_cases(items: Sequence[Mapping[str, Any]]) -> str:
    """How many items came to which outcome, in one sentence."""
    counts = {name: sum(item["outcome"] == name for item in items) for name in OUTCOMES}
    first, *rest = [f"{count} {OUTCOMES[name]}" for name, count in counts.items() if count]
    number, _, words = first.partition(" ")
    total = f"{number} of {len(items)}" if rest else f"All {number}" if len(items) > 1 else "The one"
    return ", ".join([f"{total} item{'s' * (len(items) > 1)} {words}", *rest]) + "."


def settings(content: Mapping[str, Any]) -> str:
    """How the run was made."""
    seconds = content["duration_s"]
    told = [f"Backproof {content['backproof']}"]
    if "profile" in content:
        told.append(f"profile {content['profile']}")
    if "seed" in content:
        told.append(f"seed {content['seed']}")
    cases = sum(item["examples"] for item in content["items"])
    judged = f"{cases} judgement{'s' * (cases != 1)}"
    return " · ".join([*told, judged, f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"])


def part(item: Mapping[str, Any]) -> str:
    """Such as "conv2d"."""
    return str(item["id"]).split("::")[1]


def title(item: Mapping[str, Any]) -> str:
    """Such as "conv2d dx float64"."""
    return " ".join(str(item["id"]).split("::")[1:])


def unusual(failure: Mapping[str, Any]) -> list[str]:
    """The options that are not plain, as a call would have them, and how arrays lie in memory."""
    written = failure.get("written", {})
    told = [
        f"{name}={call(written.get(name, value))}"
        for name, value in failure["options"].items()
        if _flat(value) != {PLAIN_OPTIONS.get(name)}
    ]
    return told + [f"{name}: {layout}" for name, layout in failure.get("layouts", {}).items()]


def call(value: Any) -> str:
    """The value as Python has it, sequences as tuples."""
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(call, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _flat(value: Any) -> set[Any]:
    return set().union(*map(_flat, value)) if isinstance(value, list | tuple) else {value}


def minimality(failure: Mapping[str, Any]) -> str:
    """How small the case is, and what was tried to say so."""
    if failure["kind"] == "refused":
        return "This is the first of the cases."
    if failure.get("steady") is False:
        return "It does not fail every time: asked again, the same case gave another result."
    proved, count = failure["minimal"]["proved"], failure["minimal"]["smaller_cases_checked"]
    needed = " Every single value is 0 or 1 or needed." if failure.get("plain") else ""
    tried = f"{count} tried" if count != 1 else "one tried"
    if proved:
        first = f"No smaller configuration fails: {tried}, every one there is, with every fill."
        return (first if count else "There is no smaller configuration.") + needed
    if count:
        return f"The smallest found: none of the smaller cases tried fails ({tried}); others are untried.{needed}"
    return str(failure.get("unexplained") or f"The first found; smaller cases were not tried.{needed}")


def where(failure: Mapping[str, Any]) -> str | None:
    """Which cases fail, with their counts where they are known."""
    within, counts = failure.get("within"), failure.get("region_counts")
    region = failure["region"] or within
    if region is None:
        if not counts:
            return None
        return f"It fails in {counts['failed']} of {counts['of']} cases; no rule over the options tells which."
    if region == "every case":
        if not counts:
            return "It fails in every case."
        of = counts["of"]
        return (
            "It fails in the one case that was judged." if of == 1 else f"It fails in all {of} cases that were judged."
        )
    if region == "every configuration":
        return "It fails in every configuration, though not with any numbers."
    where = f"It fails {'only ' if within else ''}where {region}"
    if not counts:
        return f"{where}."
    unit = " configurations" if counts.get("configurations") else ""
    return f"{where}: {counts['failed']} of {counts['of']}{unit} failed; otherwise 0 of {counts['passed']}."


def again(content: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """The command that judges the item once more."""
    given = {"impl": content["impl"], "impl-profile": content.get("profile"), "impl-seed": content.get("seed") or None}
    options = [shlex.quote(f"--{name}={value}") for name, value in given.items() if value is not None]
    return str(item.get("again") or " ".join(["pytest", *options, item["id"]]))


def script(failure: Mapping[str, Any]) -> str | None:
    """The command that runs the reproduction; None where there is no script."""
    path = failure["reproduce"]
    return None if path is None else f"python {shlex.quote(str(path))}"


def entries(content: Mapping[str, Any]) -> list[Told]:
    """Every failure that is told by itself, with its item and the items that fail for the same reason.

    An item that refers to one which is not there, or not told itself, is told itself.
    """
    told: dict[str, list[Record]] = {item["id"]: [] for item in content["items"] if not item.get("same_as")}
    found: list[Told] = []
    for item in content["items"]:
        other = told.get(item.get("same_as") or "")
        if other is not None:
            other += [{**failure, "item": item} for failure in item["failures"]]
            continue
        found += [
            (item, failure, told.get(item["id"], []) if k == 0 else []) for k, failure in enumerate(item["failures"])
        ]
    return found

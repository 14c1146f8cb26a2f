"""What is measured of a fault, and plugins/gallery/measured.json, the file that keeps it: one line for each fault."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import brute_force

from backproof.plugins.gallery import Fault
from backproof.plugins.gallery.fault import Measured, measured

MEASURED = Path(__file__).resolve().parent.parent / "plugins" / "gallery" / "measured.json"

#: The options as they are where nobody sets them; those that have a number for each axis, as they are on one axis.
PLAIN = {"groups": 1, "padding_mode": "zeros", "training": True, "eps": 1e-5, "momentum": 0.1}
PLAIN_AXIS = {"stride": 1, "dilation": 1, "padding": (0, 0)}

#: Of a larger case nobody can say whether it is the smallest: there are too many smaller ones to try.
MOST_ENUMERATED = 40


def joined(
    fault: Fault, kinds: Collection[str], failed: Sequence[Collection[str]], shown: Collection[Any]
) -> tuple[Measured, list[str]]:
    """What is measured of a fault and what the file keeps; and what is wrong with the items that it names.

    `failed` are the items that fail at each seed that was tried, `shown` the counterexamples of its first item. The
    file keeps its smallest case where that has the size of the one that is shown, or none where none can be known, and
    the items that failed at other seeds. It keeps the needs too, which nobody can measure: a person says what a trigger
    stands for, and writes the needs of a new fault into the file.
    """
    known, always = measured().get(fault.name), set.intersection(*map(set, failed))
    unnamed = set().union(*failed) - set(fault.caught_by)
    complaints = [f"{fault.name} escapes {item}" for item in fault.caught_by if item not in set().union(*failed)]
    complaints += [
        f"{fault.name} fails {item} at every seed, not named for it"
        for item in sorted(unnamed & always - fault.sometimes)
    ]
    case = min(shown, key=lambda case: case.configuration.size, default=None)
    smallest = None if case is None or case.configuration.elements > MOST_ENUMERATED else in_short(case)
    if known is not None and (known.smallest is None or case is None or case.configuration.size in sizes(fault)):
        smallest = known.smallest
    sometimes = fault.sometimes | (unnamed - always)
    return Measured(frozenset(kinds), fault.needs, smallest, sometimes), complaints


def sizes(fault: Fault) -> set[tuple[int, int]]:
    """The sizes of the case that the file calls the smallest, with and without the arrays that it does not name."""
    return {question.size for question in brute_force.smallest(fault)}


def in_short(case: Any) -> dict[str, Any]:
    """The shapes of x and w, the options that are not plain, and how the arrays lie in memory."""
    shapes, options = case.configuration.shapes, case.configuration.options
    told = {name: tuple(shapes[name]) for name in ("x", "w") if name in shapes}
    for name, value in options.items():
        plain = (PLAIN_AXIS[name],) * len(value) if name in PLAIN_AXIS else PLAIN[name]
        told |= {} if value == plain else {name: value}
    return {**told, "layouts": dict(case.layouts)} if case.layouts else told


def write_lines(found: Mapping[str, Measured], names: Collection[str]) -> None:
    """Puts the lines of these faults into the file and drops those of faults whose names are no longer given."""
    lines = {name: line for name, line in {**measured(), **found}.items() if name in names}
    texts = [f"{json.dumps(name)}: {json.dumps(as_json(line))}" for name, line in sorted(lines.items())]
    MEASURED.write_text("{\n" + ",\n".join(texts) + "\n}\n", encoding="utf-8")


def as_json(line: Measured) -> dict[str, Any]:
    """A line as lists and objects."""
    return {
        "kinds": sorted(line.kinds),
        "needs": line.needs,
        "smallest": None if line.smallest is None else dict(line.smallest),
        "sometimes": sorted(line.sometimes),
    }

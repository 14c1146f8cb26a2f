"""The result of a run as one value, of which every report is made.

The JSON report is this value as it stands, and its schema is derived from the types: keys without a default are
required. Within schema 1 keys may be added; none changes or goes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from backproof.conformance.spec.precision import PRECISIONS
from backproof.conformance.spec.results import Kind

SCHEMA: Literal[1] = 1
#: Arrays of more elements stand as null in the JSON report.
MOST_ELEMENTS = 1000
#: Kinds of failure whose two arrays say no more than their sentence.
WITHOUT_ARRAYS = ("crash", "refused", "result", "dtype", "timeout", "accepted")

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Numbers = Annotated[NDArray[np.float64], Meta(extra_json_schema={"$ref": "#/$defs/numbers"})]
Marks = Annotated[NDArray[np.bool_], Meta(extra_json_schema={"$ref": "#/$defs/marks"})]
Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed", "error"]


class Minimal(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is proved that nothing smaller fails."""

    proved: bool
    smaller_cases_checked: Count
    listed: Annotated[bool, Meta(description="the cases of the item are a list, and this is the first that fails")] = (
        False
    )


class RegionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Cases that failed, of how many in the region, and how many passed outside of it."""

    failed: Count
    of: Count
    passed: Count
    configurations: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One kind of failure of an item, by its smallest case, in the implementation's layout."""

    kind: Kind
    tensor: str | None
    message: Annotated[str, Meta(extra_json_schema={"minLength": 1})]
    traceback: str | None
    options: dict[str, Any]
    shapes: dict[str, tuple[Count, ...] | None]
    arrays: dict[str, Numbers | None]
    expected: Numbers | None
    got: Numbers | None
    minimal: Minimal
    region: str | None
    diagnosis: tuple[str, ...]
    reproduce: str | None
    wrong: Annotated[Marks | None, Meta(description="which entries are wrong; null: shapes differ, or no arrays")] = (
        None
    )
    columns: Annotated[tuple[str, str], Meta(description="what `expected` and `got` are")] = ("expected", "got")
    calls: Annotated[tuple[str, ...], Meta(description="the calls, without the options that are plain")] = ()
    written: Annotated[
        dict[str, Any], Meta(description="options as the call had them: one int, an int an axis, or pairs")
    ] = {}
    neutral: Annotated[dict[str, Any], Meta(description="the plain value of each option, on every axis")] = {}
    layouts: dict[str, str] = {}
    unread: Annotated[tuple[str, ...], Meta(description="arrays that decide nothing about this tensor")] = ()
    axes: Annotated[dict[str, tuple[str, ...]], Meta(description="what the axes of arrays and tensors are called")] = {}
    orders: Annotated[
        dict[str, tuple[int, ...]], Meta(description="permutations of what does not stand in the references' layout")
    ] = {}
    invalidity: Annotated[str | None, Meta(description="why the case has no meaning")] = None
    plain: Annotated[bool, Meta(description="every number is 0, 1 or needed")] = False
    steady: Annotated[bool, Meta(description="the case fails whenever it is asked")] = True
    within: Annotated[str | None, Meta(description="where all failures lie, and some cases that pass")] = None
    region_counts: RegionCounts | None = None
    step: Annotated[str | None, Meta(description="the numbered step of the textbook that is at fault")] = None
    site: tuple[str, ...] = ()
    unexplained: Annotated[str | None, Meta(description="why the case was not made smaller and explained")] = None

    @property
    def compares(self) -> bool:
        """Whether two arrays stand against each other."""
        return self.kind not in WITHOUT_ARRAYS and self.expected is not None and self.got is not None


class Item(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What became of one item."""

    id: Annotated[str, Meta(extra_json_schema={"pattern": "^backproof::[a-z0-9_]+::[a-z0-9_]+::[a-z0-9]+$"})]
    layer: str
    spatial_dims: Count | None
    check: str
    dtype: Annotated[str, Meta(extra_json_schema={"enum": list(PRECISIONS)})]
    outcome: Outcome
    examples: Count
    unsupported: Count
    duration_s: Seconds
    failures: tuple[Failure, ...]
    unjudged: Count = 0
    reason: str | None = None
    refused: str | None = None
    again: Annotated[str, Meta(description="the command that judges the item once more")] = ""
    kept: Annotated[str | None, Meta(description="what became of the cases kept from earlier runs")] = None
    same_as: Annotated[str | None, Meta(description="an item that fails for the same reason, explained there")] = None

    @property
    def part(self) -> str:
        """Such as "conv2d"."""
        return self.id.split("::")[1]


class Report(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A run."""

    schema: Literal[1]
    impl: str
    backproof: str
    duration_s: Seconds
    conforms: bool | None
    complete: bool
    items: tuple[Item, ...]
    cells: dict[str, dict[str, Count]]
    profile: str | None = None
    seed: int | None = None


#: What no type says.
_CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "Report": {
        "if": {"properties": {"complete": {"const": False}}},
        "then": {"properties": {"conforms": {"enum": [False, None]}}},
        "else": {"properties": {"conforms": {"type": "boolean"}}},
    },
    "Item": {
        "if": {"properties": {"outcome": {"enum": ["failed", "xfailed"]}}},
        "then": {"properties": {"failures": {"minItems": 1}}},
        "else": {"properties": {"failures": {"maxItems": 0}}},
    },
}
_NUMBERS = {
    "anyOf": [
        {"type": "number"},
        {"enum": ["NaN", "Infinity", "-Infinity"]},
        {"type": "array", "items": {"$ref": "#/$defs/numbers"}},
    ]
}
_MARKS = {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"$ref": "#/$defs/marks"}}]}


def schema() -> dict[str, Any]:
    """The JSON schema of the report."""
    found = msgspec.json.schema(Report)
    for struct, conditions in _CONDITIONS.items():
        found["$defs"][struct].update(conditions)
    found["$defs"] |= {"numbers": _NUMBERS, "marks": _MARKS}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Backproof report", **found}


def builtins(value: Report | Item) -> dict[str, Any]:
    """The value as JSON has it: nested lists for arrays, null for large ones."""
    found: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_encoded)
    return found


def report_of(content: Mapping[str, Any]) -> Report:
    """A report as it was before it was JSON, but for arrays that were too large. Raises msgspec.ValidationError."""
    return msgspec.convert(content, Report, dec_hook=_decoded)


def item_of(content: Mapping[str, Any]) -> Item:
    """An item as it was before it was JSON, but for arrays that were too large. Raises msgspec.ValidationError."""
    return msgspec.convert(content, Item, dec_hook=_decoded)


def text(report: Report) -> str:
    """The report as it is written."""
    # In ASCII: what a candidate says may hold characters that no encoding has.
    return json.dumps(builtins(report), indent=1, allow_nan=False) + "\n"


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return None if value.size > MOST_ELEMENTS else in_json(value.tolist())
    raise NotImplementedError(f"a {type(value).__name__} in a report")


def _decoded(kind: Any, value: Any) -> Any:
    return np.asarray(value, dtype=np.bool_ if kind == NDArray[np.bool_] else np.float64)


def in_json(value: Any) -> Any:
    """The value in JSON's terms: NaN and the infinities as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: in_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(item) for item in value]
    return value


def is_neutral(value: Any, neutral: Any) -> bool:
    """Whether an option has this value, on every axis."""
    if isinstance(value, list | tuple):
        return all(is_neutral(item, neutral) for item in value)
    return bool(value == neutral)


def conforms(items: Iterable[Item], *, complete: bool, unmet: bool) -> bool | None:
    """True if every item passed or was skipped for refused cases; null where nothing failed but not all was run."""
    items = list(items)
    if unmet or any(item.outcome in ("failed", "error", "xfailed", "xpassed") for item in items):
        return False
    if not complete:
        return None
    return all(item.outcome == "passed" or (item.outcome == "skipped" and item.unsupported) for item in items)

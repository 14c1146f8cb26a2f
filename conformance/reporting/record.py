"""The machine's view of a run: a stable format, described by `report.schema.json` beside this file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import written
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.layer import Layer

SCHEMA = 1
#: Arrays of more elements stand as null.
MOST_ELEMENTS = 1000


def schema() -> dict[str, Any]:
    """The JSON schema of the report."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("report.schema.json").read_text())
    return found


def record(
    verdict: ItemResult,
    identifier: str,
    layer: Layer,
    settings: Mapping[str, Any],
    scripts: Sequence[str | None] = (),
) -> dict[str, Any]:
    """One item of the report; `scripts` reproduce its failures."""
    item = verdict.item
    paths = [*scripts, *[None] * (len(verdict.counterexamples) - len(scripts))]
    return {
        "id": identifier,
        "layer": item.layer,
        "spatial_dims": item.spatial_dims,
        "check": item.check,
        "dtype": item.dtype,
        "outcome": verdict.outcome,
        "examples": verdict.judged,
        "unsupported": verdict.unsupported,
        "unjudged": verdict.unjudged,
        "duration_s": round(verdict.duration, 6),
        "reason": verdict.reason,
        "refused": verdict.refused,
        "same_as": None,
        "failures": [
            _failure(found, layer, settings, path) for found, path in zip(verdict.counterexamples, paths, strict=True)
        ],
    }


def _failure(found: Counterexample, layer: Layer, settings: Mapping[str, Any], reproduce: str | None) -> dict[str, Any]:
    discrepancy, case = found.discrepancy, found.case
    native = {name: in_layout(name, a, layer, settings) for name, a in case.wide.items()}
    options = {option.name: case.options[option.name] for option in layer.contract.options}
    return {
        "kind": discrepancy.kind,
        "tensor": discrepancy.tensor,
        "message": discrepancy.message,
        "traceback": discrepancy.traceback,
        "options": plain(options),
        "written": plain({name: written(options[name], form) for name, form in case.configuration.forms.items()}),
        "layouts": dict(case.layouts),
        "shapes": {name: None if a is None else list(a.shape) for name, a in native.items()},
        "arrays": {name: numbers(a) for name, a in native.items()},
        "expected": numbers(discrepancy.expected),
        "got": numbers(discrepancy.got),
        "minimal": {"proved": found.proved, "smaller_cases_checked": found.smaller_cases},
        "plain": found.plain,
        "steady": found.steady,
        "region": None if found.inside else found.region,
        "within": found.region if found.inside else None,
        "region_counts": {
            "failed": found.failed,
            "of": found.failed + (found.inside if found.region else found.passed),
            "passed": found.passed - found.inside,
            "configurations": found.configurations,
        },
        "diagnosis": list(found.diagnosis),
        "step": found.step,
        "site": list(found.site),
        "unexplained": found.unexplained,
        "reproduce": reproduce,
    }


def in_layout(tensor: str, array: Array | None, layer: Layer, settings: Mapping[str, Any]) -> Array | None:
    """The array as the candidate sees it."""
    if array is None:
        return None
    axes = layer.permutation(tensor, array.ndim, settings)
    return array if axes is None or len(axes) != array.ndim else np.asarray(array.transpose(axes))


def numbers(array: Array | None) -> Any:
    """Nested lists; NaN and infinities as strings; null for what is missing or too large."""
    if array is None or array.size > MOST_ELEMENTS:
        return None
    return plain(array.astype(np.float64).tolist())


def plain(value: Any) -> Any:
    """The value in JSON's terms."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def conforms(items: Sequence[Mapping[str, Any]], *, complete: bool, unmet: bool) -> bool | None:
    """True if every item passed or was skipped for refused cases; null where nothing failed but not all was run."""
    if unmet or any(item["outcome"] in ("failed", "error", "xfailed", "xpassed") for item in items):
        return False
    if not complete:
        return None
    return all(item["outcome"] == "passed" or (item["outcome"] == "skipped" and item["unsupported"]) for item in items)


def text(content: Mapping[str, Any]) -> str:
    """The report as it is written."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"

"""Makes the record of an item from what was judged and explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import written
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.judging import item as judged
from backproof.conformance.judging.properties import Property
from backproof.conformance.reporting.numbers import wrong_entries
from backproof.conformance.reporting.record import (
    WITHOUT_ARRAYS,
    Failure,
    Item,
    Minimal,
    Outcome,
    RegionCounts,
    in_json,
    is_neutral,
)
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.precision import PRECISIONS


def unfinished(item: judged.Item, identifier: str, outcome: Outcome, again: str) -> Item:
    """An item that came to no result."""
    return Item(
        id=identifier,
        layer=item.layer,
        spatial_dims=item.spatial_dims,
        check=item.check,
        dtype=item.dtype,
        outcome=outcome,
        examples=0,
        unsupported=0,
        duration_s=0.0,
        failures=(),
        again=again,
    )


def item_record(
    result: ItemResult,
    identifier: str,
    layer: Layer,
    settings: Mapping[str, Any],
    *,
    again: str,
    scripts: Sequence[str | None] = (),
    kept: str | None = None,
) -> Item:
    """An item that was judged.

    `again` is the command that judges it once more, `scripts` reproduce its failures, and `kept` says what became of
    the cases kept from earlier runs.
    """
    item, found = result.item, result.counterexamples
    paths = [*scripts, *[None] * (len(found) - len(scripts))]
    return Item(
        id=identifier,
        layer=item.layer,
        spatial_dims=item.spatial_dims,
        check=item.check,
        dtype=item.dtype,
        outcome=result.outcome,
        examples=result.judged,
        unsupported=result.unsupported,
        unjudged=result.unjudged,
        duration_s=round(result.duration, 6),
        failures=tuple(_failure(one, result, layer, settings, path) for one, path in zip(found, paths, strict=True)),
        reason=result.reason,
        refused=result.refused,
        again=again,
        kept=kept,
    )


def _failure(
    found: Counterexample, result: ItemResult, layer: Layer, settings: Mapping[str, Any], script: str | None
) -> Failure:
    item, property_ = result.item, result.property_
    discrepancy, case = found.discrepancy, found.case
    options = {option.name: case.options[option.name] for option in layer.contract.options}
    spellings = case.configuration.spellings
    dimensions = _seen(found, item)
    permutations = {name: layer.permutation(name, count, settings) for name, count in dimensions.items()}
    orders = {name: order for name, order in permutations.items() if order and len(order) == dimensions[name]}
    arrays = {name: a if a is None else _ordered(a, orders.get(name)) for name, a in case.wide.items()}
    compared = discrepancy.tensor or item.check
    axes = {name: layer.axis_names(name, case.configuration) for name in dimensions}
    backward = property_.asks_backward(item.check, discrepancy.tensor, layer)
    unread = layer.unread(case, discrepancy.tensor) - {*case.layouts} | ({"dout"} if not backward else set())
    expected, got = (None if a is None else a.astype(np.float64) for a in (discrepancy.expected, discrepancy.got))
    wrong = None
    if expected is not None and got is not None and discrepancy.kind not in WITHOUT_ARRAYS:
        tolerance = _bound(found, property_, expected, orders.get(compared))
        wrong = wrong_entries(expected, got, tolerance, PRECISIONS[item.dtype].roundoff)
    return Failure(
        kind=discrepancy.kind,
        tensor=discrepancy.tensor,
        message=discrepancy.message,
        traceback=discrepancy.traceback,
        options=in_json(options),
        written=in_json({name: written(options[name], spelling) for name, spelling in spellings.items()}),
        neutral=in_json({option.name: option.neutral for option in layer.contract.options}),
        calls=(_forward_call(found, layer), *([f"{layer.name}_backward(dout, cache)"] if backward else [])),
        layouts=dict(case.layouts),
        shapes={name: None if a is None else a.shape for name, a in arrays.items()},
        arrays=arrays,
        unread=tuple(name for name in arrays if name in unread),
        axes={name: _in_order(own, orders.get(name)) for name, own in axes.items() if len(own) == dimensions[name]},
        orders=orders,
        expected=expected,
        got=got,
        wrong=wrong,
        columns=property_.columns,
        invalidity=None if case.invalidity is None else case.invalidity.words,
        minimal=Minimal(proved=found.proved, smaller_cases_checked=found.smaller_cases, listed=property_.is_listed),
        plain=found.plain,
        steady=found.steady,
        region=None if found.inside else found.region,
        within=found.region if found.inside else None,
        region_counts=RegionCounts(
            failed=found.failed,
            of=found.failed + (found.inside if found.region else found.passed),
            passed=found.passed - found.inside,
            configurations=found.configurations,
        ),
        diagnosis=tuple(found.diagnosis),
        step=found.step,
        site=tuple(found.site),
        unexplained=found.unexplained,
        reproduce=script,
    )


def _seen(found: Counterexample, item: judged.Item) -> dict[str, int]:
    """The arrays of a case and the result that is compared, by name, each with the number of its axes."""
    dimensions = {name: a.ndim for name, a in found.case.arrays.items() if a is not None}
    if found.discrepancy.expected is not None:
        dimensions.setdefault(found.discrepancy.tensor or item.check, found.discrepancy.expected.ndim)
    return dimensions


def _ordered(array: Array, order: tuple[int, ...] | None) -> Array:
    return array if order is None else np.asarray(array.transpose(order))


def _in_order(names: tuple[str, ...], order: tuple[int, ...] | None) -> tuple[str, ...]:
    return names if order is None else tuple(names[axis] for axis in order)


def _bound(
    found: Counterexample, property_: Property, expected: Array, order: tuple[int, ...] | None
) -> Array | float | None:
    """How far off an entry of a tensor may be, in the implementation's layout."""
    tensor = found.discrepancy.tensor
    against_reference = property_.judges_results or property_.is_listed
    if tensor is None or not against_reference or found.discrepancy.kind == "state":
        return None
    tolerance = found.reference.expected(found.case).tolerances.get(tensor)
    if tolerance is None or isinstance(tolerance, float):
        return tolerance
    seen = _ordered(tolerance, order if tolerance.ndim == expected.ndim else None)
    return seen if seen.shape == expected.shape else None


def _forward_call(found: Counterexample, layer: Layer) -> str:
    """The forward's call, with the options that are not plain."""
    case, signature = found.case, found.reference.space.signature
    arguments = [name if case.arrays.get(name) is not None else f"{name}=None" for name in signature.arrays]
    arguments += [f"{name}={name}" for name in (layer.contract.state if signature.state else ())]
    for option in layer.contract.options:
        value = case.options[option.name]
        if option.name in signature.options and not is_neutral(value, option.neutral):
            spelling = case.configuration.spellings.get(option.name)
            arguments.append(f"{option.name}={value if spelling is None else written(value, spelling)!r}")
    return f"{layer.name}_forward({', '.join(arguments)})"

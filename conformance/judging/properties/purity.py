"""The candidate leaves what it was given alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Status

#: Bytes before and after each array, and what they hold.
BORDER, GUARD = 64, 0xA5


class Purity(OneItem):
    """Neither x nor the parameters nor dout are changed, nor the bytes around them."""

    name = "purity"
    columns = ("before", "after")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares what was passed, and the bytes around it, before and after each call."""
        zones: list[Array] = []
        given: list[Array] = []

        def allocate(name: str, array: Array) -> Array:
            size = array.size * array.itemsize
            zone = np.full(size + 2 * BORDER, GUARD, np.uint8)
            inner = zone[BORDER : BORDER + size].view(array.dtype).reshape(array.shape)
            inner[...] = array
            zones.append(zone)
            given.append(inner)
            return inner

        forward = candidate.forward(case, allocate=allocate)
        names = [name for name, array in forward.passed.items() if array is not None]
        state = candidate.layer.contract.state
        before = {name: _as_passed(candidate, name, case) for name in (*names, "dout")}
        # State may be updated in place: its own items judge how.
        watched = [name for name in names if name not in state]

        found = _changed(watched, names, given, before, f"{candidate.layer.name}_forward")
        found = found or _overwritten(names, zones, f"{candidate.layer.name}_forward")
        if found is None and forward.complete:
            try:
                candidate.backward(case, forward, allocate=allocate)
            except Refused:
                return Status.RIGHT
            names = [*names, "dout"]
            backward = f"{candidate.layer.name}_backward"
            found = _changed([*watched, "dout"], names, given, before, backward)
            found = found or _overwritten(names, zones, backward)
        return found or Status.RIGHT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares every array, and the bytes around it, after each of the calls."""
        state, layer = writer.candidate.layer.contract.state, writer.candidate.layer.name
        writer.numbers(writer.case)
        writer.calls(writer.case.configuration)
        comparison = ['        found |= compare(f"{name}, {when}", inner, array, 0)']
        if state and writer.candidate.signature.state:
            # It may be updated in place.
            comparison = [f"        if name not in {state}:", f"    {comparison[0]}"]
        writer.lines += [
            "",
            "",
            "zones = {}",
            "",
            "",
            "def bordered(name, array):",
            f'    """A copy with {BORDER} bytes before it and behind it that are nobody\'s."""',
            f"    zone = np.full(array.size * array.itemsize + {2 * BORDER}, {GUARD:#x}, np.uint8)",
            f"    inner = zone[{BORDER}:-{BORDER}].view(array.dtype).reshape(array.shape)",
            "    inner[...] = array",
            "    zones[name] = zone, inner, array",
            "    return inner",
            "",
            "",
            "def changed(when):",
            '    """1 if an array that was passed, or a byte beside one, is not what it was."""',
            "    found = 0",
            "    for name, (zone, inner, array) in zones.items():",
            *comparison,
            f"        if (zone[:{BORDER}] != {GUARD:#x}).any() or (zone[-{BORDER}:] != {GUARD:#x}).any():",
            '            print(f"The bytes before the start or behind the end of {name} have changed, {when}.")',
            "            found = 1",
            "    return found",
        ]
        writer.copies_by("array = bordered(name, array)")
        writer.judge = [
            f"    results, cache = forward({writer.passes()})",
            f'    if changed("after {layer}_forward"):',
            "        return 1",
            "    backward(dout, cache)",
            f'    return changed("after {layer}_backward")',
        ]
        return True


def _as_passed(candidate: Candidate, name: str, case: Case) -> Array:
    array = case.arrays[name]
    assert array is not None
    return candidate.in_data_format(name, array)


def _changed(
    watched: list[str], names: list[str], given: list[Array], before: Mapping[str, Array], function: str
) -> Discrepancy | None:
    for name, array in zip(names, given, strict=False):
        if name in watched and array.tobytes() != before[name].tobytes():
            held = before[name].astype(np.float64)
            must = f"must stay as it was when {function} returns:"
            found = compare(name, array, held, 0.0, array.dtype, must=must, kind="mutation")
            if found is not None:
                return Discrepancy("mutation", name, found.message, held, array.astype(np.float64))
    return None


def _overwritten(names: list[str], zones: list[Array], function: str) -> Discrepancy | None:
    for name, zone in zip(names, zones, strict=False):
        before, after = zone[:BORDER], zone[len(zone) - BORDER :]
        for border, where in ((before, "before its start"), (after, "behind its end")):
            if (border != GUARD).any():
                sentence = f"{function} wrote outside {name}: the bytes {where} have changed."
                return Discrepancy("mutation", name, sentence)
    return None

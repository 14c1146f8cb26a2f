"""Facts about a case of a linear layer."""

from __future__ import annotations

from math import prod

import numpy as np

from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.traits import Facts, Traits, compared, numbers_of, of_dout


def _of_configuration(configuration: Configuration) -> Facts:
    (*lead, inputs), (rows_of_w, outputs) = configuration.shape("x"), configuration.shape("w")
    rows = prod(lead)
    sizes = {"batch": lead[0], "rows": rows, "inputs": inputs, "outputs": outputs}
    facts: dict[str, bool | int | float] = {**sizes}
    facts |= {f"leading axis {k}": size for k, size in enumerate(lead[1:], 2)}
    facts["several leading axes"] = len(lead) > 1
    facts["one leading axis"] = len(lead) == 1
    facts["several inputs or several outputs"] = max(inputs, outputs) > 1
    facts["several inputs and several outputs"] = min(inputs, outputs) > 1
    facts |= compared(sizes, sizes)
    facts["a square w, larger than 1x1"] = inputs == outputs > 1
    facts["w with other inputs than x"] = inputs != rows_of_w
    facts["w with 1 input where x has others, or x where w has"] = inputs != rows_of_w and 1 in (inputs, rows_of_w)
    facts["w has the shape of x"] = configuration.shapes["x"] == configuration.shapes["w"]
    facts |= {"axes of x": len(lead) + 1, "entries of x": rows * inputs, "entries of w": inputs * outputs}
    facts["entries of out"] = rows * outputs
    facts |= of_dout(configuration.shape("dout"), (*lead, outputs))
    return facts


def _of_numbers(case: Case) -> Facts:
    facts: dict[str, bool | int | float] = dict(numbers_of(case.wide))
    x, w, b = case.array("x"), case.array("w"), case.wide.get("b")
    facts["x or w is not zero"] = bool(x.any() or w.any())
    facts["a fraction anywhere"] = not case.integral
    facts["a number that float32 rounds"] = any(
        facts.get(f"{name} is rounded by float32", False) for name in ("x", "w", "b", "dout")
    )
    if x.shape[-1] == w.shape[0] and x.size and w.size:
        product = x @ w
        below = bool((product < 0).any())
        facts["a negative number in x w"] = below
        shifted = product if b is None or b.shape != w.shape[1:] else product + b
        facts["a negative number in out"] = bool((shifted < 0).any())
        facts["a negative number in x w or in out"] = below or bool((shifted < 0).any())
        facts["a number in out that is not an integer"] = bool((np.rint(shifted) != shifted).any())
    return facts


TRAITS = Traits(_of_configuration, _of_numbers)

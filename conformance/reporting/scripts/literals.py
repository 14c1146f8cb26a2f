"""Numbers as they stand in a script: every literal gives back the very array that it was made from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array

#: An array of more elements stands in a file beside the script.
MOST_WRITTEN = 1000
#: Uniform arrays of more elements are written by their shape and number.
MOST_UNIFORM = 16
WIDTH = 110


def number(value: Any) -> str:
    """A number of any format as Python reads it back: integers without a point."""
    wide = float(value)
    if math.isnan(wide):
        return "np.nan"
    if math.isinf(wide):
        return "np.inf" if wide > 0 else "-np.inf"
    if wide.is_integer() and abs(wide) < 1e15:
        return "-0.0" if wide == 0 and math.copysign(1, wide) < 0 else str(int(wide))
    short = str(value)
    # The shortest decimal of a short format is read as float64 first, and rounded a second time.
    exact = isinstance(value, np.float32 | np.float16) and type(value)(float(short)) == value
    return short if exact else repr(wide)


def dtype_of(array: Array) -> str:
    """The array's dtype in a script."""
    name = array.dtype.name
    return name if name == "bfloat16" else f'"{name}"'


def literal(array: Array, indent: int) -> str:
    """The array as an expression whose first line begins behind so many characters."""
    dtype = dtype_of(array)
    values = array.ravel()
    if array.size == 0:
        return f"np.zeros({array.shape}, {dtype})"
    uniform = array.size > MOST_UNIFORM and array.tobytes() == np.full(array.shape, values[0], array.dtype).tobytes()
    if uniform:
        return f"np.full({array.shape}, {number(values[0])}, {dtype})"
    return f"np.array({nested(array, indent + len('np.array('))}, {dtype})"


def nested(array: Array, indent: int) -> str:
    """Lists in lists; a line for each entry of the outermost one where they do not fit into one line."""
    if array.ndim == 0:
        return number(array[()])
    parts = [nested(part, indent + 1) for part in array]
    line = f"[{', '.join(parts)}]"
    if "\n" not in line and len(line) + indent <= WIDTH:
        return line
    if array.ndim > 1:
        return "[" + (",\n" + " " * (indent + 1)).join(parts) + "]"
    lines, current = [], ""
    for part in parts:
        if current and len(current) + len(part) + indent + 3 > WIDTH:
            lines.append(current)
            current = ""
        current += f"{part}, "
    lines.append(current.removesuffix(", "))
    return "[" + ("\n" + " " * (indent + 1)).join(line.rstrip() for line in lines) + "]"


def call(function: str, arguments: list[str], before: str) -> list[str]:
    """The lines of a call; each argument on a line of its own where one line is too short. `before` is the start."""
    line = f"{before}{function}({', '.join(arguments)})"
    if len(line) <= WIDTH:
        return [line]
    margin = " " * (len(before) - len(before.lstrip()))
    return [f"{before}{function}(", *[f"{margin}    {argument}," for argument in arguments], f"{margin})"]

"""What linear and conv share: numbers that do not round, and the error bound of a sum of products.

A computed inner product of n terms differs from the true one by at most gamma_n = n u / (1 - n u) times the sum of the
absolute products, in whatever order it is summed (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition,
equations 3.3 to 3.5). Where all numbers are integers and that sum stays within 2^p, every partial sum is representable
and nothing rounds at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log2

import numpy as np

from backproof.conformance.spec.case import Array, Case, Configuration, rounded
from backproof.conformance.spec.layer import Space
from backproof.conformance.spec.precision import Precision
from backproof.conformance.spec.tape import Tape

#: In 16 bits a bound counts every single rounding this often, so that right code stays below half of it.
MARGIN = 2.5
#: The sums behind each tensor: the two arrays whose products are summed.
FACTORS = {"out": ("x", "w"), "dx": ("dout", "w"), "dw": ("x", "dout"), "db": ("dout",)}

PLAIN = np.array([0, 1, -1, 2, -2, 3, -3, 4], dtype=np.float64)
SIGNS = np.array([0, 1, -1, 1, -1], dtype=np.float64)
#: dout is dense: a zero would hide what it meets, and equal entries what is exchanged.
DENSE = np.array([1, -1, 2, -2, 3, -3, 4, -4], dtype=np.float64)
ODD = np.array([0.1, -0.7, 1 / 3, 1000.1, -1e-3, 2.5, -33.3, 0.0, 1.0], dtype=np.float64)
#: The same within float16's range: no product overflows or vanishes.
ODD_LOW = np.array([0.1, -0.7, 1 / 3, 20.1, -0.03, 2.5, -7.3, 0.0, 1.0], dtype=np.float64)


def _sequences(values: Array, seed: int, **heads: list[int]) -> dict[str, Array]:
    """For each array a long sequence of the values, after a chosen head.

    Small arrays hold only the heads: no two of them are proportional or palindromes, so that what is exchanged,
    turned around or left out shows at the smallest sizes too.
    """
    generator = np.random.default_rng(seed)
    return {name: np.array([*head, *generator.choice(values, 1024)], float) for name, head in heads.items()}


_GENERIC = _sequences(DENSE[:6], 1, x=[2, -3, 1, 3, -1], w=[3, 1, -2, -1, 2], b=[-1, 2, 3], dout=[1, 2, -3, -2, 3])
_SPARSE = _sequences(PLAIN[:5], 2, x=[0, 1, -2, 2, 0], w=[1, 0, 2, -1, 0], b=[-2, 0, 1], dout=[2, -1, 1, 3, -2])
_SIGNS = _sequences(DENSE[:2], 3, x=[1, -1, -1, 1, 1], w=[-1, -1, 1, 1, -1], b=[1, -1, 1], dout=[1, 1, -1, 1, -1])
_ONES = {name: np.ones(1) for name in ("x", "w", "b", "dout")}


def fills(configuration: Configuration, precision: Precision, dtypes: Mapping[str, np.dtype]) -> Iterator[Case]:
    """The configuration with fixed small integers: all different, some of them zero, all ones."""
    for numbers in (_SIGNS if precision.low else _GENERIC, _SPARSE, _ONES):
        yield _filled(configuration, precision, dtypes, numbers)


def ones(configuration: Configuration, precision: Precision, dtypes: Mapping[str, np.dtype]) -> Case:
    """The last of the fixed fills: the sum of many ones, kept in a format of 16 bits, sticks at 2^digits."""
    return _filled(configuration, precision, dtypes, _ONES)


def _filled(
    configuration: Configuration, precision: Precision, dtypes: Mapping[str, np.dtype], numbers: Mapping[str, Array]
) -> Case:
    arrays = {
        name: None if shape is None else np.resize(numbers[name], shape) for name, shape in configuration.shapes.items()
    }
    return Case(configuration, precision.name, rounded(arrays, dtypes), "sweep", integers=True)


def fill(configuration: Configuration, tape: Tape, precision: Precision, dtypes: Mapping[str, np.dtype]) -> Case:
    """The configuration with drawn numbers: in half of all cases small integers, else numbers that round.

    Each array is a short piece of tape, mapped to plain values and repeated, or picked by a generator that the tape
    seeds; neither depends on the array's shape.
    """
    kind = tape.pick(("integers", "picked integers", "odd", "normal"))
    seed = int.from_bytes(bytes(tape.byte() for _ in range(4)))
    generator = np.random.Generator(np.random.PCG64(seed))
    integers = "integers" in kind
    arrays: dict[str, Array | None] = {}
    for name, shape in configuration.shapes.items():
        piece = [tape.byte() for _ in range(1 + tape.byte() % 7)]
        tape.position += 7 - len(piece)
        if shape is None:
            arrays[name] = None
        elif kind == "normal":
            exponent = piece[0] % 3 - 1 if precision.low else piece[0] % 5 - 2
            arrays[name] = generator.standard_normal(shape) * (10.0**exponent if name != "dout" else 1)
        else:
            if not integers:
                values = ODD_LOW if precision.low else ODD
            elif precision.low:
                values = DENSE[:2] if name == "dout" else SIGNS
            else:
                values = DENSE if name == "dout" else PLAIN
            if kind == "integers":
                arrays[name] = np.resize(values[np.array(piece) % len(values)], shape)
            else:
                arrays[name] = values[generator.integers(0, len(values), shape)]
    return Case(configuration, precision.name, rounded(arrays, dtypes), integers=integers or None)


def tolerances(
    case: Case,
    expected: Mapping[str, Array],
    terms: Mapping[str, int],
    absolute: Callable[[Case], Mapping[str, Array]],
    *,
    bias_axis: int,
    exact: bool,
) -> dict[str, Array | float | None]:
    """The error bound of each tensor in `expected`, the reference's results; `terms` are those of its longest sum.

    `bias_axis` is the axis of out along which b lies.

    `absolute` evaluates the layer; it is asked at most once, on the absolute values of the case. `exact` False: a
    candidate that transforms (FFT, Winograd) errs by a multiple of the norms of both factors instead, spread over all
    elements (Higham, section 24.1, for the FFT).
    """
    precision = case.precision
    peaks = {name: float(np.abs(a).max(initial=0.0)) for name, a in case.wide.items() if a is not None}
    limit = 2.0**precision.digits
    sums: Mapping[str, Array] | None = None
    found: dict[str, Array | float | None] = {}
    for tensor, right in expected.items():
        count = terms[tensor]
        transformed = not exact and tensor != "db"
        if case.integral and not transformed:
            largest = float(np.prod([peaks[factor] for factor in FACTORS[tensor]])) * count
            if largest + peaks.get("b", 0.0) <= limit:
                found[tensor] = 0.0
                continue
        if sums is None:
            magnitudes = {name: None if a is None else np.abs(a) for name, a in case.wide.items()}
            sums = absolute(Case(case.configuration, "float64", magnitudes))
        largest = float(sums[tensor].max(initial=0.0))
        if case.integral and largest <= limit and not transformed:
            found[tensor] = 0.0
        elif largest > precision.largest / 2:
            found[tensor] = None  # Right code may overflow on its way.
        elif transformed:
            found[tensor] = _transformed(case, tensor, count)
        else:
            bound = unit(precision, count) * sums[tensor] + 4 * precision.underflow
            if precision.low:
                bound = bound + precision.roundoff * sums[tensor] + _rounded(tensor, right, case, bias_axis)
            found[tensor] = bound
    return found


def unit(precision: Precision, terms: int) -> float:
    """The bound of a sum of so many products, as a multiple of the sum of the absolute products.

    gamma_n of the accumulating format, once for the candidate and, in float64, once for the reference. Room for four
    more roundings keeps right code below half of it where the sum has few terms.
    """
    count = (terms + 4) * (2 if precision.name == "float64" else 1)
    return count * precision.accumulator / (1 - count * precision.accumulator)


def _rounded(tensor: str, right: Array, case: Case, bias_axis: int) -> Array:
    """In 16 bits the result is rounded, and the sum too where a bias is added to it."""
    bias = case.wide.get("b") if tensor == "out" else None
    size = np.abs(right)
    if bias is not None:
        size = size + np.abs(right - bias.reshape(-1, *[1] * (right.ndim - 1 - bias_axis % right.ndim)))
    return np.asarray(MARGIN * case.precision.roundoff * size)


def _transformed(case: Case, tensor: str, terms: int) -> float:
    norms = np.prod([float(np.linalg.norm(a)) for f in FACTORS[tensor] if (a := case.wide[f]) is not None])
    bias = case.wide.get("b")
    shift = float(np.abs(bias).max(initial=0.0)) if tensor == "out" and bias is not None else 0.0
    factor = 16 * (3 + log2(terms + 1)) * case.precision.accumulator
    return (factor + (3 * case.precision.roundoff if case.precision.low else 0.0)) * (float(norms) + shift)


def bias_choices(space: Space) -> tuple[int, ...]:
    """Whether b is None (0) or an array (1), the smaller first."""
    if not space.takes("b"):
        return (0,)
    return (0, 1) if "b" in space.signature.nullable else (1,)


def fitting(classes: Sequence[tuple[int, ...]], need: tuple[int, ...]) -> tuple[int, ...]:
    """The first size class with room for this; beyond the last, each size rounded up to a power of two."""
    for candidate in classes:
        if all(size <= room for size, room in zip(need, candidate, strict=True)):
            return candidate
    return tuple(1 << max(0, size - 1).bit_length() for size in need)


def padded(a: Array, shape: tuple[int, ...]) -> Array:
    """The array with zeros after its end on every axis."""
    out = np.zeros(shape, a.dtype)
    out[tuple(slice(0, n) for n in a.shape)] = a
    return out

"""Batch norm's error bounds: what the rounding of right code can make of each tensor, channel by channel.

The model is the standard one: each operation errs relatively by at most the unit roundoff v of the format that sums are
kept in, and a sum of n terms by gamma_n = n v / (1 - n v) times the sum of the absolute terms, in whatever order it is
taken (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1 and section 4.2). An error of the
mean or of the scale s = 1 / sqrt(var + eps) is one number a channel; it is carried through every sum as one, so that
what cancels in the sum cancels in its error too. `docs/tolerance.md` has the derivation in words.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.precision import Precision
from backproof.reference.bilinear import MARGIN

#: The same for the roundings of a sum's terms to 16 bits, which rarely all fall to one side.
TERMS = 2.0
#: Operations around the sums of one element, each with an error of its own: eps, root, quotient, products, beta.
OPERATIONS = 8
#: Roundings of x - mean, in units of |x| + |mean|: right code may fold it into x * s + (beta - mean * s).
CENTRED = 5
#: A tensor is not judged where its bound exceeds this part of its scale; the second for the formats of 16 bits.
JUDGED, JUDGED_LOW = 0.01, 0.25


def gamma(terms: int, precision: Precision) -> float:
    """gamma_n of the accumulating format; twice the terms in float64, where the reference errs as much."""
    count = terms * (2 if precision.name == "float64" else 1)
    return count * precision.accumulator / (1 - count * precision.accumulator)


def tolerances(case: Case, expected: Mapping[str, Array], *, wide_parameters: bool) -> dict[str, Array | float | None]:
    """The bound of every tensor in `expected`, the reference's results: of its shape; None: not judged.

    `wide_parameters`: gamma, beta and the statistics are float32 beside an x of 16 bits, and right code does not round
    the statistics to 16 bits. x and dout are (N, C, *S), everything else (C,).
    """
    x, dout, options, precision = case.array("x"), case.array("dout"), case.options, case.precision
    if x.size == 0:
        return dict.fromkeys(expected, 0.0)
    axes, column = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    m, training = x.size // x.shape[1], options["training"]

    def mean_of(a: Array) -> Array:
        """The mean over each channel, shaped to go with x."""
        return np.asarray(a.mean(axis=axes).reshape(column))

    def vector(name: str, plain: float) -> Array:
        found = case.wide.get(name)
        return np.full((), plain) if found is None else np.abs(found).reshape(column)

    # Single roundings: of the accumulating format, and of the 16 bits where a value is kept in them.
    few, own = gamma(OPERATIONS, precision), gamma(CENTRED, precision)
    total, product = gamma(m + 4, precision), gamma(m + OPERATIONS, precision)
    low = MARGIN * precision.roundoff if precision.low else 0.0
    kept = 0.0 if wide_parameters else low
    inner = TERMS * precision.roundoff if precision.low else 0.0
    tiny = 4 * precision.underflow

    size = np.abs(x)
    if training:
        mean = mean_of(x)
        centred = np.abs(x - mean)
        var = mean_of(np.square(centred))
    else:
        mean, var = case.array("running_mean").reshape(column), case.array("running_var").reshape(column)
        centred = np.abs(x - mean)
    scale = 1 / np.sqrt(var + options["eps"])
    xhat = centred * scale
    factor, shift = vector("gamma", 1.0), vector("beta", 0.0)

    # The errors of the mean, of each x - mean by itself, of var, and the relative one of s.
    apart = own * (size + np.abs(mean))
    shifted = variance = np.zeros_like(mean)
    if training:
        shifted = total * mean_of(size) + kept * np.abs(mean) + (0.0 if wide_parameters else tiny)
        variance = (
            product * (var + mean_of(size) * mean_of(centred))
            + 2 * mean_of(centred * apart)
            + np.square(shifted)
            + mean_of(np.square(apart))
        )
    relative = _of_root(variance, var, options["eps"]) + few + kept + (0.0 if wide_parameters else tiny / scale)
    grown = 1 + relative
    common, single = grown * shifted * scale, grown * apart * scale + precision.underflow
    off = common + single + relative * xhat

    found: dict[str, Array | float | None] = {}
    bound = factor * off + few * (factor * xhat + shift) + low * (factor * xhat + np.abs(expected["out"])) + tiny
    found["out"] = judged(bound, factor + shift, precision)

    up, slope = np.abs(dout), factor * scale
    level, slant = np.abs(mean_of(dout)), np.abs(mean_of(dout * (x - mean))) * scale
    # The error of mean(dout xhat): what the elements share goes with the sums, what they do not with absolute values.
    carried = mean_of(up * single) + common * level + relative * slant + (product + inner) * mean_of(up * xhat)
    bound = few * up
    if training:
        tilt = carried + low * slant
        bound = few * (up + level + xhat * slant) + total * mean_of(up) + low * (level + xhat * slant)
        bound = bound + xhat * tilt + off * (slant + tilt)
    bound = grown * slope * bound + (relative + low) * np.abs(expected["dx"]) + tiny
    found["dx"] = judged(bound, slope * up.max(axis=axes).reshape(column), precision)

    sums = up.sum(axis=axes)
    if "dgamma" in expected:
        bound = (m * (carried + low * slant)).reshape(-1) + tiny
        found["dgamma"] = judged(bound, sums, precision)
    if "dbeta" in expected:
        integral = case.integers is not False and bool((np.rint(dout) == dout).all())
        exact = integral and float(sums.max()) <= 2.0**precision.digits
        found["dbeta"] = 0.0 if exact else total * sums + low * np.abs(expected["dbeta"]) + tiny
    if "running_mean" in expected:
        found |= _statistics(case, expected, shifted.reshape(-1), variance.reshape(-1), few, kept)
    # Right code may overflow on its way to a result that is as large as the format allows.
    large = {name for name, right in expected.items() if float(np.abs(right).max()) > precision.largest / 2}
    return found | dict.fromkeys(large)


def judged(bound: Array, scale: Array, precision: Precision) -> Array | None:
    """The bound; None where it exceeds a hundredth of the tensor's scale (in 16 bits a quarter): nothing would show."""
    part = JUDGED_LOW if precision.low else JUDGED
    # Where gamma or dout is 0 all that is left is underflow.
    return None if bool((bound > scale * part + 4 * precision.underflow).any()) else bound


def _of_root(variance: Array, var: Array, eps: float) -> Array:
    """The largest relative change of 1 / sqrt(var + eps) as var changes by at most this, and not below zero."""
    whole = var + eps
    least = np.minimum(np.minimum(variance, var) / whole, 1 - 2.0**-50)
    return np.asarray(np.maximum(np.expm1(-0.5 * np.log1p(-least)), -np.expm1(-0.5 * np.log1p(variance / whole))))


def _statistics(
    case: Case, expected: Mapping[str, Array], shifted: Array, variance: Array, few: float, kept: float
) -> dict[str, Array | float | None]:
    """(1 - new) * old + new * statistic: the statistic's own error, a few operations, in 16 bits the result's."""
    options = case.options
    if not options["training"]:
        return {"running_mean": 0.0, "running_var": 0.0}
    new = options["momentum"] if options["weighs"] == "new" else 1 - options["momentum"]
    m = case.array("x").size // case.array("x").shape[1]
    unbiased = options["running_var"] == "unbiased"
    found: dict[str, Array | float | None] = {}
    # The variance is rounded to 16 bits before it is weighed; the mean's rounding is in its error.
    errors = (
        ("running_mean", shifted, 1.0, 0.0),
        ("running_var", variance, m / max(m - 1, 1) if unbiased else 1.0, kept),
    )
    for name, error, factor, own in errors:
        old = (1 - new) * case.array(name)
        fresh = np.abs(expected[name] - old)
        # The momentum is rounded, and what is left of 1 beside it: one of the two weighs more, the other less.
        change = np.abs(expected[name] - case.array(name))
        rounding = few * (np.abs(old) + fresh + change) + own * fresh
        rounding = rounding + kept * (np.abs(expected[name]) + np.abs(old) + change)
        found[name] = new * factor * error + rounding + (4 * case.precision.underflow if kept else 0.0)
    if m == 1 and unbiased:
        found["running_var"] = None
    return found

"""A backward is a linear function of dout."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter
from backproof.conformance.judging.properties.several_calls import (
    comparable,
    complete_forward,
    difference,
    tolerance_of,
)
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Status

#: f(A u + B v) = A f(u) + B f(v): a negative factor, and one so large that clipping shows.
A, B = -1024.0, 64.0
#: In 16 bits, where more would overflow.
A_LOW = -2.0
#: Dense cotangents of small integers, so that A u + B v is representable in every format.
U = np.array([1, 2, -3, -2, 3, -1, 4], dtype=np.float64)
V = np.array([2, -1, 1, 3, -2], dtype=np.float64)
#: Cotangents of more entries are not shown in the sentence.
MOST_SHOWN = 4
#: Cotangents that are integers up to this are asked as they are.
LARGEST = 4.0


class Linearity(OneItem):
    """The backward is linear in dout: f(0) = 0, f(a u + b v) = a f(u) + b f(v), also for negative and large factors."""

    name = "linearity"
    compares_calls = True

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares the gradients of four cotangents."""
        a, u, v = _combination(case)
        combination = f"dout = {a:g} u + {B:g} v"
        if u.size <= MOST_SHOWN:
            combination += f" (u = {_written(u, candidate)}, v = {_written(v, candidate)})"
        zero, one, other, both = (case.with_dout(dout) for dout in (np.zeros(u.shape), u, v, a * u + B * v))

        def pulled_back(question: Case) -> dict[str, Array]:
            # Each has its own forward: what a second backward on one cache does is `repeatability`'s business.
            return comparable(
                candidate.backward(question, complete_forward(question, candidate)), question, candidate, reference
            )

        nothing, first, second, together = (pulled_back(question) for question in (zero, one, other, both))
        judged = False
        for tensor in [name for name in first if name in second]:
            tolerances = [
                tolerance_of(tensor, result[tensor], question, reference)
                for question, result in ((one, first), (other, second))
            ]
            if tolerances[0] is None or tolerances[1] is None or reference.expected(both).tolerances[tensor] is None:
                continue
            judged = True
            expected = a * first[tensor] + B * second[tensor]
            nil = np.zeros(expected.shape)
            found = _unreadable(tensor, nothing, "a dout of zeros") or difference(
                tensor, nothing[tensor], nil, 0.0, candidate, "for a dout of zeros, must be"
            )
            found = found or _unreadable(tensor, together, combination)
            if found is None:
                own = tolerance_of(tensor, together[tensor], both, reference)
                tolerance = sum(abs(c) * np.asarray(r) for c, r in zip((1.0, a, B), (own, *tolerances), strict=True))
                if np.any(tolerance):
                    # Rounding in the sum of the two that is expected.
                    tolerance = tolerance + 2.0**-51 * (abs(a * first[tensor]) + abs(B * second[tensor]))
                must = f"for {combination}, but {a:g} {tensor}(u) + {B:g} {tensor}(v) is"
                found = difference(tensor, together[tensor], expected, np.asarray(tolerance), candidate, must)
            if found is not None:
                return found
        return Status.RIGHT if judged else Status.LEFT_OUT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares a gradient for the cotangents 0, u, v and A u + B v."""
        case, reference, candidate, tensor = writer.case, writer.reference, writer.candidate, writer.tensor
        a, u, v = _combination(case)
        one, other, both = (case.with_dout(dout) for dout in (u, v, a * u + B * v))
        tolerances = [reference.expected(question).tolerances[tensor] for question in (both, one, other)]
        tolerance = sum(abs(c) * np.asarray(r) for c, r in zip((1.0, a, B), tolerances, strict=True) if r is not None)
        if np.any(tolerance):
            first, second = (reference.expected(question).tensors[tensor] for question in (one, other))
            tolerance = tolerance + 2.0**-51 * (abs(a * first) + abs(B * second))
        writer.numbers(case)
        writer.comment("The backward is linear in dout: f(0) = 0, and f(A u + B v) = A f(u) + B f(v).")
        writer.lines.append(f"A, B = {a:g}, {B:g}")
        writer.array("u", candidate.in_data_format("dout", u))
        writer.array("v", candidate.in_data_format("dout", v))
        writer.comment("How far off rounding alone may have it.")
        apart = np.asarray(tolerance)
        writer.tolerance("tolerance", candidate.in_data_format(tensor, apart) if apart.ndim else apart)
        writer.calls(case.configuration)
        dout = case.arrays["dout"]
        assert dout is not None
        writer.lines += [
            "",
            "",
            "def pulled_back(dout):",
            f'    """{tensor} for this dout, by a forward of its own."""',
            f"    results, cache = forward({writer.passes()})",
            f"    gradients = backward(dout.astype({writer.dtype(dout)}), cache)",
            f'    return read("{tensor}", gradients["{tensor}"]).astype("float64")',
        ]
        writer.judge = [
            "    zero, one, other, both = [pulled_back(d) for d in (0 * u, u, v, A * u + B * v)]",
            f'    if compare("{tensor} for a dout of zeros", zero, 0 * one, 0):',
            "        return 1",
            "    if np.isfinite(one).all() and np.isfinite(other).all() and not np.isfinite(both).all():",
            f'        print("{tensor} is finite for u and v, and not for A u + B v.")',
            "        return 1",
            f'    return compare(f"{tensor} for dout = A u + B v", both, A * one + B * other, tolerance)',
        ]
        return True


def _combination(case: Case) -> tuple[float, Array, Array]:
    """A, u and v: u is the case's own dout, where its sums are exact."""
    u = case.array("dout")
    if not (np.rint(u) == u).all() or np.abs(u).max(initial=0.0) > LARGEST or not u.any():
        u = np.resize(U, u.shape)
    return A_LOW if case.precision.low else A, np.array(u, np.float64), np.resize(V, u.shape)


def _written(cotangent: Array, candidate: Candidate) -> str:
    return str(candidate.in_data_format("dout", cotangent).astype(int).tolist())


def _unreadable(tensor: str, results: Mapping[str, Array], what: str) -> Discrepancy | None:
    if tensor in results:
        return None
    return Discrepancy("nonfinite", tensor, f"{tensor} is finite for other cotangents, but not for {what}.")

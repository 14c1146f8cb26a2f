"""Recognises float64 results that have only float32's accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.results import Discrepancy

#: The roundings of right code in float32, and as many again for its inputs.
ROUNDINGS = 2


def in_words(
    check: str, message: str, failed: Sequence[tuple[Case, Reference, Discrepancy]], candidate: Candidate
) -> str:
    """The message, preceded by "float32's accuracy" where that explains every one of these wrong float64 values."""
    if failed and all(_as_float32(check, case, reference, found, candidate) for case, reference, found in failed):
        return f"{check} is float64 with float32's accuracy: {message}"
    return message


def _as_float32(check: str, case: Case, reference: Reference, found: Discrepancy, candidate: Candidate) -> bool:
    """Whether a float64 result is as near to the right one as right code in float32 would be."""
    if case.dtype != "float64" or found.kind != "value" or found.expected is None or found.got is None:
        return False
    tensors, shorter = reference.expected(case).tensors, replace(reference.space, dtype="float32")
    if check not in tensors:
        return False
    tolerance = reference.layer.tolerances(replace(case, dtype="float32", integers=False), tensors, shorter)[check]
    if tolerance is None:
        return False
    spread = candidate.in_data_format(check, np.broadcast_to(np.asarray(tolerance), tensors[check].shape))
    return bool((np.abs(found.got - found.expected) <= ROUNDINGS * spread).all())

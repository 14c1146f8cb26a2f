"""Causes of failures that only a convolution can have."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

import numpy as np

from backproof.conformance.explaining.probes.errors import crashes
from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.rejection import CHECKS, in_forward, out_of
from backproof.conformance.explaining.probes.trials import alike, with_options
from backproof.conformance.spec.probe import Probe

RESHAPED = re.compile(r"cannot reshape array of size (\d+) into shape \(([\d, ]+)\)")


def _pads_a_missing_axis(failing: FailingCase) -> bool:
    """Whether out has as many entries too many as the padding of an axis of size 1 would give it."""
    options, found = failing.case.options, RESHAPED.search(failing.found.message)
    if found is None or failing.case.configuration.rank != 1:
        return False
    right = prod(int(size) for size in found[2].split(",") if size.strip())
    low, high = options["padding"][0]
    strides = {1, options["stride"][0]}
    return low + high > 0 and int(found[1]) in [right * ((low + high) // stride + 1) for stride in strides]


def _leaves_filters_over(failing: FailingCase) -> bool:
    """Whether out is that of the filters that the groups divide: the rest are left out."""
    case, groups = failing.case, failing.case.options["groups"]
    w, b, out = case.arrays["w"], case.arrays.get("b"), out_of(failing, failing.case)
    if w is None or out is None or groups < 2 or len(w) % groups == 0:
        return False
    whole = len(w) // groups * groups
    fewer = {**case.arrays, "w": w[:whole], "b": None if b is None else b[:whole]}
    other = out_of(failing, replace(case, arrays=fewer)) if whole else None
    return other is not None and alike(out, other)


def _rounds_to_zero(failing: FailingCase) -> bool:
    """Whether a kernel that does not fit is accepted with a stride, and rejected with a stride of 1."""
    stride = failing.case.options["stride"]
    out = out_of(failing, failing.case) if max(stride) > 1 else None
    plain = with_options(failing.case, stride=(1,) * len(stride))
    return out is not None and prod(out.shape) > 0 and out_of(failing, plain) is None


def _crops(failing: FailingCase) -> bool:
    """Whether a padding below 0 takes entries of x away."""
    case, padding = failing.case, failing.case.options["padding"]
    x, out = case.arrays["x"], out_of(failing, failing.case)
    if x is None or out is None or min(min(sides) for sides in padding) >= 0:
        return False
    cut = [slice(max(0, -low), n - max(0, -high)) for n, (low, high) in zip(x.shape[2:], padding, strict=True)]
    inner = (slice(None), slice(None), *cut)
    clipped = tuple([(max(0, low), max(0, high)) for low, high in padding])
    cropped = with_options(replace(case, arrays={**case.arrays, "x": np.array(x[inner])}), padding=clipped)
    other = out_of(failing, cropped)
    return other is not None and alike(out, other)


PROBES = (
    Probe(
        "x has one spatial axis, and is taken for an image of height 1 that is padded too: out has rows too many.",
        (),
        crashes(_pads_a_missing_axis),
    ),
    Probe(
        "Each group gets O // groups filters, and those that are left over are in none: nothing checks that the groups "
        "divide them.",
        CHECKS,
        in_forward(_leaves_filters_over),
    ),
    Probe(
        "The size of out is rounded towards 0, as int(a / S) + 1 has it, and not down: a kernel that does not fit gets "
        "a window.",
        CHECKS,
        in_forward(_rounds_to_zero),
    ),
    Probe("A padding below 0 is not rejected: it crops x.", CHECKS, in_forward(_crops)),
)

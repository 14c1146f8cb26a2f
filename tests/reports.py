"""Reports as a run makes them, with a failure of every sort that a reader meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backproof.conformance.reporting.numbers import wrong_entries
from backproof.conformance.reporting.record import Failure, Report, report_of
from backproof.conformance.spec.precision import PRECISIONS
from backproof.reference import CONTRACTS

NEUTRAL = {option.name: option.neutral for contract in CONTRACTS for option in contract.options}
#: What the axes of an array of so many are called, those of images first, then those of filters.
IMAGES = {1: ("c",), 2: ("n", "c"), 3: ("n", "c", "w"), 4: ("n", "c", "h", "w"), 5: ("n", "c", "d", "h", "w")}
CONV_CHECKS = ("out", "dx", "dw", "db", "linearity", "identities", "purity", "edges")
BATCHNORM_CHECKS = ("out", "dx", "dgamma", "dbeta", "running_mean", "running_var", "linearity", "identities")
#: What a message, an option or a traceback must not do to a page.
HOSTILE = '<script>alert("1")</script> `code` | cell | <b>bold</b> </details> & [link](http://x) ${x} @me \\'


def item(part: str, check: str, dtype: str = "float64", failures: Sequence[Any] = (), **more: Any) -> dict[str, Any]:
    """One item; failed where it has failures."""
    layer = "conv" if part.startswith("conv") else part
    return {
        "id": f"backproof::{part}::{check}::{dtype}",
        "layer": layer,
        "spatial_dims": int(part[4]) if layer == "conv" else None,
        "check": check,
        "dtype": dtype,
        "outcome": "failed" if failures else "passed",
        "examples": 212,
        "unsupported": 0,
        "unjudged": 0,
        "duration_s": 0.5,
        "reason": None,
        "refused": None,
        "again": f"pytest --impl=mypkg.adapter --impl-profile=quick backproof::{part}::{check}::{dtype}",
        "failures": [completed(failure, dtype) for failure in failures],
        **more,
    }


def failure(tensor: str, arrays: Mapping[str, Any], options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """One failure, without most of the keys that may be missing."""
    sizes = {name: np.ndim(a) for name, a in arrays.items() if a is not None}
    known = {"w": ("o", *IMAGES.get(sizes.get("w", 0), ())[1:])}
    return {
        "kind": "value",
        "tensor": tensor,
        "message": f"{tensor} is wrong.",
        "traceback": None,
        "options": dict(options),
        "neutral": {name: NEUTRAL[name] for name in options},
        "axes": {name: known.get(name, IMAGES[count]) for name, count in sizes.items() if options and count}
        | ({"dx": IMAGES[sizes["x"]], "out": IMAGES[sizes["x"]]} if options and "x" in sizes else {}),
        "shapes": {name: None if a is None else list(np.shape(a)) for name, a in arrays.items()},
        "arrays": {name: None if a is None else np.asarray(a, dtype=float).tolist() for name, a in arrays.items()},
        "expected": None,
        "got": None,
        "minimal": {"proved": False, "smaller_cases_checked": 57},
        "region": None,
        "diagnosis": [],
        "reproduce": None,
        **more,
    }


def completed(failure: dict[str, Any], dtype: str) -> dict[str, Any]:
    """With the entries that are wrong, as far as nobody has said so."""
    if "wrong" in failure or failure["expected"] is None or failure["got"] is None:
        return failure
    expected, got = (np.array(failure[name], dtype=float) for name in ("expected", "got"))
    wrong = wrong_entries(expected, got, None, PRECISIONS[dtype].roundoff)
    return {**failure, "wrong": None if wrong is None else wrong.tolist()}


def typed(failure: dict[str, Any], dtype: str = "float64") -> Failure:
    """The failure as reports have it."""
    return content([item("conv2d", "dx", dtype, [failure])]).items[0].failures[0]


def conv_options(rank: int = 2, **more: Any) -> dict[str, Any]:
    """The options of conv, plain but for those given."""
    plain = {"stride": [1] * rank, "padding": [[0, 0]] * rank, "dilation": [1] * rank, "groups": 1}
    return {**plain, "padding_mode": "zeros", **more}


def strided_dx() -> dict[str, Any]:
    """A dx of two samples with two wrong slices, one entry of which is no number; a row of x is left over."""
    x = np.arange(60.0).reshape(1, 3, 4, 5) - 30
    expected = np.ones((1, 3, 4, 5))
    got = expected.copy()
    got[0, 1, 0, 2] = 3.5
    got[0, 1, 2, 0] = np.inf
    got[0, 2, 1, 1] = 0.25
    written = got.tolist()
    written[0][1][2][0] = "Infinity"
    options = conv_options(stride=[2, 2], padding=[[1, 0], [0, 1]])
    arrays = {"x": x, "w": np.ones((2, 3, 2, 2)), "b": None, "dout": np.ones((1, 2, 2, 3))}
    return failure("dx", arrays, options) | {
        "message": "dx[0, 1, 0, 2] is 3.5, must be 1 (off by 2.5). 3 of 60 entries are wrong.",
        "expected": expected.tolist(),
        "got": written,
        "written": {"stride": 2, "padding": [[1, 0], [0, 1]], "dilation": [1, 1]},
        "region": "stride > 1 and remainder > 0",
        "region_counts": {"failed": 61, "of": 61, "passed": 139},
        "diagnosis": ["dx ignores the stride: its windows lie side by side."],
        "minimal": {"proved": True, "smaller_cases_checked": 57},
        "plain": True,
        "reproduce": ".backproof/reproduce conv2d.py",
    }


def wide_dx() -> dict[str, Any]:
    """A dx of a line that is far wider than a phone."""
    expected = np.zeros((1, 1, 33))
    got = expected.copy()
    got[0, 0, 7] = -0.125
    arrays = {"x": np.ones((1, 1, 33)), "w": np.ones((1, 1, 3)), "dout": np.ones((1, 1, 17))}
    return failure("dx", arrays, conv_options(1, stride=[2], padding=[[1, 1]])) | {
        "expected": expected.tolist(),
        "got": got.tolist(),
        "diagnosis": ["One thing.", "Or another, which gives the same."],
    }


def volume_out() -> dict[str, Any]:
    """An out of a volume with one wrong entry."""
    expected = np.zeros((1, 1, 2, 2, 2))
    got = expected.copy()
    got[0, 0, 1, 0, 1] = 1
    arrays = {"x": np.ones((1, 1, 3, 3, 3)), "w": np.ones((1, 1, 2, 2, 2)), "dout": np.ones((1, 1, 2, 2, 2))}
    site = ["The error sits in 1 of 8 entries.", "It has no constant ratio to the right value."]
    return failure("out", arrays, conv_options(3), site=site) | {"expected": expected.tolist(), "got": got.tolist()}


def crash(file: str = "adapter.py", line: int = 3) -> dict[str, Any]:
    """A forward that raises, with a message that is not kind to a page."""
    arrays = {"x": np.ones((1, 1, 2, 2)), "w": np.ones((1, 1, 1, 1)), "dout": np.ones((1, 1, 1, 1))}
    return failure("out", arrays, conv_options(stride=[2, 2])) | {
        "kind": "crash",
        "message": f"conv_forward raised ValueError: {HOSTILE}",
        "traceback": "Traceback (most recent call last):\n"
        f'  File "{file}", line {line}, in conv_forward\n    {HOSTILE}\n'
        f"ValueError: {HOSTILE}\n```\n",
        "region": HOSTILE,
        "diagnosis": [HOSTILE],
        "reproduce": f"{HOSTILE}.py",
    }


def batch_dx() -> dict[str, Any]:
    """A dx of batch norm, explained by a step."""
    arrays = {"x": [[0], [0]], "gamma": [1], "beta": [0], "dout": [[0], [1]]}
    return failure("dx", arrays, {"eps": 1e-5, "training": True, "momentum": 0.1}) | {
        "expected": [[-158.11388300841895], [158.11388300841895]],
        "got": [[0.0], [316.2277660168379]],
        "diagnosis": ["dx leaves out the path through the mean."],
        "step": "step 2: xmu = x - mean",
        "region": "every case",
        "region_counts": {"failed": 150, "of": 150, "passed": 0},
    }


def content(items: Sequence[Mapping[str, Any]], **more: Any) -> Report:
    """The report of a run with these items."""
    failing = any(one["outcome"] in ("failed", "error", "xfailed", "xpassed") for one in items)
    found = {
        "schema": 1,
        "impl": "mypkg.adapter",
        "backproof": "0.1.0",
        "duration_s": 4.25,
        "conforms": not failing,
        "complete": True,
        "profile": "quick",
        "seed": 0,
        "items": list(items),
        "cells": {"conv2d": {"stride > 1": 95, "no bias": 0, "x: transposed": 3}},
        **more,
    }
    return report_of(found)


def everything() -> Report:
    """A run with all of it, in two dtypes and with every outcome."""
    found: dict[tuple[str, str, str], list[Any]] = {
        ("conv1d", "dx", "float64"): [wide_dx()],
        ("conv2d", "out", "float64"): [crash()],
        ("conv2d", "dx", "float64"): [strided_dx(), failure("dx", {"x": None}, {}, kind="dtype")],
        ("conv2d", "identities", "float64"): [failure("dx", {}, {}, expected=1.0, got=0.0)],
        ("conv3d", "out", "float64"): [volume_out()],
        ("batchnorm", "dx", "float64"): [batch_dx()],
    }
    items = [
        item(part, check, dtype, found.get((part, check, dtype), ()))
        for part in ("conv1d", "conv2d", "conv3d", "batchnorm")
        for check in (BATCHNORM_CHECKS if part == "batchnorm" else CONV_CHECKS)
        for dtype in ("float64", "float32")
    ]
    for one in items:
        if one["id"] == "backproof::conv2d::identities::float64":
            one |= {"same_as": "backproof::conv2d::dx::float64"}
        if one["id"] == "backproof::conv2d::edges::float32":
            one |= {"outcome": "skipped", "unsupported": 12, "reason": "refused where the batch is empty: 12 of 12"}
        if one["id"] == "backproof::conv2d::purity::float32":
            one |= {"outcome": "xfailed", "failures": [completed(batch_dx(), "float32")]}
        if one["id"] == "backproof::conv1d::purity::float32":
            one |= {"outcome": "xpassed"}
        if one["id"] == "backproof::conv1d::edges::float32":
            one |= {"outcome": "error"}
    return content(items)

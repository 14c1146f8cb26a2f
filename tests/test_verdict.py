"""How a result is compared, and what a wrong one is called."""

from __future__ import annotations

import numpy as np
import pytest

from backproof.conformance.judging.compare import compare
from backproof.conformance.spec.results import Problem

RIGHT = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_equal_arrays_pass_and_the_bound_counts() -> None:
    assert compare("dx", RIGHT.copy(), RIGHT, 0.0, np.float64) is None
    assert compare("dx", RIGHT + 1e-9, RIGHT, 1e-8, np.float64) is None
    assert compare("dx", RIGHT + 1e-7, RIGHT, 1e-8, np.float64) is not None


@pytest.mark.parametrize(
    ("got", "kind", "words"),
    [
        (RIGHT.T, "value", "dx[0, 1] is 3, must be 2 (off by 1). 2 of 4 entries are wrong."),
        (RIGHT[0], "shape", "dx has shape (2,), must be (2, 2)."),
        (RIGHT.astype(np.float32), "dtype", "dx has dtype float32, must be float64."),
        (RIGHT * [[1, np.inf], [1, 1]], "nonfinite", "dx[0, 1] is inf, must be 2. 1 of 4 entries are wrong."),
        (RIGHT * [[1, np.nan], [1, 1]], "nonfinite", "dx[0, 1] is nan, must be 2."),
        (np.zeros((2, 2)), "value", "4 of 4 entries are wrong."),
        (RIGHT * (1 + 1e-12), "value", "1.0000000000010001, must be 1 "),
        (Problem("result", "linear_backward returned None."), "result", "linear_backward returned None."),
    ],
)
def test_what_is_off_is_named(got: object, kind: str, words: str) -> None:
    found = compare("dx", got, RIGHT, 0.0, RIGHT.dtype)
    assert found is not None
    assert found.kind == kind
    assert words in found.message


def test_nan_where_nan_is_expected_is_right() -> None:
    both = np.array([np.nan, 1.0])
    assert compare("out", both.copy(), both, 0.0, np.float64) is None
    assert compare("out", np.array([np.nan, 2.0]), both, 0.0, np.float64) is not None
    assert compare("out", np.array([0.0, 1.0]), both, 0.0, np.float64) is not None


def test_an_infinite_result_is_never_within_a_bound() -> None:
    assert compare("out", np.array([np.inf]), np.array([1.0]), 1e300, np.float64) is not None

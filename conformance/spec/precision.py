"""The floating-point formats, as far as tolerances need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Precision:
    """One format: `roundoff` is its unit roundoff u = 2^-digits (Higham, Accuracy and Stability, section 2.1).

    `accumulator` is the unit roundoff in which right code sums: the format's own, float32's for the two formats of
    16 bits. `digits` is p, so that every integer up to 2^p is representable. `largest` is the largest finite number,
    `underflow` the largest error of rounding a number near zero. `smallest_eps` is the smallest eps that batch norm is
    asked for.
    """

    name: str
    digits: int
    accumulator_digits: int
    largest: float
    underflow: float
    smallest_eps: float
    #: For formats of 16 bits: numbers of equal terms whose sum, kept in the format, sticks halfway, one term after the
    #: other, and in several lanes side by side.
    sticking: tuple[int, ...] = ()

    @property
    def roundoff(self) -> float:
        """The unit roundoff u of one rounding to this format."""
        return 2.0**-self.digits

    @property
    def accumulator(self) -> float:
        """The unit roundoff of the format that sums are kept in."""
        return 2.0**-self.accumulator_digits

    @property
    def low(self) -> bool:
        """Whether sums are kept in a longer format than this one."""
        return self.digits < self.accumulator_digits

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype; bfloat16 comes from ml_dtypes, which JAX brings."""
        if self.name == "bfloat16":
            import ml_dtypes

            found: np.dtype = np.dtype(ml_dtypes.bfloat16)
            return found
        return np.dtype(self.name)


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "float64": Precision("float64", 53, 53, 1.7e308, 2.0**-1074, 1e-12),
        "float32": Precision("float32", 24, 24, 3.4e38, 2.0**-150, 1e-6),
        "float16": Precision("float16", 11, 24, 65504.0, 2.0**-25, 1e-3, (2100, 17000)),
        "bfloat16": Precision("bfloat16", 8, 24, 3.3e38, 2.0**-134, 1e-3, (300, 17000)),
    }
)

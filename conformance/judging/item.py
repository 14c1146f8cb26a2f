"""What is judged: one check of one part of a layer, in one dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Item:
    """One item: a check of one part in one dtype."""

    layer: str
    part: str
    spatial_dims: int | None
    check: str
    dtype: str

    @property
    def path(self) -> tuple[str, str, str]:
        """The id behind "backproof": part, check, dtype."""
        return self.part, self.check, self.dtype

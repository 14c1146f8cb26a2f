"""Known ways to be wrong in linear, the simplest first."""

from __future__ import annotations

from backproof.conformance.spec.mistake import Mistake
from backproof.reference.mistakes.linear_axes import ORDERED
from backproof.reference.mistakes.linear_formats import FORMATS
from backproof.reference.mistakes.linear_numbers import NUMBERS
from backproof.reference.mistakes.linear_sums import SUMS
from backproof.reference.mistakes.linear_tiles import TILES

MISTAKES: tuple[Mistake, ...] = (*SUMS, *ORDERED, *NUMBERS, *TILES, *FORMATS)

"""Known ways to be wrong in conv, the simplest first."""

from __future__ import annotations

from backproof.conformance.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = ()

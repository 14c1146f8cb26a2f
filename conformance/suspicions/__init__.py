"""What shows in a failure itself or in further calls: memory, calls, shapes, errors; of no layer in particular."""

from __future__ import annotations

from backproof.conformance.mistake import Suspicion

SUSPICIONS: tuple[Suspicion, ...] = ()

"""What shows in a failure itself or in further calls: memory, calls, shapes, errors; of no layer in particular."""

from __future__ import annotations

from backproof.conformance.mistake import Suspicion
from backproof.conformance.suspicions.calls import CALLS
from backproof.conformance.suspicions.cotangents import COTANGENTS
from backproof.conformance.suspicions.errors import ERRORS
from backproof.conformance.suspicions.forms import FORMS
from backproof.conformance.suspicions.meaning import MEANING
from backproof.conformance.suspicions.numbers import NUMBERS
from backproof.conformance.suspicions.ownership import OWNERSHIP
from backproof.conformance.suspicions.strides import STRIDES

SUSPICIONS: tuple[Suspicion, ...] = (
    *ERRORS,
    *FORMS,
    *MEANING,
    *OWNERSHIP,
    *STRIDES,
    *NUMBERS,
    *CALLS,
    *COTANGENTS,
)

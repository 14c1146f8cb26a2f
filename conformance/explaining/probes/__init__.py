"""What shows in a failure itself or in further calls: memory, calls, shapes, errors; of no layer in particular."""

from __future__ import annotations

from backproof.conformance.explaining.probes.calls import CALLS
from backproof.conformance.explaining.probes.cotangents import COTANGENTS
from backproof.conformance.explaining.probes.errors import ERRORS
from backproof.conformance.explaining.probes.forms import FORMS
from backproof.conformance.explaining.probes.meaning import MEANING
from backproof.conformance.explaining.probes.numbers import NUMBERS
from backproof.conformance.explaining.probes.ownership import OWNERSHIP
from backproof.conformance.explaining.probes.probe import Probe
from backproof.conformance.explaining.probes.strides import STRIDES

PROBES: tuple[Probe, ...] = (
    *ERRORS,
    *FORMS,
    *MEANING,
    *OWNERSHIP,
    *STRIDES,
    *NUMBERS,
    *CALLS,
    *COTANGENTS,
)

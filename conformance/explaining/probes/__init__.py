"""Causes that show in a failure itself or in further calls: memory, state, shapes, errors; for any layer."""

from __future__ import annotations

from backproof.conformance.explaining.probes.calls import calls
from backproof.conformance.explaining.probes.cotangents import COTANGENTS
from backproof.conformance.explaining.probes.errors import errors
from backproof.conformance.explaining.probes.numbers import numbers
from backproof.conformance.explaining.probes.ownership import ownership
from backproof.conformance.explaining.probes.rejection import REJECTION
from backproof.conformance.explaining.probes.shapes import shapes
from backproof.conformance.explaining.probes.strides import strides
from backproof.conformance.spec.layer import Layer
from backproof.conformance.spec.probe import Probe


def probes_of(layer: Layer) -> tuple[Probe, ...]:
    """The probes of a layer in the order in which they are reported: its own, then those of any layer."""
    contract = layer.contract
    return (
        *layer.probes(),
        *errors(contract),
        *shapes(contract),
        *REJECTION,
        *ownership(contract),
        *strides(contract),
        *numbers(contract),
        *calls(contract),
        *COTANGENTS,
    )

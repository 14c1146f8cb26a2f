"""Causes of failures that only batch norm can have."""

from __future__ import annotations

from backproof.conformance.explaining.probes.failing_case import FailingCase
from backproof.conformance.explaining.probes.rejection import CHECKS, in_forward, out_of
from backproof.conformance.explaining.probes.trials import with_options
from backproof.conformance.spec.probe import Probe


def _accepts_below_zero(failing: FailingCase) -> bool:
    return out_of(failing, with_options(failing.case, eps=-1e-5)) is not None


def _any_eps(failing: FailingCase) -> bool:
    return failing.case.options["eps"] <= 0 and _accepts_below_zero(failing)


def _eps_of_zero(failing: FailingCase) -> bool:
    """Whether an eps of 0 is accepted, and one below it is not."""
    return failing.case.options["eps"] == 0 and not _accepts_below_zero(failing)


PROBES = (
    Probe("eps is not checked: it must be above 0.", CHECKS, in_forward(_any_eps)),
    Probe(
        "An eps below 0 is rejected, and one of 0 is not: the check has < where <= is needed.",
        CHECKS,
        in_forward(_eps_of_zero),
    ),
)

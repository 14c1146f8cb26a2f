"""A failure as a stand-alone script, which needs NumPy and the adapter alone."""

from __future__ import annotations

from backproof.conformance.reporting.scripts.exercise import Script
from backproof.conformance.reporting.scripts.folder import Reproductions
from backproof.conformance.reporting.scripts.scripts import script

__all__ = ["Reproductions", "Script", "script"]

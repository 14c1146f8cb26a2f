"""A failure as a stand-alone script, which needs NumPy and the adapter alone."""

from __future__ import annotations

from backproof.conformance.reproduction.exercise import Script
from backproof.conformance.reproduction.folder import Reproductions
from backproof.conformance.reproduction.scripts import script

__all__ = ["Reproductions", "Script", "script"]

"""Entries of the survey that the gallery leaves out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: What the contract cannot express, by entry: H is a published bug, M a mistake that people make by hand.
BEYOND: Mapping[str, str] = MappingProxyType({})

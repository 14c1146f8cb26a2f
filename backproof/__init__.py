"""Backproof: a conformance suite for backprop implementations.

By itself this module imports the standard library alone; every public name is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import Any as _Any

__version__ = "0.1.0"

_HOMES = {
    "AdapterError": "backproof.conformance.adapter.load",
    "load": "backproof.conformance.adapter.load",
    "LAYERS": "backproof.reference",
    "textbook": "backproof.reference",
}
__all__ = ["LAYERS", "AdapterError", "__version__", "load", "textbook"]


def __getattr__(name: str) -> _Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'backproof' has no attribute {name!r}")
    return getattr(_import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

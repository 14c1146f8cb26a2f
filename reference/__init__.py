"""The reference: what each layer is, one page a layer. A new layer is a page and a name in `LAYERS`.

`textbook` holds the loops of the literature; it imports NumPy alone.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backproof.conformance.spec.layer import Layer

    LAYERS: tuple[Layer, ...]

__all__ = ["CONTRACTS", "LAYERS", "textbook"]

_PAGES = ("linear", "conv", "batchnorm")


def __getattr__(name: str) -> Any:
    if name == "textbook":
        return _import_module("backproof.reference.textbook")
    if name == "LAYERS":
        return tuple(_import_module(f"backproof.reference.{page}").LAYER for page in _PAGES)
    if name == "CONTRACTS":
        from backproof.reference.contracts import CONTRACTS

        return CONTRACTS
    raise AttributeError(f"module 'backproof.reference' has no attribute {name!r}")

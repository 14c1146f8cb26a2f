"""What layers draw of their failures."""

from __future__ import annotations

from backproof.reference.pictures.conv import picture as picture_of_windows

__all__ = ["picture_of_windows"]

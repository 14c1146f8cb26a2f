"""Records what a cache holds, as far as Python shows it, and restores it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from backproof.conformance.spec.case import Array

#: The most levels and objects of a cache that are recorded.
DEPTH, MOST = 6, 500
_OPAQUE = (str, bytes, int, float, complex, bool, type, FunctionType, ModuleType, np.generic)


class Snapshot:
    """The arrays, lists, dicts and objects of a cache, with their contents when it was taken."""

    def __init__(self, cache: Any) -> None:
        self._arrays: list[tuple[Array, Array]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._seen: set[int] = set()
        self._take(cache, 0)

    def _take(self, held: Any, depth: int) -> None:
        if id(held) in self._seen or depth > DEPTH or len(self._seen) > MOST or isinstance(held, _OPAQUE):
            return
        self._seen.add(id(held))
        if isinstance(held, np.ndarray):
            self._arrays.append((held, held.copy()))
            return
        if isinstance(held, list):
            self._lists.append((held, list(held)))
        elif isinstance(held, dict):
            self._dicts.append((held, dict(held)))
        for item in _inside(held):
            self._take(item, depth + 1)

    def changed_apart_from(self, given: Sequence[Array]) -> bool:
        """Whether anything has changed, but no array that shares memory with these."""
        arrays = [now for now, then in self._arrays if not np.array_equal(now, then, equal_nan=now.dtype.kind == "f")]
        if any(np.may_share_memory(array, other) for array in arrays for other in given):
            return False
        lists = any(not _are_same(now, then) for now, then in self._lists)
        dicts = any(
            now.keys() != then.keys() or not _are_same(list(now.values()), [then[key] for key in now])
            for now, then in self._dicts
        )
        return bool(arrays) or lists or dicts

    def restore(self) -> None:
        """Restores everything that can be written to."""
        for now, then in self._arrays:
            if now.flags.writeable:
                now[...] = then
        for listed, items in self._lists:
            listed[:] = items
        for mapped, entries in self._dicts:
            mapped.clear()
            mapped.update(entries)


def _inside(held: Any) -> Iterator[Any]:
    if isinstance(held, dict):
        yield from held.values()
    elif isinstance(held, list | tuple):
        yield from held
    elif isinstance(getattr(held, "__dict__", None), dict):
        yield vars(held)


def _are_same(now: list[Any], then: list[Any]) -> bool:
    return len(now) == len(then) and all(one is other for one, other in zip(now, then, strict=True))

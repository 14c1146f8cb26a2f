"""Failing cases kept between runs, by SPEC and item: the first that the next run judges.

One JSON file a case, under `.backproof/` of the folder that the run starts in. Two runs may share the folder: a file is
written whole or not at all. A folder that is missing or cannot be written is no error, a file that cannot be read is
left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backproof.conformance.case import Case, rounded
from backproof.conformance.layer import Layer, Space
from backproof.conformance.layouts import LAYOUTS

FORMAT = 1


class Store:
    """The kept cases of one SPEC, read when the run begins: what it keeps itself is for the next one."""

    def __init__(self, folder: Path, spec: str) -> None:
        self._folder = folder / ".backproof" / "kept" / hashlib.sha256(spec.encode()).hexdigest()[:16]
        self._begun: dict[str, str] = {}
        for file in self._files("*"):
            with suppress(OSError, ValueError):
                self._begun[file.name] = file.read_text(encoding="utf-8")

    def _files(self, item: str) -> list[Path]:
        with suppress(OSError):
            return sorted(self._folder.glob(f"{item.replace('::', '.')}.*.json"))
        return []

    def read(self, item: str, layer: Layer, spaces: Sequence[Space]) -> Iterator[Case]:
        """The cases kept for an item that still have meaning in one of the spaces."""
        for name, text in self._begun.items():
            if not name.startswith(f"{item.replace('::', '.')}."):
                continue
            with suppress(ValueError, KeyError, TypeError):
                content = json.loads(text)
                case = _case(content, layer, spaces) if content["format"] == FORMAT else None
                if case is not None:
                    yield case

    def replace(self, item: str, cases: Sequence[Case]) -> None:
        """Keeps these cases for an item and forgets what was kept before."""
        old = self._files(item)
        for k, case in enumerate(cases):
            file = self._folder / f"{item.replace('::', '.')}.{k}.json"
            with suppress(OSError):
                write_whole(file, json.dumps(_content(case)))
                old = [other for other in old if other != file]
        for file in old:
            with suppress(OSError):
                file.unlink()


def write_whole(file: Path, text: str) -> None:
    """Writes a text file so that nobody ever reads half of it; its folder is made. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files for their owner alone; this one is as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _content(case: Case) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "rank": case.configuration.rank,
        "parameters": dict(case.configuration.parameters),
        "layouts": dict(case.layouts),
        "arrays": {name: None if a is None else a.ravel().tolist() for name, a in case.wide.items()},
    }


def _case(content: dict[str, Any], layer: Layer, spaces: Sequence[Space]) -> Case | None:
    space = next((space for space in spaces if space.rank == content["rank"]), None)
    if space is None:
        return None
    configuration = layer.build(content["parameters"], space)
    if configuration is None:
        return None
    arrays = {
        name: None if shape is None else np.array(content["arrays"][name], np.float64).reshape(shape)
        for name, shape in configuration.shapes.items()
    }
    wanted = dict(content.get("layouts", {}))
    there = [name for name, array in arrays.items() if array is not None]
    layouts = {name: layout for name, layout in wanted.items() if layout in LAYOUTS and name in there}
    if len(layouts) < len(wanted):
        return None
    case = Case(configuration, space.dtype, rounded(arrays, layer.dtypes(space)), "kept", layouts=layouts)
    return case if layer.has_meaning(case) else None

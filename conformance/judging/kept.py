"""Failing cases kept between runs, by SPEC and item: the first that the next run judges, until they pass.

One JSON file a case, under `.backproof/` of the folder that the run starts in. Two runs may share the folder: a file is
written whole or not at all. A folder that is missing or cannot be written is no error, a file that cannot be read is
left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backproof.conformance.judging.item_cases import ItemCases
from backproof.conformance.spec.case import Case, rounded
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.memory_layouts import LAYOUTS

FORMAT = 1


class Settled(NamedTuple):
    """What became of the cases that were kept for an item: all pass now, or one of them still fails."""

    is_fixed: bool
    sentence: str


class Store:
    """The kept cases of one SPEC, read when the run begins: what it keeps itself is for the next one."""

    def __init__(self, folder: Path, spec: str) -> None:
        self._folder = folder / ".backproof" / "kept" / hashlib.sha256(spec.encode()).hexdigest()[:16]
        self._begun: dict[str, str] = {}
        #: Of each item the cases that were read for it, as they stand in their files.
        self._read: dict[str, list[str]] = {}
        for file in self._files("*"):
            with suppress(OSError, ValueError):
                self._begun[file.name] = file.read_text(encoding="utf-8")

    def _files(self, item: str) -> list[Path]:
        with suppress(OSError):
            return sorted(self._folder.glob(f"{item.replace('::', '.')}.*.json"))
        return []

    def read(self, item: str, layer: Layer, spaces: Sequence[Space]) -> Iterator[Case]:
        """The cases kept for an item that still have meaning in one of the spaces."""
        read = self._read.setdefault(item, [])
        for content in self._contents(item):
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                case = _case(content, layer, spaces)
                if case is not None:
                    if _text(case) not in read:
                        read.append(_text(case))
                    yield case

    def settle(
        self, item: str, item_cases: ItemCases, failing: Sequence[Case], *, listed: bool = False
    ) -> Settled | None:
        """Brings the folder up to what this run has found of an item; None where there was nothing to be settled.

        `failing` are its counterexamples' cases, which are kept. A kept case that was not judged now, as one that is
        refused, stays. The cases of a `listed` item are asked by every run, and not read.
        """
        kept = self._of_list(item) if listed else self._read.get(item, [])

        def texts(cases: Iterable[Case]) -> set[str]:
            return {_text(case) for case in cases if listed or case.origin == "kept"} if kept else set()

        passed, wrong = texts(item_cases.passed), texts(case for case, _, _ in item_cases.failed)
        left = [text for text in kept if text not in passed | wrong]
        if listed and left:
            # What is refused is still in the list; what was not asked at all is not.
            refused = texts(item_cases.refused)
            left = [text for text in left if text in refused]
        self._replace(item, [*map(_text, failing), *left])
        if any(text in wrong for text in kept):
            return Settled(False, "It failed in an earlier run too: the case kept from it still fails.")
        if failing or not kept or not passed.issuperset(kept):
            return None
        several = f"the {len(kept)} cases kept from earlier runs pass"
        what = "the case kept from an earlier run passes" if len(kept) == 1 else several
        return Settled(True, f"FIXED: {item}: {what} now.")

    def replace(self, item: str, cases: Sequence[Case]) -> None:
        """Keeps these cases for an item and forgets what was kept before."""
        self._replace(item, [_text(case) for case in cases])

    def _of_list(self, item: str) -> list[str]:
        return list(dict.fromkeys(json.dumps(content, sort_keys=True) for content in self._contents(item)))

    def _contents(self, item: str) -> Iterator[dict[str, Any]]:
        """What stood in the files of an item; files that are broken, or of another version, are left out."""
        for name, text in self._begun.items():
            if name.startswith(f"{item.replace('::', '.')}."):
                with suppress(ValueError):
                    content = json.loads(text)
                    if isinstance(content, dict) and content.get("format") == FORMAT:
                        yield content

    def _replace(self, item: str, texts: Sequence[str]) -> None:
        old = self._files(item)
        for k, text in enumerate(dict.fromkeys(texts)):
            file = self._folder / f"{item.replace('::', '.')}.{k}.json"
            with suppress(OSError):
                write_whole(file, text)
                old = [other for other in old if other != file]
        for file in old:
            with suppress(OSError):
                file.unlink()


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, so that nobody ever reads half of it; its folder is made. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        # mkstemp makes files for their owner alone; this one is as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _text(case: Case) -> str:
    """A case as it stands in its file: equal cases give equal texts."""
    return json.dumps(_content(case), sort_keys=True)


def _content(case: Case) -> dict[str, Any]:
    content: dict[str, Any] = {
        "format": FORMAT,
        "rank": case.configuration.rank,
        "parameters": dict(case.configuration.parameters),
        "layouts": dict(case.layouts),
        "arrays": {name: None if a is None else a.ravel().tolist() for name, a in case.wide.items()},
    }
    if case.invalidity is not None:
        # The parameters are those of a good case: these are what is wrong with it.
        options = {name: str(value) for name, value in case.options.items()}
        content |= {"flaw": case.invalidity.words, "shapes": dict(case.configuration.shapes), "options": options}
    return content


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

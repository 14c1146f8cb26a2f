"""Where the scripts lie: under the folder of the run, or beside its report."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.judging.kept import write_whole
from backproof.conformance.reporting.scripts.exercise import FILE, FOLDER, Script
from backproof.conformance.reporting.scripts.scripts import script


class Reproductions:
    """The scripts of one SPEC. A folder that cannot be written is no error: there are no scripts then.

    `directory` is where the run started, in which SPEC is looked up. `report` is the run's first report: the scripts
    then lie beside it, in a folder of its name.
    """

    def __init__(self, directory: Path, spec: str, report: Path | None = None) -> None:
        self._directory, self._spec = directory.absolute(), spec
        if report is not None:
            self.folder = report.absolute().with_name(f"{report.stem}.reproduce")
        else:
            self.folder = self._directory / ".backproof" / "reproduce" / _name(spec)

    def write(self, item: str, check: str, found: Sequence[Counterexample], candidate: Candidate) -> list[Path | None]:
        """Writes a script for each counterexample of an item, in the place of those of earlier runs.

        None stands for one that could not be written.
        """
        stems = [item.replace("::", ".") + (f".{k}" if k > 1 else "") for k, _ in enumerate(found, 1)]
        fresh = _maker(candidate.adapter.target, self._spec)
        written = [
            self._write(self.folder / f"{stem}.py", script(self._spec, item, check, each, candidate, fresh))
            for stem, each in zip(stems, found, strict=True)
        ]
        self._remove(item, {file.stem for file in written if file is not None})
        return written

    def remove(self, item: str) -> None:
        """Forgets the scripts of an item that passes."""
        self._remove(item, set())

    def _write(self, file: Path, text: Script | None) -> Path | None:
        if text is None:
            return None
        lines = text.text.replace(FOLDER, self._found_from(file)).replace(FILE, file.name)
        try:
            if text.arrays:
                write_whole(file.with_suffix(".npz"), text.stored())
            else:
                with suppress(FileNotFoundError):
                    file.with_suffix(".npz").unlink()
            write_whole(file, lines)
        except OSError:
            return None
        return file

    def _found_from(self, file: Path) -> str:
        """The expression for the folder in which SPEC is looked up: from the script's place, where it lies below."""
        with suppress(ValueError):
            depth = len(file.parent.resolve().relative_to(self._directory.resolve()).parts)
            return f"Path(__file__).resolve().parents[{depth}]"
        return f"Path({str(self._directory)!r})"

    def _remove(self, item: str, but: set[str]) -> None:
        pattern = re.compile(re.escape(item.replace("::", ".")) + r"(\.\d+)?\.(py|npz)")
        with suppress(OSError):
            for file in list(self.folder.iterdir()):
                if pattern.fullmatch(file.name) and file.stem not in but:
                    with suppress(OSError):
                        file.unlink()


def _name(spec: str) -> str:
    """A folder's name: the SPEC, readable, with what makes it another one for every SPEC."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(spec)).strip("._") or "adapter"
    return f"{plain[:60]}-{hashlib.sha256(spec.encode()).hexdigest()[:8]}"


def _maker(target: Any, spec: str) -> Any:
    """What makes another instance of the adapter, None where SPEC names no class."""
    kind, name = type(target), spec.rpartition(":")[2].rpartition(".")[2]
    return kind if kind.__name__ == name and kind.__module__ != "builtins" else None

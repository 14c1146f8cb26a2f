"""Known failures: an item id or a glob a line, the reason after `#`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


class XfailsError(Exception):
    """The file cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class KnownFailure:
    """One line of the file."""

    pattern: str
    reason: str
    line: int

    def matches(self, item: str) -> bool:
        """Whether the line speaks of this item."""
        return fnmatchcase(item, self.pattern)


def read(file: Path) -> tuple[KnownFailure, ...]:
    """The lines of the file. Raises XfailsError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise XfailsError(f"--impl-xfails={file} cannot be read: {reason}.") from error
    known = []
    for number, line in enumerate(text.splitlines(), 1):
        pattern, _, reason = line.partition("#")
        if pattern.strip():
            known.append(KnownFailure(pattern.strip(), reason.strip(), number))
    return tuple(known)


def unmet(
    known: Sequence[KnownFailure], failed: Mapping[str, bool], *, complete: bool
) -> list[tuple[KnownFailure, str]]:
    """The lines that did not come true, each with a sentence.

    `failed` says of every item that ran whether it failed. A line that matches only items that did not fail is unmet;
    one that matches nothing is, if the run was complete.
    """
    found = []
    for line in known:
        matched = [item for item in failed if line.matches(item)]
        if matched and not any(failed[item] for item in matched):
            items = matched[0] if len(matched) == 1 else f"all {len(matched)} items that it matches"
            found.append(
                (
                    line,
                    f"line {line.line}, {line.pattern}: expected to fail, but did not: {items}. Remove the line.",
                )
            )
        elif not matched and complete:
            found.append(
                (
                    line,
                    f"line {line.line}, {line.pattern}: matches no item. Correct the id or remove the line.",
                )
            )
    return found

"""The tables of docs/gallery.md that benchmarks/gallery.py writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backproof.plugins.gallery import EQUIVALENTS, OUT_OF_SCOPE, Fault

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gallery.md"


def write_table(name: str, table: str, command: str = "") -> None:
    """Puts a table into its place on the page. Raises ValueError if it has none."""
    page, command = PAGE.read_text(), command or name
    begin = f"<!-- {name}: made by python benchmarks/gallery.py {command} --write -->"
    end = f"<!-- the end of {name} -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    if not rest or not after:
        raise ValueError(f"{PAGE.name} has no place for {name}: the lines {begin!r} and {end!r}.")
    PAGE.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def matrix_table(faults: Sequence[Fault], by_profile: Mapping[str, Mapping[str, Any]]) -> str:
    """The faults as Markdown: of every item and profile how many cases it took, as gallery.py's rows say."""
    profiles = list(by_profile)
    lines = []
    for layer in dict.fromkeys(fault.layer for fault in faults):
        mine = [fault for fault in faults if fault.layer == layer]
        lines += [
            f"### {layer}",
            "",
            f"Cases until each item fails on {', '.join(profiles)}; seconds alike; elements of the first failing case.",
            "",
            "| fault | shows only where | items | seconds | elements | modelled on |",
            "|---|---|---|---:|---:|---|",
        ]
        for fault in mine:
            rows = [by_profile[profile][fault.name] for profile in profiles]
            items = "; ".join(
                f"{check} {', '.join(str(row.found.get(check, '-')) for row in rows)}" for check in fault.caught_by
            )
            seconds = ", ".join(f"{row.seconds:.2f}" for row in rows)
            elements = ", ".join(str(row.elements) for row in rows)
            words = fault.trigger.words.replace("|", "\\|")
            lines.append(f"| `{fault.name}` | {words} | {items} | {seconds} | {elements} | {fault.source} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def lists() -> dict[str, str]:
    """The right implementations and what is not there, as Markdown."""
    right = ["| implementation | layers | why it is right | modelled on |", "|---|---|---|---|"]
    right += [f"| `{e.name}` | {', '.join(e.layers)} | {e.why} | {e.source} |" for e in EQUIVALENTS]
    out_of_scope = ["| entry | why |", "|---|---|", *[f"| {entry} | {why} |" for entry, why in OUT_OF_SCOPE.items()]]
    return {"right": "\n".join(right), "out of scope": "\n".join(out_of_scope)}

"""The picture of the rooms in docs/design.md, made from the imports.

python benchmarks/rooms.py            prints it
python benchmarks/rooms.py --write    puts it into the page
"""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "design.md"
#: From what is seen first to what everything stands on.
ROOMS = ("reporting", "explaining", "judging", "cases", "adapter", "spec")
WIDTH = 96
BLOCK = re.compile(r"(?<=<!-- rooms: python benchmarks/rooms.py --write -->\n).*?(?=<!-- rooms end -->)", re.DOTALL)


def imported(file: Path) -> Iterator[str]:
    """The modules of Backproof that a file imports, without "backproof."."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backproof."):
            yield f"{node.module}.{node.names[0].name}".removeprefix("backproof.")


def rooms_of(folder: Path) -> set[str]:
    """The rooms of conformance/ that the files of a folder import."""
    names = {name for file in folder.rglob("*.py") for name in imported(file)}
    return {name.split(".")[1] for name in names if name.startswith("conformance.")} & set(ROOMS)


def contents(folder: Path) -> list[str]:
    """The modules and folders of a room."""
    files = [file.stem for file in folder.glob("*.py") if file.stem != "__init__"]
    return sorted([*files, *(f"{file.parent.name}/" for file in folder.glob("*/__init__.py"))])


def lines() -> Iterator[str]:
    """The picture: a room a paragraph, the rooms that it imports, and what stands in it."""
    yield "plugins/       pytest, ready-made adapters, the gallery of faults"
    yield f"  imports      reference, {', '.join(room for room in ROOMS if room in rooms_of(ROOT / 'plugins'))}"
    yield "reference/     what each layer is: one module a layer, its mistakes, its textbook"
    yield f"  imports      {', '.join(room for room in ROOMS if room in rooms_of(ROOT / 'reference'))}"
    yield "conformance/"
    for room in ROOMS:
        folder = ROOT / "conformance" / room
        below = [other for other in ROOMS if other in rooms_of(folder) and other != room]
        yield f"  {room:<13}{'imports ' + ', '.join(below) if below else 'imports nothing but NumPy'}"
        inside = textwrap.wrap("  ".join(contents(folder)), WIDTH - 15, break_on_hyphens=False)
        yield from (f"{'':<15}{line}" for line in inside)


def picture() -> str:
    """The picture as the page holds it."""
    return "```\n" + "\n".join(lines()) + "\n```\n"


def main() -> None:
    """Prints the picture, or writes it into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(BLOCK.sub(lambda _: picture(), PAGE.read_text()))
    else:
        print(picture(), end="")


if __name__ == "__main__":
    main()

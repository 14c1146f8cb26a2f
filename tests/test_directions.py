"""The shape of the code: imports point one way, and every file is short and named for what it holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: What each folder may import of Backproof.
MAY = {
    "conformance": ("conformance",),
    "reference": ("reference", "conformance"),
    "plugins": ("plugins", "reference", "conformance"),
}
FILES = sorted(file for folder in (*MAY, "backproof") for file in (ROOT / folder).rglob("*.py"))
MOST_LINES = 450
#: A page holds all of a layer.
MOST_LINES_OF_A_PAGE = 600
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"}


def imports(source: str) -> Iterator[str]:
    """The full names of all that a module imports, at its top and inside of functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                yield "".join(
                    part.value
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )


def wrong_imports(source: str, folder: str) -> list[str]:
    """The imports that a file of this folder must not have."""
    wrong = []
    for name in imports(source):
        first, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        against = first == "backproof" and part in MAY and part not in MAY[folder]
        second_copy = first in MAY or name.startswith(".")
        knows_pytest = folder != "plugins" and first in ("pytest", "_pytest", "pluggy", "xdist")
        if against or second_copy or knows_pytest:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("file", [file for file in FILES if file.parent.name != "backproof"], ids=str)
def test_imports_point_one_way(file: Path) -> None:
    folder = file.relative_to(ROOT).parts[0]
    assert wrong_imports(file.read_text(), folder) == []


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("conformance", "from backproof.reference import LAYERS"),
        ("conformance", "def late():\n    import backproof.plugins.collection"),
        ("conformance", "from backproof import reference"),
        ("reference", "from backproof.plugins import numpy_adapter"),
        ("reference", "import_module('backproof.plugins.numpy_adapter')"),
        ("reference", "import pytest"),
        ("conformance", "from _pytest.config import Config"),
        ("plugins", "import reference"),
        ("plugins", "from conformance.case import Case"),
        ("reference", "from . import linear"),
    ],
)
def test_a_wrong_direction_is_noticed(folder: str, source: str) -> None:
    assert len(wrong_imports(source, folder)) == 1


def test_right_directions_are_let_be() -> None:
    source = "import numpy\nfrom backproof import __version__\nfrom backproof.conformance.spec.case import Case\n"
    assert [wrong_imports(source, folder) for folder in MAY] == [[], [], []]


def folders_as_modules(source: str) -> str:
    """Which of the folders are modules of their own after this, with the checkout on sys.path."""
    script = f"import sys\n{source}\nprint([name for name in {tuple(MAY)} if name in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return process.stdout.strip()


def test_no_folder_is_imported_twice() -> None:
    everything = [
        ".".join(("backproof", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for file in FILES
        if file.parent.name != "backproof" and file.name != "torch_adapter.py"
    ]
    assert "backproof.conformance.judging.session" in everything
    assert folders_as_modules("\n".join(f"import {name}" for name in everything)) == "[]"


def test_a_second_copy_is_noticed() -> None:
    assert folders_as_modules("import backproof, reference") == "['reference']"


def test_no_test_has_made_a_second_copy() -> None:
    assert [name for name in MAY if name in sys.modules] == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_are_short_and_named_for_what_they_hold(file: Path) -> None:
    is_page = file.parent == ROOT / "reference"
    assert len(file.read_text().splitlines()) <= (MOST_LINES_OF_A_PAGE if is_page else MOST_LINES)
    assert file.stem not in EMPTY_NAMES
    assert file.parent.name not in EMPTY_NAMES

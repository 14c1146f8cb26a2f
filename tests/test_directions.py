"""The shape of the code: imports point one way and in no circle, files are short and named for what they hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: What each folder may import of Backproof.
MAY = {
    "conformance": ("conformance",),
    "reference": ("reference", "conformance"),
    "plugins": ("plugins", "reference", "conformance"),
}
#: The rooms of conformance/: each may import itself and those before it.
ROOMS = ("spec", "adapter", "cases", "judging", "explaining", "reporting")
#: Folders and modules that may stand directly in conformance/.
MOST_ROOMS = 9
FILES = sorted(file for folder in (*MAY, "backproof") for file in (ROOT / folder).rglob("*.py"))
MOST_LINES = 500
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


def module_of(file: Path) -> str:
    """The name by which a file of the tree is imported."""
    return ".".join(("backproof", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """What each of these modules imports of the others, wherever in it the import stands."""
    return {
        name: {
            next(other for other in (full, full.rpartition(".")[0]) if other in sources)
            for full in imports(source)
            if full in sources or full.rpartition(".")[0] in sources
        }
        - {name}
        for name, source in sources.items()
    }


def room_of(module: str) -> str:
    """The room that a module of conformance/ stands in."""
    return module.removeprefix("backproof.conformance.").partition(".")[0]


def against_the_rooms(sources: Mapping[str, str]) -> list[str]:
    """The imports that point from a room to one behind it."""
    return [
        f"{name} imports {other}"
        for name, others in graph(sources).items()
        for other in sorted(others)
        if ROOMS.index(room_of(name)) < ROOMS.index(room_of(other))
    ]


def circles(sources: Mapping[str, str]) -> list[str]:
    """The modules that import each other in a circle, found by taking away whatever imports nothing that is left."""
    left = graph(sources)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


CONFORMANCE = {
    module_of(file): file.read_text()
    for file in FILES
    if file.is_relative_to(ROOT / "conformance") and file.parent != ROOT / "conformance"
}


def test_rooms_import_only_rooms_before_them() -> None:
    assert {room_of(name) for name in CONFORMANCE} == set(ROOMS)
    assert against_the_rooms(CONFORMANCE) == []


def test_conformance_has_few_rooms() -> None:
    inside = [path for path in (ROOT / "conformance").iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert len(inside) <= MOST_ROOMS


@pytest.mark.parametrize(
    "line",
    [
        "from backproof.conformance.explaining.explain import Explainer",
        "from backproof.conformance.reporting import record",
        "def late():\n    import backproof.conformance.judging.session",
        "if TYPE_CHECKING:\n    from backproof.conformance.explaining.rules import Rule",
    ],
)
def test_an_import_against_the_rooms_is_noticed(line: str) -> None:
    name = "backproof.conformance.cases.draw"
    assert len(against_the_rooms({**CONFORMANCE, name: f"{CONFORMANCE[name]}\n{line}\n"})) == 1


def test_nothing_is_imported_in_a_circle() -> None:
    assert circles(CONFORMANCE) == []


def test_a_circle_is_noticed() -> None:
    late = "def late():\n    from backproof.conformance.spec.layer import Layer\n"
    name = "backproof.conformance.spec.case"
    assert name in circles({**CONFORMANCE, name: CONFORMANCE[name] + late})


@pytest.mark.parametrize("file", [file for file in FILES if "gallery" not in file.parts], ids=str)
def test_nothing_is_imported_for_types_alone(file: Path) -> None:
    """What a module's types need is not hidden from its imports; `backproof.reference` names its lazy layers so."""
    assert "TYPE_CHECKING" not in file.read_text() or file == ROOT / "reference" / "__init__.py"


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


EVERY_FILE = sorted(
    {*FILES, *(file for folder in ("tests", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py"))}
)


@pytest.mark.parametrize("file", EVERY_FILE, ids=str)
def test_files_are_short_and_named_for_what_they_hold(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES
    assert file.stem not in EMPTY_NAMES
    assert file.parent.name not in EMPTY_NAMES


def test_the_picture_of_the_rooms_is_made_from_the_code() -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "rooms.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert process.stdout in (ROOT / "docs" / "design.md").read_text()

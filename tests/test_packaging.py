"""What is shipped: the wheel holds every module and data file of the tree, and works where no checkout is.

An editable install finds the same, in the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the build module is not installed")
pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 or later is not installed")

ROOT = Path(__file__).parent.parent
#: Where each folder of the tree lies in the wheel.
PLACES = {
    "backproof": "backproof",
    "conformance": "backproof/conformance",
    "reference": "backproof/reference",
    "plugins": "backproof/plugins",
}
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "benchmarks", "docs")


@dataclass(frozen=True)
class Built:
    """Names in the wheel and in the sdist, the latter without their first folder, and the wheel unpacked."""

    wheel: list[str]
    sdist: list[str]
    unpacked: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of a copy of the tree, and the wheel of that sdist."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "tree", ignore=LEFT_OUT, symlinks=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "tree")]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert process.returncode == 0, process.stdout + process.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
        names = archive.namelist()
    with tarfile.open(sdist) as archive:
        inside = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    return Built(names, inside, folder / "unpacked")


def unlisted(root: Path) -> set[str]:
    """The packages that stand in the tree or in the list of its pyproject.toml, but not in both."""
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent for part in PLACES for file in (root / part).rglob("*.py")}
    names = {".".join(("backproof", *folder.relative_to(root).parts)) for folder in folders}
    return (names - {"backproof.backproof"} | {"backproof"}) ^ set(listed)


def test_every_package_is_listed() -> None:
    assert unlisted(ROOT) == set()


def test_a_package_that_is_not_listed_is_noticed(tmp_path: Path) -> None:
    tree = shutil.copytree(ROOT, tmp_path / "tree", ignore=LEFT_OUT)
    (tree / "reference" / "new").mkdir()
    (tree / "reference" / "new" / "module.py").touch()
    shutil.rmtree(tree / "conformance" / "spec")
    assert unlisted(tree) == {"backproof.reference.new", "backproof.conformance.spec"}


def runs(source: str, folder: Path, *options: str) -> bool:
    """Whether this runs in a process of its own in the folder, or fails because a module is not found."""
    process = subprocess.run(
        [sys.executable, *options, "-c", source], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 0 or "ModuleNotFoundError" in process.stderr, process.stderr
    return process.returncode == 0


def test_what_lies_beside_the_packages_is_not_part_of_backproof() -> None:
    beside = sorted(file.parent.name for file in ROOT.glob("*/__init__.py") if file.parent.name not in PLACES)
    assert beside == ["tests"]
    assert not runs("import backproof.tests", ROOT)


def test_a_folder_that_has_become_part_of_backproof_is_noticed() -> None:
    assert runs("import backproof; backproof.__path__.append('.'); import backproof.tests", ROOT)


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_an_editable_install_finds_the_packages_of_the_checkout(mode: str, tmp_path: Path) -> None:
    """And in the mode that is the default those that are new, before they are listed."""
    tree = shutil.copytree(ROOT, tmp_path / "tree", ignore=LEFT_OUT)
    build = f"from setuptools import build_meta; build_meta.build_editable('..', {{'editable_mode': {mode!r}}})"
    assert runs(build, tree)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for new in (tree / "conformance" / "new", tree / "reference" / "traits" / "new", tree / "tests"):
        new.mkdir()
        (new / "__init__.py").touch()

    def found(name: str) -> bool:
        """Without the packages of this environment, in which a Backproof is installed."""
        site = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); import backproof; "
        return runs(f"{site}assert {str(tree)!r} in backproof.__file__; import {name}", tmp_path, "-S")

    assert found("backproof.conformance.reporting.pages, backproof.plugins")
    assert found("backproof.conformance.new") == (mode == "lenient")
    assert found("backproof.reference.traits.new") == (mode == "lenient")
    assert not found("backproof.tests")


def shipped() -> dict[str, str]:
    """Every module and data file of the tree, with its name in the wheel."""
    return {
        file.relative_to(ROOT).as_posix(): f"{place}/{file.relative_to(ROOT / part).as_posix()}"
        for part, place in PLACES.items()
        for file in (ROOT / part).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_the_tree_and_nothing_else(built: Built) -> None:
    files = [name for name in built.wheel if ".dist-info/" not in name]
    assert sorted(files) == sorted(shipped().values())
    assert "backproof/py.typed" in files
    assert "backproof/conformance/reporting/pages/page.html.jinja" in files
    assert "backproof/reference/textbook/conv.py" in files
    assert "backproof/plugins/gallery/conv/windows.py" in files


def test_the_wheel_names_its_plugin_and_its_license(built: Built) -> None:
    (info,) = built.unpacked.glob("*.dist-info")
    assert "[pytest11]\nbackproof = backproof.plugins.pytest_plugin" in (info / "entry_points.txt").read_text()
    assert (info / "licenses" / "LICENSE").is_file()


def test_the_sdist_holds_what_the_wheel_is_built_from(built: Built) -> None:
    needed = {*shipped(), "pyproject.toml", "README.md", "LICENSE"}
    assert needed - set(built.sdist) == set()


def test_the_wheel_judges_an_adapter_where_no_checkout_is(built: Built, tmp_path: Path) -> None:
    """In a folder that has packages of the same names."""
    for name in ("conformance", "reference", "plugins"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not mine')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "adapter.py").write_text(
        "import backproof\n"
        "print('loaded from', backproof.__file__)\n"
        "def linear_forward(x, w): return x @ w, (x, w)\n"
        "def linear_backward(dout, cache): return dout @ cache[1].T, cache[0].T @ dout\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(built.unpacked)
    command = [sys.executable, "-m", "pytest", "--impl=adapter.py", "--impl-profile=quick", "--impl-examples=1", "-q"]
    process = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"loaded from {built.unpacked / 'backproof' / '__init__.py'}" in process.stdout

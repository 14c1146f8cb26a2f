"""What is imported, and what is not: each promise in its own process, with a base that breaks it and is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAVY = ("numpy", "jax", "hypothesis", "msgspec", "rich", "jinja2")


def imported_by(source: str) -> set[str]:
    """The top-level modules outside the standard library that running this source imports; NumPy's Cython is NumPy."""
    script = f"""
        import json, sys
        before = set(sys.modules)
        {textwrap.indent(source, " " * 8).strip()}
        names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
        names = {{name for name in names if not name.startswith(("_sysconfigdata", "_cython_", "cython_runtime"))}}
        print(json.dumps(sorted(names - sys.stdlib_module_names)))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(process.stdout))


@pytest.mark.parametrize(
    "source",
    [
        "import backproof",
        "import backproof; backproof.__version__, dir(backproof)",
        "import backproof.reference, backproof.plugins, backproof.conformance",
    ],
)
def test_backproof_imports_the_standard_library_alone(source: str) -> None:
    assert imported_by(source) == {"backproof"}


def test_more_than_the_standard_library_is_noticed() -> None:
    assert "numpy" in imported_by("import backproof; backproof.LAYERS")


@pytest.mark.parametrize(
    "source",
    [
        "from backproof import textbook; textbook.conv_forward, textbook.graph, textbook.numerical_gradient",
        "import backproof.reference.textbook",
        "import backproof.reference.axis",
        "from backproof.plugins import numpy_adapter",
        "from backproof.plugins.gallery import FAULTS, EQUIVALENTS; [fault.adapter() for fault in FAULTS]",
        "import backproof.reference; backproof.reference.CONTRACTS; from backproof.reference import textbook",
    ],
)
def test_the_textbook_and_its_adapter_import_numpy_alone(source: str) -> None:
    assert imported_by(source) == {"backproof", "numpy"}


def test_more_than_numpy_is_noticed() -> None:
    assert "hypothesis" in imported_by("from backproof import textbook; import backproof.conformance.cases.draw")


def test_the_pages_do_not_import_jax() -> None:
    assert "jax" not in imported_by("from backproof import LAYERS; [layer.name for layer in LAYERS]")


def test_jax_is_noticed() -> None:
    assert "jax" in imported_by("from backproof.conformance.judging import oracle; oracle._jax()")


def heavy_in_pytest(folder: Path, *arguments: str, conftest: str = "") -> str:
    """What of NumPy, JAX, Hypothesis and the suite a pytest run has imported when its only test runs."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(conftest)
    (folder / "adapter.py").write_text("def linear_forward(x, w): ...\ndef linear_backward(dout, cache): ...\n")
    (folder / "test_own.py").write_text(
        "import sys\n\n"
        "def test_own(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('backproof')\n"
        f"    print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\n"
        "    print('SUITE', [name for name in sys.modules if name.startswith('backproof.conformance')])\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-s", "test_own.py", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "1 passed" in process.stdout, process.stdout
    return process.stdout


def test_pytest_without_an_adapter_imports_nothing_heavy(tmp_path: Path) -> None:
    text = heavy_in_pytest(tmp_path)
    assert "HEAVY []" in text
    assert "SUITE []" in text


def test_heavy_imports_in_pytest_are_noticed(tmp_path: Path) -> None:
    assert "HEAVY ['numpy', 'hypothesis']" in heavy_in_pytest(tmp_path, conftest="import numpy, hypothesis\n")
    with_adapter = heavy_in_pytest(tmp_path, "--impl=adapter.py", "-m", "not backproof")
    assert "HEAVY ['numpy'" in with_adapter
    assert "SUITE ['backproof.conformance" in with_adapter
    # What shows failures, and writes pages, waits for one.
    assert "'msgspec'" in with_adapter
    assert "'rich'" not in with_adapter
    assert "'jinja2'" not in with_adapter
    for module in ("part", "diagnosis", "region", "probes"):
        assert f"backproof.conformance.explaining.{module}'" not in with_adapter

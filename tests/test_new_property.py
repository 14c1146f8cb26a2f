"""A property that is added by the steps of CONTRIBUTING: it is judged, reported, and reproduced by a right script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.adapter.load import load
from backproof.conformance.cases.profile import PROFILES
from backproof.conformance.judging.properties import PROPERTIES
from backproof.conformance.judging.properties.comparison import Ask, Comparison
from backproof.conformance.judging.properties.property import OneItem
from backproof.conformance.judging.reference import Reference
from backproof.conformance.judging.runner import PartRunner
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Status
from backproof.reference import CONTRACTS
from tests.spaces import LAYER

ROOT = Path(__file__).parent.parent

# What somebody writes who adds it: the property, its entry, and a fault that it catches.


def misaligned(a: Array) -> Array:
    """A copy that begins one element behind an address that is aligned for vectors."""
    memory = np.zeros(a.nbytes + 64 + a.itemsize, np.uint8)
    start = -memory.ctypes.data % 64 + a.itemsize
    view = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


class Alignment(Comparison):
    """Results are the same however the arrays' addresses are aligned."""

    name = "alignment"

    @staticmethod
    def otherwise(ask: Ask, arrays: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
        """Each array in turn at an address that is not."""
        for name, array in arrays.items():
            yield f"with {name} one element behind an aligned address", ask(**{**arrays, name: misaligned(array)})


RIGHT = """
import numpy as np

def linear_forward(x, w, b):
    return x @ w + b, (x, w)

def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)
"""
#: The kernel for vectors begins at the aligned address before the one that it is given.
FAULTY = RIGHT.replace("    return dout @ w.T,", "    return WRONG * dout @ w.T,").replace(
    "    x, w = cache\n", "    x, w = cache\n    WRONG = 1 + (dout.ctypes.data % 16 != 0)\n"
)
CRASHES = RIGHT.replace(
    "    x, w = cache\n", '    x, w = cache\n    if dout.ctypes.data % 16:\n        raise ValueError("not aligned")\n'
)


WITH_ALIGNMENT = {**PROPERTIES, "alignment": Alignment()}
#: Registers the property in a run of its own.
CONFTEST = """
from backproof.conformance.judging import session
from tests.test_new_property import WITH_ALIGNMENT

session.PROPERTIES = WITH_ALIGNMENT
"""


@pytest.mark.parametrize(("text", "kinds"), [(RIGHT, []), (FAULTY, ["value"]), (CRASHES, ["crash"])])
def test_it_is_judged_beside_the_others(text: str, kinds: list[str], tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text(text)
    adapter = load("adapter.py", CONTRACTS, tmp_path)
    (part,) = LAYER["linear"].parts(adapter.implementations["linear"].settings)
    runner = PartRunner(LAYER["linear"], part, "float64", adapter, PROFILES["quick"], 0, properties=WITH_ALIGNMENT)
    assert runner.checks[-1] == "alignment"
    item_cases = runner.item_cases("alignment")
    assert item_cases.judged > 20
    assert sorted({found.kind for _, _, found in item_cases.failed}) == kinds
    assert not runner.item_cases("dx").failed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FAULTY, "with dout one element behind an aligned address, but in the plain call it is"),
        (CRASHES, "The plain call is fine, but asked in another way linear_backward raised ValueError: not aligned."),
    ],
    ids=["value", "crash"],
)
def test_it_is_reported_and_its_script_tells_the_fault_from_right_code(text: str, message: str, tmp_path: Path) -> None:
    for name, content in (("adapter.py", text), ("right.py", RIGHT), ("conftest.py", CONFTEST)):
        (tmp_path / name).write_text(content)
    asked = ["-m", "pytest", "--impl=adapter.py", "--impl-profile=quick", "-p", "no:cacheprovider"]
    code, said = run(tmp_path, *asked, "-k", "alignment")
    assert code == 1, said
    assert "backproof::linear::alignment::float64" in said
    assert message in " ".join(said.split())
    script = next(tmp_path.glob(".backproof/reproduce/*/backproof.linear.alignment.float64.py"))
    assert "def misaligned(a):" in script.read_text()
    assert run(tmp_path, str(script))[0] == 1
    assert run(tmp_path, str(script), "right.py")[0] == 0


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "CI": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_a_property_that_says_nothing_of_its_script_is_none() -> None:
    class Forgetful(OneItem):
        """Something holds."""

        name = "forgetful"

        def find(self, case: Case, candidate: Candidate, reference: Reference) -> Status:
            return Status.RIGHT

    with pytest.raises(TypeError, match="script"):
        Forgetful()  # type: ignore[abstract]

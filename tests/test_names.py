"""conformance/ names no layer: no array, option or setting of one stands in it as a string."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from backproof.reference import CONTRACTS

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "conformance").rglob("*.py"))
#: Words of the contract of every layer.
OF_EVERY_LAYER = {"out", "dout", "cache"}
NAMES = {
    name
    for contract in CONTRACTS
    for name in (
        contract.layer,
        *contract.arrays,
        *contract.gradients,
        *contract.state,
        *(option.name for option in contract.options),
        *(choice for option in contract.options for choice in option.choices),
        *contract.settings,
    )
} - OF_EVERY_LAYER
#: Strings that are something else than a layer's name, by file, with what they are.
ALLOWED = {
    "judging/kept.py": {"parameters": "a key of a kept case's file: the integers that its configuration is made from"}
}


def strings(source: str) -> Iterator[str]:
    """The strings of a module, those in f-strings included, without its docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def layer_names(source: str) -> list[str]:
    """The strings of a module that are the name of something in one of the layers."""
    return sorted({text for text in strings(source) if text in NAMES})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_of_conformance_names_a_layers_array_or_option(file: Path) -> None:
    allowed = ALLOWED.get(file.relative_to(ROOT / "conformance").as_posix(), {})
    assert [name for name in layer_names(file.read_text()) if name not in allowed] == []


def test_what_is_allowed_is_there() -> None:
    for name, allowed in ALLOWED.items():
        assert set(allowed) <= set(layer_names((ROOT / "conformance" / name).read_text()))


def test_a_layers_name_is_noticed() -> None:
    assert {"x", "w", "gamma", "stride", "running_var", "training", "dx", "reflect", "conv"} <= NAMES
    assert layer_names('"""x"""\ndef f(case):\n    """x"""\n    return case.array("x"), case.options["stride"]\n') == [
        "stride",
        "x",
    ]
    assert layer_names("size = f\"{a}{'gamma'}\"") == ["gamma"]

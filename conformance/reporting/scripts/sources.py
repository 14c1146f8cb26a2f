"""A function's own source as it stands in a script, with all that it needs of its module beside NumPy."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

from numpy.lib.stride_tricks import as_strided

#: What a function may name beside NumPy, builtins, its module's functions and constants; with the line that imports it.
IMPORTED = {as_strided: "from numpy.lib.stride_tricks import as_strided"}


def sources_of(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The imports, and the constants and functions that it needs, each a text, the function itself last.

    Raises NameError where it needs what a script does not have.
    """
    assert isinstance(function, FunctionType)
    imports: list[str] = []
    texts: dict[str, str] = {}
    _collect(function, imports, texts)
    return imports, list(texts.values())


def _collect(function: FunctionType, imports: list[str], texts: dict[str, str]) -> None:
    text = bare(inspect.getsource(function))
    tree = ast.parse(text)
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {function.__name__}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    for name in dict.fromkeys(name for name in names if name not in own and name != "np" and name not in texts):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            _collect(value, imports, texts)
        elif isinstance(value, FunctionType) and value in IMPORTED:
            imports.append(IMPORTED[value])
        elif isinstance(value, int | float | str | tuple):
            texts[name] = f"{name} = {value!r}"
        elif not hasattr(builtins, name):
            raise NameError(f"{function.__name__} needs {name}, which a script of NumPy alone does not have.")
    texts[function.__name__] = text


def bare(source: str) -> str:
    """A function's source without decorators, annotations, and comments for checkers of style and types."""
    source = re.sub(r"  # (type: ignore|noqa).*", "", textwrap.dedent(source))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    lines = source.splitlines()
    cuts: list[tuple[int, int, int, str]] = []
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation is not None:
            cuts.append((node.lineno, node.col_offset + len(node.arg), node.annotation.end_col_offset or 0, "="))
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            start = lines[node.returns.lineno - 1].rindex(" -> ", 0, node.returns.col_offset)
            cuts.append((node.returns.lineno, start, node.returns.end_col_offset or 0, ""))
        elif isinstance(node, ast.AnnAssign):
            cuts.append((node.lineno, node.target.end_col_offset or 0, node.annotation.end_col_offset or 0, " = "))
    for line, start, end, equals in sorted(cuts, reverse=True):
        before, after = lines[line - 1][:start], lines[line - 1][end:]
        lines[line - 1] = before + re.sub(r"^ = ", equals, after)
    return "\n".join(lines[function.lineno - 1 :])

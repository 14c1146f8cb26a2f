"""The part of a script that is the same in all of them: how the adapter is found, called, and its results read."""

from __future__ import annotations

#: Makes the arrays that are passed, each by a line of the property's own.
GIVE = '''
# From here on one script is as the other.


def give(name, array):
    """A copy of an array as the adapter takes it; kept, for a cache may point into it."""
    if array is None:
        return None
    {copy}
    from_numpy = getattr(adapter, "from_numpy", None)
    kept.append((name, array, array if from_numpy is None else from_numpy(array)))
    return kept[-1][2]
'''

#: For arrays that lie in memory in some other way than a plain one.
TAKEN = '''

def taken(name, array):
    """The array as it is; where from_numpy does not take it the case is not judged."""
    try:
        getattr(adapter, "from_numpy", np.asarray)(array)
    except Exception as error:
        raise NotImplementedError(f"from_numpy does not take this {name}") from error
    return array
'''

REST = '''
class Wrong(Exception):
    """Something other than an array came back."""


def read(tensor, result):
    """A result as a NumPy array: by to_numpy if the adapter has it, else by DLPack or __array__."""
    if result is not None and getattr(adapter, "to_numpy", None) is not None:
        result = adapter.to_numpy(result)
    if not isinstance(result, np.ndarray | np.generic) and hasattr(result, "__dlpack__"):
        with contextlib.suppress(Exception):
            result = np.from_dlpack(result)
    if not isinstance(result, np.ndarray | np.generic) and hasattr(result, "__array__"):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray) or result.dtype == object:
        what = "None" if result is None else f"of type {type(result).__name__}"
        raise Wrong(f"{tensor} is {what}, must be an array of numbers.")
    return np.asarray(result)


def compare(name, got, expected, tolerance, dtype=None):
    """Shows what must be and what is; 1 if they differ by more than the tolerance, or in shape or dtype, else 0."""
    expected = np.asarray(expected, "float64")
    if got.shape != expected.shape or (dtype is not None and got.dtype != dtype):
        wanted = got.dtype if dtype is None else np.dtype(dtype)
        print(f"{name} has shape {got.shape} and dtype {got.dtype}, must be {expected.shape} and {wanted}.")
        print(f"expected:\\n{shown(expected)}\\ngot:\\n{shown(got)}")
        return 1
    got = got.astype("float64")
    wrong = ~(np.abs(got - expected) <= tolerance) & (got != expected) & ~(np.isnan(got) & np.isnan(expected))
    hidden = any(f"{one:.6g}" == f"{other:.6g}" for one, other in zip(got[wrong], expected[wrong]))
    digits = 17 if hidden else 6
    count = f"{wrong.sum()} of {wrong.size} entries are wrong, marked with !" if wrong.any() else "right"
    print(f"{name}: {count}\\nexpected:\\n{shown(expected, digits)}\\ngot:\\n{shown(got, digits, wrong)}")
    return int(wrong.any())


def shown(array, digits=6, marked=None):
    """An array in rows, the marked entries with a ! behind them."""
    array = np.asarray(array).astype("float64")
    marks = np.zeros(array.shape, bool) if marked is None else marked
    texts = [f"{value:.{digits}g}{'!' * bool(mark)}" for value, mark in zip(array.ravel(), marks.ravel())]
    width = max(map(len, texts), default=0)
    rows = np.array(texts, object).reshape(array.shape)
    return np.array2string(rows, separator=" ", formatter={"all": lambda text: text.rjust(width)}, max_line_width=110)


def tell(**arrays):
    """What is asked."""
    print(__doc__.partition("\\n\\n    python ")[0], end="\\n\\n")
    for name, array in arrays.items():
        print(f"{name} = None" if array is None else f"{name} = {array.dtype} of shape {array.shape}\\n{shown(array)}")
    print()


def load(spec, folder):
    """The adapter: a module or a file that ends in .py, an attribute of it after a colon; of a class an instance."""
    if spec.endswith(".py"):
        place, attribute = spec, ""
    elif ".py:" in spec:
        place, _, attribute = spec.rpartition(".py:")
        place += ".py"
    else:
        place, _, attribute = spec.partition(":")
    sys.path.insert(0, str(folder))
    if place.endswith(".py"):
        path = Path(folder, os.path.expanduser(place)).resolve()
        sys.path.insert(0, str(path.parent))
        name = path.stem
        if name in sys.modules or "." in name:
            name = f"{name.replace('.', '_')}_of_the_adapter"
        found = sys.modules[name] = types.ModuleType(name)
        found.__file__ = str(path)
        exec(compile(path.read_bytes(), str(path), "exec"), vars(found))
        found = sys.modules.get(name, found)
    else:
        found = importlib.import_module(place)
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found() if isinstance(found, type) else found


def main():
    """Exit status: 1 while the fault is there, 0 when it is mended, 2 if the adapter cannot be loaded."""
    global adapter
    spec, folder = (sys.argv[1], Path.cwd()) if len(sys.argv) > 1 else (SPEC, FOLDER)
    try:
        adapter = load(spec, folder)
        for function in FUNCTIONS:
            getattr(adapter, function)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        print(f"The adapter {spec} cannot be loaded: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    tell(ASKED)
    status = verdict()
    print(f"\\n{spec}: {'the fault is there.' if status else 'this case is right.'}")
    return status


def verdict():
    """What the judgement comes to, whatever the adapter raises."""
    try:
        return judge()
    except NotImplementedError as error:
        print(f"The adapter refuses this case (NotImplementedError: {error}), so it is not judged.")
        return 0
    except Wrong as wrong:
        print(wrong)
    except KeyboardInterrupt:
        raise
    except BaseException:
        traceback.print_exc()
    return 1


kept = []
adapter = None

if __name__ == "__main__":
    sys.exit(main())
'''

USE = (
    "judges {spec}, or another adapter in its place, with NumPy alone. Its exit status is 1 while the fault is there, "
    "0 when it is mended, and 2 if the adapter cannot be loaded."
)

#: Reads the arrays that are too large to be written down.
STORED = """
beside = Path(__file__).with_suffix(".npz")
if not beside.is_file():
    print(f"{beside} is not there, which holds this script's large arrays.", file=sys.stderr)
    sys.exit(2)
numbers = np.load(beside, allow_pickle=False)
"""

HEAD = '''#!/usr/bin/env python3
"""{title}

{sentences}

    python {file} [SPEC]

{use}
"""

import contextlib
import importlib
import os
import sys
import traceback
import types
import warnings
from collections.abc import Mapping
from pathlib import Path

try:
{imports}
except ImportError as error:
    print(f"This script needs {{error.name}}: {{error}}.", file=sys.stderr)
    sys.exit(2)

SPEC = {spec_text}
#: The folder in which SPEC is looked up.
FOLDER = {folder}
#: What the adapter must have.
FUNCTIONS = {functions}
'''

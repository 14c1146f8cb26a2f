"""The script of a counterexample: which kind it is, and what must be asked before it in a fresh process."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.reporting.scripts.exercise import FILE, FOLDER, Exercise, Script

OTHER = "_other"
#: Calls that come first, from none to the ones that have left something behind in the process of the suite.
BEFORE: tuple[tuple[str, ...], ...] = ((), (OTHER,), (OTHER, "", OTHER))


def script(
    spec: str, identifier: str, check: str, found: Counterexample, candidate: Candidate, fresh: Any = None
) -> Script | None:
    """The script that shows a counterexample of an item; None where none can be written.

    A fault may show only after other calls. Where `fresh` makes another instance of the adapter it is tried what must
    come first; else a call with other numbers does, which does no harm.
    """
    if fresh is not None:
        try:
            fresh()
        except Exception:
            fresh = None
    if fresh is None:
        return _written(spec, identifier, check, found, candidate, BEFORE[1])
    first = None
    for before in BEFORE:
        trial = _written(spec, identifier, check, found, candidate, before)
        if trial is None or found.property_.takes_invalid_cases or fails(trial, fresh()):
            return trial
        first = first or trial
    return _written(spec, identifier, check, found, candidate, BEFORE[1])


def fails(text: Script, adapter: Any) -> bool:
    """Whether the script's own judgement of this adapter is that the fault is there."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        file = Path(folder, "script.py")
        if text.arrays:
            file.with_suffix(".npz").write_bytes(text.stored())
        space: dict[str, Any] = {"__name__": "reproduction", "__file__": str(file), "print": lambda *_, **__: None}
        lines = text.text.replace(FOLDER, '""').replace(FILE, file.name)
        exec(compile(lines, str(file), "exec"), space)
        space["adapter"] = adapter
        space["traceback"] = _Silent()
        return bool(space["verdict"]())


class _Silent:
    """Stands for the module traceback where nobody wants to read one."""

    def print_exc(self) -> None:
        """Prints nothing."""


def _written(
    spec: str, identifier: str, check: str, found: Counterexample, candidate: Candidate, before: tuple[str, ...]
) -> Script | None:
    property_, refused = found.property_, found.discrepancy.kind == "refused"
    exercise = Exercise(spec, identifier, found, candidate, () if property_.takes_invalid_cases or refused else before)
    if refused:
        _refused(exercise, property_.asks_backward(check, found.discrepancy.tensor, candidate.layer))
    elif not property_.script(exercise, check):
        return None
    return exercise.script()


def _refused(exercise: Exercise, asks_backward: bool) -> None:
    """One of the cases of a layer that raises NotImplementedError in all of them."""
    exercise.numbers(exercise.case)
    exercise.calls(exercise.case.configuration)
    exercise.judge = [
        "    try:",
        f"        results, cache = forward({exercise.passes()})",
        *(["        backward(dout, cache)"] if asks_backward else []),
        "    except NotImplementedError as error:",
        '        print(f"It is refused, as every case was: NotImplementedError: {error}")',
        "        return 1",
        '    print("It is accepted.")',
        "    return 0",
    ]

"""Scripts for what a single result shows, and for calls that must or must not raise an error."""

from __future__ import annotations

import numpy as np

from backproof.conformance.reporting.scripts.exercise import Exercise
from backproof.conformance.reporting.scripts.literals import dtype_of


def result(exercise: Exercise, check: str) -> None:
    """One tensor against what it must be: value, shape and dtype. `check` names it where the failure does not."""
    found, case, reference, candidate = exercise.found, exercise.case, exercise.found.reference, exercise.candidate
    tensor = exercise.tensor or check
    state = candidate.layer.contract.state
    in_eval = tensor in state and not case.options["training"]
    exercise.numbers(case)
    if in_eval:
        bound, expected = 0.0, np.asarray(case.array(tensor))
    else:
        right = reference.expected(case)
        expected, bound = right.tensors[tensor], right.bounds[tensor]  # type: ignore[assignment]
        expected = candidate.in_layout(tensor, expected)
    exercise.comment(f"What {tensor} must be, and how far off rounding alone may have it.")
    exercise.array("expected", expected)
    if bound is not None:
        bound = bound if isinstance(bound, float) else candidate.in_layout(tensor, bound)
        exercise.tolerance("tolerance", bound, found.discrepancy.got, found.discrepancy.expected)
    exercise.calls(case.configuration)
    dtype = dtype_of(np.empty(0, reference.dtype(tensor)))  # type: ignore[call-overload]
    exercise.uses_bfloat16 |= dtype == "bfloat16"
    compare = f'compare("{tensor}", got, expected, tolerance, {dtype})'
    if bound is None:
        compare = "0  # in this case rounding could hide anything but an error"
    lines = [f"    results, cache = forward({exercise.passes()})"]
    if tensor == "out" or tensor in state:
        lines.append(f'    got = read("{tensor}", results["{tensor}"])')
    else:
        lines.append(f'    got = read("{tensor}", backward(dout, cache)["{tensor}"])')
    if found.discrepancy.kind == "state" and tensor in state:
        lines = _kept(exercise, tensor, compare)
    else:
        lines.append(f"    return {compare}")
    exercise.judge = lines


def _kept(exercise: Exercise, tensor: str, compare: str) -> list[str]:
    """A statistic that something changes that must not: in eval any call, in training the backward."""
    return [
        f"    results, cache = forward({exercise.passes()})",
        f'    got = read("{tensor}", results["{tensor}"])',
        f"    if {compare}:",
        "        return 1",
        f'    passed = [array for name, array, _ in kept if name == "{tensor}"][-1]',
        "    before = passed.copy()",
        "    backward(dout, cache)",
        f'    return compare("the {tensor} that was passed, when the backward returns", passed, before, 0)',
    ]


def rejection(exercise: Exercise) -> None:
    """A case without meaning: one of the calls must raise an error."""
    flaw = exercise.case.flaw
    assert flaw is not None
    exercise.numbers(exercise.case)
    exercise.calls(exercise.case.configuration)
    both = f"        backward(dout, forward({exercise.passes()})[1])"
    alone = f"        forward({exercise.passes()})"
    exercise.judge = [
        "    try:",
        both if flaw.in_backward else alone,
        "    except (Wrong, KeyboardInterrupt):",
        "        raise",
        "    except BaseException as error:",
        '        print(f"It is rejected, as it must be: {type(error).__name__}: {error}")',
        "        return 0",
        f"    print({f'It is accepted, and must raise an error: {flaw.words}.'!r})",
        "    return 1",
    ]


def refused(exercise: Exercise, check: str) -> None:
    """One of the cases of a layer that raises NotImplementedError in all of them."""
    exercise.numbers(exercise.case)
    exercise.calls(exercise.case.configuration)
    calls = [f"        results, cache = forward({exercise.passes()})"]
    if check != "out":
        calls.append("        backward(dout, cache)")
    exercise.judge = [
        "    try:",
        *calls,
        "    except NotImplementedError as error:",
        '        print(f"It is refused, as every case was: NotImplementedError: {error}")',
        "        return 1",
        '    print("It is accepted.")',
        "    return 0",
    ]

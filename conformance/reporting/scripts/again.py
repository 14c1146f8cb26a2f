"""Scripts for questions that are asked again: the answer must be that of the plain call."""

from __future__ import annotations

import numpy as np

from backproof.conformance.judging.properties.several_calls import other_of
from backproof.conformance.reporting.scripts.exercise import Exercise, options_of
from backproof.conformance.spec.case import Case

#: What the sentence says of where the second answer differed, and the scenario that it stands for.
_TOLD = (
    ("in a second plain call", "twice"),
    ("in the second backward on one cache", "twice"),
    ("in a later backward on one cache, of another dout", "redirected"),
    ("in a second forward before the first one's backward", "interleaved"),
    ("after another forward", "interleaved"),
    ("after another call's backward", "interleaved"),
    ("after a forward of other shapes and options", "elsewhere"),
)


def repeatability(exercise: Exercise) -> bool:
    """The plain call, and the calls after which its answer is another one; whether the sentence says which."""
    message = exercise.found.discrepancy.message
    scenario = next((name for words, name in _TOLD if words in message), None)
    if scenario is None:
        return False
    case = exercise.case
    exercise.numbers(case)
    if scenario in ("redirected", "interleaved"):
        exercise.others()
    if scenario == "redirected":
        _tolerance(exercise, case.with_dout(other_of(case, exercise.candidate.layer).array("dout")), "tolerance")
    else:
        _tolerance(exercise, case, "tolerance")
    if scenario == "interleaved":
        _tolerance(exercise, other_of(case, exercise.candidate.layer), "tolerance_other")
    if scenario == "elsewhere":
        _plainest(exercise)
    exercise.calls(case.configuration)
    _pulled(exercise)
    exercise.judge = _SCENARIOS[scenario](exercise)
    return True


def _tolerance(exercise: Exercise, case: Case, name: str) -> None:
    """Twice what right code may be off: both answers may be."""
    tensor, reference = exercise.tensor, exercise.found.reference
    bound = reference.expected(case).bounds.get(tensor) if tensor else None
    if tensor and bound is None:
        exercise.lines.append(f'{name} = float("inf")')
    elif bound is not None:
        doubled = 2 * np.asarray(bound)
        exercise.comment("How far apart rounding alone may have two answers.")
        exercise.tolerance(name, exercise.candidate.in_layout(tensor, doubled) if doubled.ndim else doubled, None, None)


def _plainest(exercise: Exercise) -> None:
    reference = exercise.found.reference
    configuration = reference.layer.build(reference.layer.base(reference.space), reference.space)
    assert configuration is not None
    exercise.comment("The plainest case there is.")
    exercise.numbers(next(iter(reference.layer.fills(configuration, reference.space))), "_plainest")


def _pulled(exercise: Exercise) -> None:
    """A forward and a backward that hand on the result that is off, copied as it comes."""
    tensor = exercise.tensor
    early = tensor == "out" or tensor in exercise.candidate.layer.contract.state
    parameters = ", ".join((*exercise.names, "**options"))
    ahead = f'read("{tensor}", results["{tensor}"]).copy()' if early else "None"
    behind = f'read("{tensor}", gradients["{tensor}"]).copy()' if tensor and not early else "call[0]"
    exercise.lines += [
        "",
        "",
        f"def ahead({parameters}):",
        f'    """A forward: {tensor if early else "nothing"} of it, and its cache."""',
        f"    results, cache = forward({parameters})",
        f"    return {ahead}, cache",
        "",
        "",
        "def back(dout, call):",
        f'    """{tensor or "Nothing"}, when the backward of a forward has been called."""',
        f"    {'gradients = ' if tensor and not early else ''}backward(dout, call[1])",
        f"    return {behind}",
        "",
        "",
        "def differ(where, got, plain, tolerance):",
        '    """1 if an answer is not that of the plain call."""',
        '    return compare(where, got, plain.astype("float64"), tolerance)' if tensor else "    return 0",
    ]


def _guarded(lines: list[str]) -> list[str]:
    """The plain call is fine: one that is refused here is wrong."""
    return [
        "    try:",
        *[f"    {line}" for line in lines],
        "    except NotImplementedError as error:",
        '        raise Wrong("The plain call is fine, and here NotImplementedError is raised.") from error',
    ]


def _twice(exercise: Exercise) -> list[str]:
    tensor, room = exercise.tensor, "tolerance" if exercise.tensor else "0"
    return [
        f"    plain = back(dout, ahead({exercise.passes()}))",
        *exercise.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({exercise.passes()})",
                "    first, second = back(dout, call), back(dout, call)",
                f'    found = differ("{tensor} in a second plain call", first, plain, {room})',
                f'    return found or differ("{tensor} in the second backward on one cache", second, plain, {room})',
            ]
        ),
    ]


def _redirected(exercise: Exercise) -> list[str]:
    tensor, room = exercise.tensor, "tolerance" if exercise.tensor else "0"
    return [
        f"    plain = back(dout_other, ahead({exercise.passes()}))",
        *exercise.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({exercise.passes()})",
                "    back(dout, call)",
                "    got = back(dout_other, call)",
                f'    return differ("{tensor} of another dout on the same cache", got, plain, {room})',
            ]
        ),
    ]


def _interleaved(exercise: Exercise) -> list[str]:
    rooms = "tolerance, tolerance_other" if exercise.tensor else "0, 0"
    one, other = f"ahead({exercise.passes()})", f"ahead({exercise.passes('_other')})"
    return [
        f"    plain = back(dout, {one}), back(dout_other, {other})",
        f"    questions = list(zip((dout, dout_other), plain, ({rooms})))",
        *exercise.earlier("comes in between"),
        *_guarded(
            [
                "    for order in ((0, 1), (1, 0)):",
                f"        calls = {one}, {other}",
                "        for k in order:",
                "            cotangent, right, room = questions[k]",
                f'            where = f"{exercise.tensor} of number {{k + 1}}: two forwards, the backwards {{order}}"',
                "            if differ(where, back(cotangent, calls[k]), right, room):",
                "                return 1",
                "    return 0",
            ]
        ),
    ]


def _elsewhere(exercise: Exercise) -> list[str]:
    reference, room = exercise.found.reference, "tolerance" if exercise.tensor else "0"
    configuration = reference.layer.build(reference.layer.base(reference.space), reference.space)
    assert configuration is not None
    own = options_of(exercise.candidate, exercise.case.configuration)
    plainest = options_of(exercise.candidate, configuration)
    options = "".join(f", {name}={value!r}" for name, value in plainest.items() if value != own[name])
    where = f"{exercise.tensor} after a forward of other shapes and options"
    return [
        f"    plain = back(dout, ahead({exercise.passes()}))",
        *exercise.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({exercise.passes()})",
                "    with contextlib.suppress(Exception):",
                f"        ahead({exercise.passes('_plainest')}{options})",
                f'    return differ("{where}", back(dout, call), plain, {room})',
            ]
        ),
    ]


_SCENARIOS = {"twice": _twice, "redirected": _redirected, "interleaved": _interleaved, "elsewhere": _elsewhere}

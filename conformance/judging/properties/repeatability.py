"""The same question gets the same answer, whatever was asked in between."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate, Crashed, Forward, Refused
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import LeftOut, OneItem, ScriptWriter
from backproof.conformance.judging.properties.several_calls import complete_forward, other_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.results import Discrepancy, Problem, Status

Results = Mapping[str, "Array | Problem | None"]

#: The calls whose answer is compared with that of the plain call, as the message has them.
SECOND_CALL = "in a second plain call"
SECOND_BACKWARD = "in the second backward on one cache"
OTHER_DOUT = "in a later backward on one cache, of another dout"
SECOND_FORWARD = "in a second forward before the first one's backward"
OTHER_FORWARD = "after another forward"
OTHER_BACKWARD = "after another call's backward"
OTHER_SHAPES = "after a forward of other shapes and options"
#: Those of two forwards before their backwards.
INTERLEAVED = (SECOND_FORWARD, OTHER_FORWARD, OTHER_BACKWARD)


class Repeatability(OneItem):
    """A second backward on one cache, and two forwards before their backwards, give what the plain call gives.

    Of the same dout, and of another one.
    """

    name = "repeatability"
    columns = ("plain call", "this call")

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares a plain call with calls that come after, or between, others."""
        other = other_of(case, reference.layer)
        plain, plain_other = _plain(case, candidate), _plain(other, candidate)
        return _again(case, other, candidate, reference, plain, plain_other) or Status.RIGHT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Makes the plain call, and the calls after which its answer is another one."""
        case, reference, way = writer.case, writer.reference, writer.discrepancy.way
        writer.numbers(case)
        if way in (OTHER_DOUT, *INTERLEAVED):
            writer.others()
        other = other_of(case, reference.layer)
        _write_tolerance(writer, case.with_dout(other.array("dout")) if way == OTHER_DOUT else case, "tolerance")
        if way in INTERLEAVED:
            _write_tolerance(writer, other, "tolerance_other")
        plainest = _plainest(reference)
        if way == OTHER_SHAPES and plainest is not None:
            writer.comment("The plainest case there is.")
            writer.numbers(plainest, "_plainest")
        writer.calls(case.configuration)
        _write_calls(writer)
        if way in INTERLEAVED:
            writer.judge = _interleaved_lines(writer)
        elif way == OTHER_DOUT:
            writer.judge = _redirected_lines(writer)
        elif way == OTHER_SHAPES:
            writer.judge = _elsewhere_lines(writer)
        else:
            writer.judge = _twice_lines(writer)
        return True


def _again(
    case: Case, other: Case, candidate: Candidate, reference: Reference, plain: Results, plain_other: Results
) -> Discrepancy | None:
    found = _twice(case, other, candidate, reference, plain) if candidate.reusable_cache else None
    for first_back in (0, 1):
        found = found or _interleaved((case, other), candidate, reference, (plain, plain_other), first_back)
    return found or _elsewhere(case, candidate, reference, plain)


def _elsewhere(case: Case, candidate: Candidate, reference: Reference, plain: Results) -> Discrepancy | None:
    """A forward of other shapes and options, the plainest there are, between this one's forward and backward."""
    plainest = _plainest(reference)
    if plainest is None:
        return None
    try:
        forward = candidate.forward(case)
        with suppress(Crashed, Refused):
            candidate.forward(plainest)
        results = {**forward.results, **_copied(candidate.backward(case, forward))}
    except (Crashed, Refused) as error:
        return _broken(error, OTHER_SHAPES)
    return _differ(case, reference, candidate, results, plain, OTHER_SHAPES)


def _plainest(reference: Reference) -> Case | None:
    configuration = reference.layer.build(reference.layer.base(reference.space), reference.space)
    return None if configuration is None else next(iter(reference.layer.fills(configuration, reference.space)))


def _plain(case: Case, candidate: Candidate) -> Results:
    """One forward and one backward."""
    forward = complete_forward(case, candidate)
    results = _copied(forward.results)
    return {**results, **_copied(candidate.backward(case, forward))}


def _twice(case: Case, other: Case, candidate: Candidate, reference: Reference, plain: Results) -> Discrepancy | None:
    """One forward, two backwards of its dout, and one of the other's."""
    where = SECOND_CALL
    try:
        forward = candidate.forward(case)
        first = _copied(candidate.backward(case, forward))
        found = _differ(case, reference, candidate, first, plain, where)
        where = SECOND_BACKWARD
        found = found or _differ(case, reference, candidate, _copied(candidate.backward(case, forward)), plain, where)
        return found or _redirected(case.with_dout(other.array("dout")), candidate, reference, forward)
    except (Crashed, Refused) as error:
        return _broken(error, where)


def _redirected(case: Case, candidate: Candidate, reference: Reference, forward: Forward) -> Discrepancy | None:
    """Another dout on a cache that has served one before."""
    where = OTHER_DOUT
    try:
        plain = _plain(case, candidate)
    except (Crashed, Refused, LeftOut):
        return None
    try:
        return _differ(case, reference, candidate, _copied(candidate.backward(case, forward)), plain, where)
    except (Crashed, Refused) as error:
        return _broken(error, where)


def _interleaved(
    cases: tuple[Case, Case],
    candidate: Candidate,
    reference: Reference,
    plain: tuple[Results, Results],
    first_back: int,
) -> Discrepancy | None:
    """Two forwards, then the backward of the one, then of the other."""
    where = SECOND_FORWARD
    try:
        forwards = [candidate.forward(case) for case in cases]
        for k in (first_back, 1 - first_back):
            where = OTHER_FORWARD if k == first_back else OTHER_BACKWARD
            results = {**forwards[k].results, **_copied(candidate.backward(cases[k], forwards[k]))}
            # What differs in the other case is reported of this one.
            found = _differ(cases[k], reference, candidate, results, plain[k], where)
            if found is not None:
                return found
    except (Crashed, Refused) as error:
        return _broken(error, where)
    return None


def _copied(results: Results) -> Results:
    return {name: a.copy() if isinstance(a, np.ndarray) else a for name, a in results.items()}


def _broken(error: Crashed | Refused, where: str) -> Discrepancy:
    """What was right in the plain call fails when it is asked once more."""
    if isinstance(error, Crashed):
        sentence = f"The plain call is fine, but {where} {error.problem.message}"
        return Discrepancy("crash", None, sentence, traceback=error.problem.traceback, way=where)
    sentence = f"The plain call is fine, but {where} NotImplementedError is raised."
    return Discrepancy("state", None, sentence, way=where)


def _differ(
    case: Case, reference: Reference, candidate: Candidate, results: Results, plain: Results, where: str
) -> Discrepancy | None:
    """Whether two results of one question differ by more than both their errors."""
    for tensor, result in results.items():
        before = plain.get(tensor)
        if not isinstance(before, np.ndarray):
            continue
        if not isinstance(result, np.ndarray):
            said = f"{tensor} is None." if result is None else result.message
            return Discrepancy("state", tensor, f"The plain call is fine, but {where} {said}", way=where)
        if before.dtype == result.dtype and np.array_equal(before, result):
            continue
        tolerance = reference.expected(case).tolerances.get(tensor)
        if tolerance is None:
            continue
        doubled = candidate.in_data_format(tensor, 2 * np.asarray(tolerance))
        must = f"{where}, but the plain call gave"
        wide = before.astype(np.float64)
        found = compare(tensor, result, wide, doubled, before.dtype, must=must, kind="state")
        if found is not None:
            return replace(found, kind="state", way=where)
    return None


def _write_tolerance(writer: ScriptWriter, case: Case, name: str) -> None:
    """Twice what right code may be off: both answers may be."""
    tensor, reference = writer.tensor, writer.reference
    tolerance = reference.expected(case).tolerances.get(tensor) if tensor else None
    if tensor and tolerance is None:
        writer.lines.append(f'{name} = float("inf")')
    elif tolerance is not None:
        doubled = 2 * np.asarray(tolerance)
        writer.comment("How far apart rounding alone may have two answers.")
        writer.tolerance(name, writer.candidate.in_data_format(tensor, doubled) if doubled.ndim else doubled)


def _write_calls(writer: ScriptWriter) -> None:
    """A forward and a backward that hand on the result that is off, copied as it comes."""
    tensor = writer.tensor
    early = tensor == "out" or tensor in writer.candidate.layer.contract.state
    parameters = ", ".join((*writer.names(), "**options"))
    ahead = f'read("{tensor}", results["{tensor}"]).copy()' if early else "None"
    behind = f'read("{tensor}", gradients["{tensor}"]).copy()' if tensor and not early else "call[0]"
    writer.lines += [
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


def _twice_lines(writer: ScriptWriter) -> list[str]:
    tensor, tolerance = writer.tensor, "tolerance" if writer.tensor else "0"
    return [
        f"    plain = back(dout, ahead({writer.passes()}))",
        *writer.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({writer.passes()})",
                "    first, second = back(dout, call), back(dout, call)",
                f'    found = differ("{tensor} in a second plain call", first, plain, {tolerance})',
                "    if found:",
                "        return 1",
                f'    return differ("{tensor} in the second backward on one cache", second, plain, {tolerance})',
            ]
        ),
    ]


def _redirected_lines(writer: ScriptWriter) -> list[str]:
    tensor, tolerance = writer.tensor, "tolerance" if writer.tensor else "0"
    return [
        f"    plain = back(dout_other, ahead({writer.passes()}))",
        *writer.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({writer.passes()})",
                "    back(dout, call)",
                "    got = back(dout_other, call)",
                f'    return differ("{tensor} of another dout on the same cache", got, plain, {tolerance})',
            ]
        ),
    ]


def _interleaved_lines(writer: ScriptWriter) -> list[str]:
    tolerances = "tolerance, tolerance_other" if writer.tensor else "0, 0"
    one, other = f"ahead({writer.passes()})", f"ahead({writer.passes('_other')})"
    return [
        f"    plain = back(dout, {one}), back(dout_other, {other})",
        f"    questions = list(zip((dout, dout_other), plain, ({tolerances})))",
        *writer.earlier("comes in between"),
        *_guarded(
            [
                "    for order in ((0, 1), (1, 0)):",
                f"        calls = {one}, {other}",
                "        for k in order:",
                "            cotangent, right, apart = questions[k]",
                f'            where = f"{writer.tensor} of number {{k + 1}}: two forwards, the backwards {{order}}"',
                "            if differ(where, back(cotangent, calls[k]), right, apart):",
                "                return 1",
                "    return 0",
            ]
        ),
    ]


def _elsewhere_lines(writer: ScriptWriter) -> list[str]:
    case, tolerance = _plainest(writer.reference), "tolerance" if writer.tensor else "0"
    assert case is not None
    own, plainest = writer.options(writer.case.configuration), writer.options(case.configuration)
    options = "".join(f", {name}={value!r}" for name, value in plainest.items() if value != own[name])
    where = f"{writer.tensor} after a forward of other shapes and options"
    return [
        f"    plain = back(dout, ahead({writer.passes()}))",
        *writer.earlier("comes in between"),
        *_guarded(
            [
                f"    call = ahead({writer.passes()})",
                "    with contextlib.suppress(Exception):",
                f"        ahead({writer.passes('_plainest')}{options})",
                f'    return differ("{where}", back(dout, call), plain, {tolerance})',
            ]
        ),
    ]

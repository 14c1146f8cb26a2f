"""Scripts about the memory of arrays: how it is laid out, what is written into it, who shares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from backproof.conformance.judging.properties.aliasing import FURTHER_CALLS, MOST_WORK
from backproof.conformance.judging.properties.purity import BORDER, GUARD
from backproof.conformance.judging.properties.several_calls import own_rounding
from backproof.conformance.reporting.scripts.exercise import GIVE_ARRANGED, Exercise
from backproof.conformance.reporting.scripts.machinery import GIVE
from backproof.conformance.spec.case import Array
from backproof.conformance.spec.memory_layouts import FOREIGN

_ALL = "tuple([slice({})] * a.ndim)"


def _constant_axes(a: Array, *, every: bool) -> tuple[int, ...]:
    axes = [k for k, size in enumerate(a.shape) if size > 1 and bool((a == a.take([0], k)).all())]
    return tuple(axes if every else axes[:1])


def _repeated(*, every: bool = False, writable: bool = False) -> Callable[[Array], list[str]]:
    def lines(a: Array) -> list[str]:
        axes = _constant_axes(a, every=every)
        core = ", ".join(":1" if k in axes else ":" for k in range(a.ndim))
        return [
            f'core = np.array(a[{core}], order="C")',
            f"strides = [0 if axis in {axes} else core.strides[axis] for axis in range(a.ndim)]",
            f"return as_strided(core, a.shape, strides, writeable={writable})",
        ]

    return lines


def _said(*lines: str) -> Callable[[Array], list[str]]:
    return lambda a: list(lines)


#: The lines that rebuild an array `a` in each layout; those of `layouts.LAYOUTS`.
REBUILT: Mapping[str, Callable[[Array], list[str]]] = MappingProxyType(
    {
        "Fortran": _said('return np.array(a, order="F")'),
        "channels last": _said('return np.moveaxis(np.array(np.moveaxis(a, 1, -1), order="C"), -1, 1)'),
        "transposed": _said('return np.array(a.swapaxes(-1, -2), order="C").swapaxes(-1, -2)'),
        "batch transposed": _said('return np.array(a.swapaxes(0, 1), order="C").swapaxes(0, 1)'),
        "step slice": _said(
            f"room = np.full((*a.shape[:-1], 2 * a.shape[-1]), {FOREIGN}, a.dtype)",
            "room[..., ::2] = a",
            "return room[..., ::2]",
        ),
        "offset slice": _said(
            f"room = np.full([size + 2 for size in a.shape], {FOREIGN}, a.dtype)",
            f"inside = {_ALL.format('1, -1')}",
            "room[inside] = a",
            "return room[inside]",
        ),
        "negative stride": _said(
            f"backwards = {_ALL.format('None, None, -1')}", 'return np.array(a[backwards], order="C")[backwards]'
        ),
        "negative stride, last axis": _said('return np.array(a[..., ::-1], order="C")[..., ::-1]'),
        "zero stride": _repeated(),
        "zero stride, writable": _repeated(writable=True),
        "zero stride, last axis": _repeated(),
        "expanded over pixels": _repeated(every=True),
        "expanded": _repeated(every=True),
        "expanded, writable": _repeated(every=True, writable=True),
        "read-only": _said('view = np.array(a, order="C")', "view.setflags(write=False)", "return view"),
        "odd strides of size 1": _said(
            'core = np.array(a, order="C")',
            "strides = [4 * a.itemsize if n == 1 else s for n, s in zip(a.shape, core.strides)]",
            "return as_strided(core, a.shape, strides)",
        ),
    }
)


def memory_layout(exercise: Exercise) -> bool:
    """The same arrays twice, plain and in other layouts; whether the case has any."""
    case, reference, candidate, tensor = exercise.case, exercise.found.reference, exercise.candidate, exercise.tensor
    if not case.layouts:
        return False
    exercise.numbers(case)
    if tensor:
        bound, right = reference.expected(case).bounds[tensor], reference.expected(case).tensors[tensor]
        room = np.asarray(0.0 if bound is None else bound)
        allowed = room + np.maximum(room, own_rounding(right, case))
        exercise.comment("How far apart rounding alone may have the two.")
        exercise.tolerance("tolerance", candidate.in_layout(tensor, allowed) if allowed.ndim else allowed, None, None)
    exercise.calls(case.configuration)
    exercise.ask([tensor] if tensor else [])
    for name, layout in case.layouts.items():
        array = case.arrays[name]
        assert array is not None
        lines = REBUILT[layout](candidate.in_layout(name, array))
        exercise.uses_strides |= any("as_strided" in line for line in lines)
        exercise.lines += [
            "",
            "",
            f"def {name}_elsewhere(a):",
            f'    """{name} in the layout {layout!r}."""',
            *[f"    {line}" for line in lines],
        ]
    exercise.lines += ["", "", "#: How arrays lie in memory; one that is not named here is plain.", "arranged = {}"]
    exercise.give = GIVE_ARRANGED
    asked = f"ask({exercise.passes()}, dout)"
    arranged = ", ".join(f"{name}={name}_elsewhere" for name in case.layouts)
    where = ", ".join(f"{name} in the layout {layout!r}" for name, layout in case.layouts.items())
    exercise.judge = [
        f"    {'plain = ' if tensor else ''}{asked}",
        f"    arranged.update({arranged})",
        f"    {'other = ' if tensor else ''}{asked}",
        f'    return compare({f"{tensor} with {where}"!r}, other, plain.astype("float64"), tolerance)'
        if tensor
        else "    return 0",
    ]
    return True


def purity(exercise: Exercise) -> None:
    """Every array, and the bytes around it, before the calls and after each of them."""
    state = exercise.candidate.layer.contract.state
    exercise.numbers(exercise.case)
    exercise.calls(exercise.case.configuration)
    exercise.lines += [
        "",
        "",
        "zones = {}",
        "",
        "",
        "def bordered(name, array):",
        f'    """A copy with {BORDER} bytes before it and behind it that are nobody\'s."""',
        f"    zone = np.full(array.size * array.itemsize + {2 * BORDER}, {GUARD:#x}, np.uint8)",
        f"    inner = zone[{BORDER}:-{BORDER}].view(array.dtype).reshape(array.shape)",
        "    inner[...] = array",
        "    zones[name] = zone, inner, array",
        "    return inner",
        "",
        "",
        "def changed(when):",
        '    """1 if an array that was passed, or a byte beside one, is not what it was."""',
        "    found = 0",
        "    for name, (zone, inner, array) in zones.items():",
    ]
    if state and exercise.candidate.signature.state:
        # They may be updated in place.
        exercise.lines += [
            f"        if name not in {state}:",
            '            found |= compare(f"{name}, {when}", inner, array, 0)',
        ]
    else:
        exercise.lines.append('        found |= compare(f"{name}, {when}", inner, array, 0)')
    exercise.lines += [
        f"        if (zone[:{BORDER}] != {GUARD:#x}).any() or (zone[-{BORDER}:] != {GUARD:#x}).any():",
        '            print(f"The bytes before the start or behind the end of {name} have changed, {when}.")',
        "            found = 1",
        "    return found",
    ]
    exercise.give = GIVE.format(copy="array = bordered(name, array)")
    layer = exercise.candidate.layer.name
    exercise.judge = [
        f"    results, cache = forward({exercise.passes()})",
        f'    if changed("after {layer}_forward"):',
        "        return 1",
        "    backward(dout, cache)",
        f'    return changed("after {layer}_backward")',
    ]


def aliasing(exercise: Exercise) -> None:
    """A gradient's memory, against that of the inputs and of the other gradients, or before and after further calls."""
    tensor = exercise.tensor
    exercise.numbers(exercise.case)
    overwritten = exercise.found.discrepancy.got is not None
    if overwritten:
        exercise.others()
    exercise.calls(exercise.case.configuration)
    calls = [
        f"    results, cache = forward({exercise.passes()})",
        "    gradients = backward(dout, cache)",
        f'    {tensor} = read("{tensor}", gradients["{tensor}"])',
    ]
    if not overwritten:
        exercise.give = GIVE.format(copy='array = passed[name] = np.array(array, order="C")')
        exercise.lines += ["", "", "#: The arrays that were passed, by name.", "passed = {}"]
        exercise.judge = [
            *calls,
            "    others = dict(passed)",
            "    for name, gradient in gradients.items():",
            f'        if name != "{tensor}" and gradient is not None:',
            "            others[name] = read(name, gradient)",
            "    found = 0",
            "    for name, other in others.items():",
            f"        if shares({tensor}, other):",
            f'            print(f"{tensor} shares memory with {{name}}: whoever changes the one changes the other.")',
            "            found = 1",
            "    return found",
        ]
        exercise.lines += [
            "",
            "",
            "def shares(one, other):",
            '    """Whether two arrays have a byte in common."""',
            "    try:",
            f"        return np.shares_memory(one, other, max_work={MOST_WORK})",
            "    except np.exceptions.TooHardError:",
            "        return np.may_share_memory(one, other)",
        ]
        return
    again = [f"    backward(dout_other, forward({exercise.passes('_other')})[1])"] * FURTHER_CALLS
    if exercise.candidate.reusable_cache:
        again = ["    backward(dout_other, cache)", *again]
    exercise.judge = [
        *calls,
        f"    before = {tensor}.copy()",
        *again,
        f'    return compare("{tensor}, after further calls", {tensor}, before, 0)',
    ]

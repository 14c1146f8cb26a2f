"""Scripts for what several results say of each other: linearity, identities, relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.linearity import A_LOW, LARGEST, A, B, U, V
from backproof.conformance.judging.reference import Reference
from backproof.conformance.reporting.scripts.exercise import Exercise, names_of, options_of
from backproof.conformance.reporting.scripts.literals import dtype_of
from backproof.conformance.reporting.scripts.sums import joining, side
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Identity, Relation


def linearity(exercise: Exercise) -> None:
    """A gradient for the cotangents 0, u, v and a u + b v."""
    case, reference, candidate, tensor = exercise.case, exercise.found.reference, exercise.candidate, exercise.tensor
    u = case.array("dout")
    if not (np.rint(u) == u).all() or np.abs(u).max(initial=0.0) > LARGEST or not u.any():
        u = np.resize(U, u.shape)
    v = np.resize(V, u.shape)
    a = A_LOW if case.precision.low else A
    one, other, both = (case.with_dout(dout) for dout in (u, v, a * u + B * v))
    rooms = [reference.expected(question).bounds[tensor] for question in (both, one, other)]
    allowed = sum(abs(c) * np.asarray(r) for c, r in zip((1.0, a, B), rooms, strict=True) if r is not None)
    if np.any(allowed):
        first, second = (reference.expected(question).tensors[tensor] for question in (one, other))
        allowed = allowed + 2.0**-51 * (abs(a * first) + abs(B * second))
    exercise.numbers(case)
    exercise.comment("The backward is linear in dout: f(0) = 0, and f(A u + B v) = A f(u) + B f(v).")
    exercise.lines.append(f"A, B = {a:g}, {B:g}")
    exercise.array("u", candidate.in_layout("dout", np.array(u, np.float64)))
    exercise.array("v", candidate.in_layout("dout", np.array(v, np.float64)))
    exercise.comment("How far off rounding alone may have it.")
    bound = np.asarray(allowed)
    exercise.tolerance("tolerance", candidate.in_layout(tensor, bound) if bound.ndim else bound, None, None)
    exercise.calls(case.configuration)
    dtype = dtype_of(case.arrays["dout"]) if case.arrays["dout"] is not None else '"float64"'
    exercise.lines += [
        "",
        "",
        "def pulled_back(dout):",
        f'    """{tensor} for this dout, by a forward of its own."""',
        f"    results, cache = forward({exercise.passes()})",
        f'    return read("{tensor}", backward(dout.astype({dtype}), cache)["{tensor}"]).astype("float64")',
    ]
    exercise.judge = [
        "    zero, one, other, both = [pulled_back(d) for d in (0 * u, u, v, A * u + B * v)]",
        f'    if compare("{tensor} for a dout of zeros", zero, 0 * one, 0):',
        "        return 1",
        "    if np.isfinite(one).all() and np.isfinite(other).all() and not np.isfinite(both).all():",
        f'        print("{tensor} is finite for u and v, and not for A u + B v.")',
        "        return 1",
        f'    return compare(f"{tensor} for dout = A u + B v", both, A * one + B * other, tolerance)',
    ]


def identities(exercise: Exercise) -> bool:
    """Two sides that must agree, both made of the adapter's own results; whether they can be written down."""
    candidate, reference = exercise.candidate, exercise.found.reference
    case = reference.layer.homogeneous(exercise.case)
    message = exercise.found.discrepancy.message
    for absent in (0, 1, 2):
        right = _judged(case, reference, absent)
        identity = next((i for i in _identities(case, reference, right) if _is_told(i, message)), None)
        if identity is not None:
            break
    else:
        return False

    def sides(tensors: Mapping[str, Array]) -> tuple[Array, Array]:
        wide = {t: candidate.in_reference(t, np.asarray(a, np.float64)) for t, a in tensors.items()}
        found = next(
            i for i in _identities(case, reference, wide) if (i.claim, i.equals) == (identity.claim, identity.equals)
        )
        return np.asarray(found.left), np.asarray(found.right)

    arrays = {n: candidate.in_layout(n, case.array(n)) for n, a in case.arrays.items() if a is not None}
    shapes = {t: candidate.in_layout(t, a).shape for t, a in right.items()}
    left, other = side(lambda t: sides(t)[0], shapes, arrays), side(lambda t: sides(t)[1], shapes, arrays)
    exercise.numbers(case)
    exercise.comment(f"{identity.claim} must be {identity.equals or 'zero'}; how far off rounding alone may have it:")
    exercise.tolerance("tolerance", np.max(identity.allowed, initial=0.0), None, None)
    for (_, constants), suffix in ((left, "left"), (other, "right")):
        for name, array in constants.items():
            exercise.array(f"{name}_{suffix}", array)
    exercise.calls(case.configuration)
    texts = [_suffixed(text, constants, suffix) for (text, constants), suffix in ((left, "left"), (other, "right"))]
    used = [t for t in shapes if any(f"{{{t}}}" in text for text in texts)]
    exercise.ask(used)
    exercise.judge = [
        f"    {', '.join(used)} = {_wide(used, exercise)}",
        f"    left = {texts[0].format(**{t: t for t in used})}",
        f"    right = {texts[1].format(**{t: t for t in used})}",
        f'    return compare("{identity.claim}", np.asarray(left), right, tolerance)',
    ]
    return True


def _wide(used: Sequence[str], exercise: Exercise) -> str:
    asked = f"ask({exercise.passes()}, dout)"
    return f'{asked}.astype("float64")' if len(used) == 1 else f'[a.astype("float64") for a in {asked}]'


def _suffixed(text: str, constants: Mapping[str, Array], suffix: str) -> str:
    for name in constants:
        text = text.replace(f"<{name}>", f"{name}_{suffix}")
    return text


def _judged(case: Case, reference: Reference, absent: int) -> dict[str, Array]:
    """What is right, without the first so many tensors: results that cannot be read stay out of the identities."""
    right = reference.expected(case)
    return {t: right.tensors[t] for t in list(right.tensors)[absent:] if right.bounds[t] is not None}


def _identities(case: Case, reference: Reference, tensors: Mapping[str, Array]) -> Sequence[Identity]:
    bounds = reference.expected(case).bounds
    slack = {t: bound for t in tensors if (bound := bounds[t]) is not None}
    return list(reference.layer.identities(case, tensors, slack))


def _is_told(identity: Identity, message: str) -> bool:
    begins = message.startswith((f"{identity.claim} ", f"{identity.claim}["))
    return begins and (not identity.equals or f"must equal {identity.equals} = " in message)


def relations(exercise: Exercise) -> bool:
    """A question and its parts, whose answers are put together; whether that can be written down."""
    case, reference, candidate, tensor = exercise.case, exercise.found.reference, exercise.candidate, exercise.tensor
    others = {
        name: replace(reference.space, signature=each.signature, settings=each.settings)
        for name, each in candidate.adapter.implementations.items()
    }
    message = exercise.found.discrepancy.message
    asked = reference.layer.relations(case, reference.space, others)
    relation = next((r for r in asked if f"but {r.words} gives" in message), None)
    if relation is None:
        return False
    judge, its_reference = _of_parts(relation, candidate, reference)
    rights = [its_reference.expected(part) for part in relation.parts]
    rooms = [
        {tensor: np.broadcast_to(np.asarray(right.bounds[tensor], np.float64), right.tensors[tensor].shape)}
        for right in rights
    ]
    bound = reference.expected(case).bounds[tensor]
    allowed = np.asarray(relation.join(rooms)[tensor]) + np.asarray(0.0 if bound is None else bound)

    def joined(parts: Sequence[Array]) -> Array:
        answers = [{tensor: judge.in_reference(tensor, part)} for part in parts]
        return candidate.in_layout(tensor, np.asarray(relation.join(answers)[tensor]))

    names = ["part"] if len(rights) == 1 else [f"part_{k}" for k, _ in enumerate(rights, 1)]
    shapes = [judge.in_layout(tensor, right.tensors[tensor]).shape for right in rights]
    text, constants, function = joining(joined, shapes, names)
    exercise.numbers(case)
    for k, part in enumerate(relation.parts, 1):
        exercise.comment(f"Asked in another way: {relation.words}" + (f", part {k}." if len(rights) > 1 else "."))
        _part(exercise, part, f"_{k}", judge)
    exercise.comment("How far apart rounding alone may have the two.")
    exercise.tolerance("tolerance", candidate.in_layout(tensor, allowed) if allowed.ndim else allowed, None, None)
    for name, array in constants.items():
        exercise.array(name, array)
    exercise.calls(case.configuration)
    exercise.ask([tensor])
    prefix = ""
    if judge.layer is not candidate.layer:
        prefix = f"{judge.layer.name}_"
        exercise.calls(relation.parts[0].configuration, prefix, judge)
        exercise.ask([tensor], prefix, judge)
    exercise.lines += function
    exercise.judge = [f"    whole = ask({exercise.passes()}, dout)"]
    for k, (name, part) in enumerate(zip(names, relation.parts, strict=True), 1):
        passed = ", ".join(f"{array}_{k}" for array in (*names_of(judge), "dout"))
        options = options_of(judge, part.configuration) if not prefix else {}
        own = options_of(candidate, case.configuration)
        changed = "".join(f", {o}={value!r}" for o, value in options.items() if value != own[o])
        exercise.judge.append(f'    {name} = {prefix}ask({passed}{changed}).astype("float64")')
    exercise.judge += [
        f"    joined = {text}",
        f'    return compare("{tensor}", whole.astype("float64"), joined, tolerance)',
    ]
    return True


def _of_parts(relation: Relation, candidate: Candidate, reference: Reference) -> tuple[Candidate, Reference]:
    """Who is asked the parts, and what is right in them."""
    if relation.layer is None or relation.space is None:
        return candidate, reference
    implementation = candidate.adapter.implementations[relation.layer.name]
    return Candidate(candidate.adapter, implementation, relation.layer), Reference(relation.layer, relation.space)


def _part(exercise: Exercise, part: Case, suffix: str, judge: Candidate) -> None:
    """The arrays of a part; one that is the case's own, or some of its samples, is written so."""
    for name in (*names_of(judge), "dout"):
        array = part.arrays[name]
        whole = exercise.case.arrays.get(name)
        own = None if array is None or judge.layer is not exercise.candidate.layer else _cut(name, array, whole, suffix)
        if own is not None:
            exercise.lines.append(f"{name}{suffix} = {own}")
        else:
            exercise.array(f"{name}{suffix}", None if array is None else judge.in_layout(name, array))


def _cut(name: str, array: Array, whole: Array | None, suffix: str) -> str | None:
    """The array as the case's own, or as its first or last samples."""
    if whole is None or array.shape[1:] != whole.shape[1:]:
        return None
    if array.shape == whole.shape and array.tobytes() == whole.tobytes():
        return name
    count = len(array)
    first = array.tobytes() == whole[:count].tobytes()
    last = array.tobytes() == whole[-count:].tobytes()
    if first and (suffix == "_1" or not last):
        return f"{name}[:{count}]"
    return f"{name}[{len(whole) - count}:]" if last else None

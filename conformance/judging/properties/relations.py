"""One thing, asked in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter, overrides
from backproof.conformance.judging.properties.several_calls import difference, results_of, tolerances_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Layer, Relation
from backproof.conformance.spec.results import Discrepancy, Status


class Relations(OneItem):
    """One thing asked in two ways gets one answer: a split batch, explicit padding, groups as a dense layer."""

    name = "relations"
    columns = ("asked so", "plain call")
    #: They ask other shapes than the case's own.
    one_of = 3
    compares_calls = True
    follows_tensors = True

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has any."""
        return overrides(candidate.layer, Layer.relations)

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Compares the answer to a case with what its parts' answers come to."""
        whole, judged = None, False
        for relation in _relations(case, candidate, reference):
            whole = results_of(case, candidate, reference) if whole is None else whole
            answer = _joined(relation, candidate, reference)
            if answer is None:
                continue
            joined, tolerances = answer
            own = tolerances_of(whole, case, reference)
            for tensor in [name for name in whole if name in joined and name in own]:
                judged = True
                must = f"but {relation.words} gives"
                tolerance = np.asarray(tolerances[tensor] + own[tensor])
                found = difference(tensor, whole[tensor], joined[tensor], tolerance, candidate, must)
                if found is not None:
                    return replace(found, way=relation.words)
        return Status.RIGHT if judged else Status.LEFT_OUT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares the answer to a question with its parts' answers put together."""
        case, reference, candidate, tensor = writer.case, writer.reference, writer.candidate, writer.tensor
        asked = _relations(case, candidate, reference)
        relation = next((each for each in asked if each.words == writer.discrepancy.way), None)
        if relation is None:
            return False
        of_parts, its_reference = _of_parts(relation, candidate, reference)
        rights = [its_reference.expected(part) for part in relation.parts]
        tolerances = [
            {tensor: np.broadcast_to(np.asarray(right.tolerances[tensor], np.float64), right.tensors[tensor].shape)}
            for right in rights
        ]
        own = reference.expected(case).tolerances[tensor]
        tolerance = np.asarray(relation.join(tolerances)[tensor]) + np.asarray(0.0 if own is None else own)

        def joined(parts: Sequence[Array]) -> Array:
            answers = [{tensor: of_parts.in_reference(tensor, part)} for part in parts]
            return candidate.in_data_format(tensor, np.asarray(relation.join(answers)[tensor]))

        names = ["part"] if len(rights) == 1 else [f"part_{k}" for k, _ in enumerate(rights, 1)]
        shapes = [of_parts.in_data_format(tensor, right.tensors[tensor]).shape for right in rights]
        text, constants, function = writer.joined(joined, shapes, names)
        writer.numbers(case)
        for k, part in enumerate(relation.parts, 1):
            writer.comment(f"Asked in another way: {relation.words}" + (f", part {k}." if len(rights) > 1 else "."))
            _write_part(writer, part, f"_{k}", of_parts)
        writer.comment("How far apart rounding alone may have the two.")
        writer.tolerance("tolerance", candidate.in_data_format(tensor, tolerance) if tolerance.ndim else tolerance)
        for name, array in constants.items():
            writer.array(name, array)
        writer.calls(case.configuration)
        writer.ask([tensor])
        prefix = "" if of_parts.layer is candidate.layer else f"{of_parts.layer.name}_"
        if prefix:
            writer.calls(relation.parts[0].configuration, prefix, of_parts)
            writer.ask([tensor], prefix, of_parts)
        writer.lines += function
        writer.judge = [f"    whole = ask({writer.passes()}, dout)"]
        given = writer.options(case.configuration)
        for k, (name, part) in enumerate(zip(names, relation.parts, strict=True), 1):
            passed = ", ".join(f"{array}_{k}" for array in (*writer.names(of_parts), "dout"))
            options = {} if prefix else writer.options(part.configuration)
            changed = "".join(f", {o}={value!r}" for o, value in options.items() if value != given[o])
            writer.judge.append(f'    {name} = {prefix}ask({passed}{changed}).astype("float64")')
        writer.judge += [
            f"    joined = {text}",
            f'    return compare("{tensor}", whole.astype("float64"), joined, tolerance)',
        ]
        return True


def _relations(case: Case, candidate: Candidate, reference: Reference) -> Iterator[Relation]:
    others = {
        name: replace(reference.space, signature=implementation.signature, settings=implementation.settings)
        for name, implementation in candidate.adapter.implementations.items()
    }
    return reference.layer.relations(case, reference.space, others)


def _of_parts(relation: Relation, candidate: Candidate, reference: Reference) -> tuple[Candidate, Reference]:
    """Who is asked the parts, and what is right in them."""
    if relation.layer is None or relation.space is None:
        return candidate, reference
    implementation = candidate.adapter.implementations[relation.layer.name]
    return Candidate(candidate.adapter, implementation, relation.layer), Reference(relation.layer, relation.space)


def _joined(
    relation: Relation, candidate: Candidate, reference: Reference
) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """The parts' answers put together, and their tolerances; None where a part has none for some tensor."""
    candidate, reference = _of_parts(relation, candidate, reference)
    answers, tolerances = [], []
    for part in relation.parts:
        results = results_of(part, candidate, reference)
        own = tolerances_of(results, part, reference)
        answers.append({tensor: a for tensor, a in results.items() if tensor in own})
        tolerances.append({t: np.broadcast_to(np.asarray(own[t], np.float64), a.shape) for t, a in answers[-1].items()})
    if any(answer.keys() != answers[0].keys() for answer in answers):
        return None
    return relation.join(answers), relation.join(tolerances)


def _write_part(writer: ScriptWriter, part: Case, suffix: str, of_parts: Candidate) -> None:
    """The arrays of a part; one that is the case's own, or some of its samples, is written so."""
    for name in (*writer.names(of_parts), "dout"):
        array, whole = part.arrays[name], writer.case.arrays.get(name)
        own = None
        if array is not None and of_parts.layer is writer.candidate.layer:
            own = _cut(name, array, whole, suffix)
        if own is not None:
            writer.lines.append(f"{name}{suffix} = {own}")
        else:
            writer.array(f"{name}{suffix}", None if array is None else of_parts.in_data_format(name, array))


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

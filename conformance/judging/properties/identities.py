"""What holds between a layer's own results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from backproof.conformance.adapter.candidate import Candidate
from backproof.conformance.judging.compare import compare
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter, overrides
from backproof.conformance.judging.properties.several_calls import results_of, tolerances_of
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Array, Case
from backproof.conformance.spec.layer import Identity, Layer
from backproof.conformance.spec.results import Discrepancy, Status


class Identities(OneItem):
    """The layer's results agree with each other as its algebra demands, with no reference in between."""

    name = "identities"
    columns = ("must equal", "is")
    compares_calls = True
    follows_tensors = True

    def is_asked(self, candidate: Candidate) -> bool:
        """Whether the layer has any."""
        return overrides(candidate.layer, Layer.identities)

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Puts one call's results into the layer's identities."""
        case = reference.layer.homogeneous(case)
        results = results_of(case, candidate, reference)
        judged = False
        for identity in reference.layer.identities(case, results, tolerances_of(results, case, reference)):
            judged = True
            must = f"must equal {identity.equals} =" if identity.equals else "must be"
            found = compare(
                identity.claim, identity.left, identity.right, identity.tolerance, np.dtype(np.float64), must=must
            )
            if found is not None:
                return replace(found, tensor=identity.tensor, way=_way(identity))
        return Status.RIGHT if judged else Status.LEFT_OUT

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Compares two sides, both made of the adapter's own results; it cannot where these make no such identity."""
        candidate, reference = writer.candidate, writer.reference
        case, way = reference.layer.homogeneous(writer.case), writer.discrepancy.way
        for absent in (0, 1, 2):
            right = _right(case, reference, absent)
            identity = _of_way(way, case, reference, right)
            if identity is not None:
                break
        else:
            return False

        def sides(tensors: Mapping[str, Array]) -> tuple[Array, Array]:
            wide = {t: candidate.in_reference(t, np.asarray(a, np.float64)) for t, a in tensors.items()}
            found = _of_way(way, case, reference, wide)
            assert found is not None
            return np.asarray(found.left), np.asarray(found.right)

        arrays = {n: candidate.in_data_format(n, case.array(n)) for n, a in case.arrays.items() if a is not None}
        shapes = {t: candidate.in_data_format(t, a).shape for t, a in right.items()}
        sums = {
            "left": writer.sum_of(lambda t: sides(t)[0], shapes, arrays),
            "right": writer.sum_of(lambda t: sides(t)[1], shapes, arrays),
        }
        writer.numbers(case)
        writer.comment(f"{identity.claim} must be {identity.equals or 'zero'}; how far off rounding alone may have it:")
        writer.tolerance("tolerance", np.max(identity.tolerance, initial=0.0))
        texts = {}
        for name, (text, constants) in sums.items():
            for constant, array in constants.items():
                writer.array(f"{constant}_{name}", array)
                text = text.replace(f"<{constant}>", f"{constant}_{name}")
            texts[name] = text
        writer.calls(case.configuration)
        used = [tensor for tensor in shapes if any(f"{{{tensor}}}" in text for text in texts.values())]
        writer.ask(used)
        asked = f"ask({writer.passes()}, dout)"
        wide = f'{asked}.astype("float64")' if len(used) == 1 else f'[a.astype("float64") for a in {asked}]'
        writer.judge = [
            f"    {', '.join(used)} = {wide}",
            *[f"    {name} = {text.format(**{t: t for t in used})}" for name, text in texts.items()],
            f'    return compare("{identity.claim}", np.asarray(left), right, tolerance)',
        ]
        return True


def _way(identity: Identity) -> str:
    return f"{identity.claim} = {identity.equals}"


def _of_way(way: str, case: Case, reference: Reference, tensors: Mapping[str, Array]) -> Identity | None:
    """The identity that failed, of these results."""
    right = reference.expected(case).tolerances
    tolerances = {tensor: each for tensor in tensors if (each := right[tensor]) is not None}
    return next((i for i in reference.layer.identities(case, tensors, tolerances) if _way(i) == way), None)


def _right(case: Case, reference: Reference, absent: int) -> dict[str, Array]:
    """What is right, without the first so many tensors: results that cannot be read stay out of the identities."""
    right = reference.expected(case)
    return {t: right.tensors[t] for t in list(right.tensors)[absent:] if right.tolerances[t] is not None}

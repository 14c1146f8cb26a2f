"""Failures that are others over again: an item with an earlier item's cause, a gradient of a wrong forward."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult

#: Kinds of a wrong forward that its backward inherits: where it raises, no backward is asked.
INHERITED = ("value", "shape", "dtype", "nonfinite")

#: Sentences of a diagnosis without the tensor that they are said of.
Cause = frozenset[str]
#: A cause in words, and the items that share it.
Group = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class SameCause:
    """An earlier item has the same diagnosis; `words` say so of this one."""

    identifier: str
    words: str


@dataclass(frozen=True)
class AfterForward:
    """A gradient is wrong, and so is the output, whose item is `identifier`.

    `causes` explain the gradient and not the output.
    """

    identifier: str
    words: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Consequence:
    """Results are held against each other, and one of them is wrong by itself in the same configuration."""

    identifier: str
    words: str


Relation = SameCause | AfterForward | Consequence


@dataclass(frozen=True, eq=False)
class _Entry:
    identifier: str
    result: ItemResult
    causes: tuple[Cause, ...]
    relation: Relation | None


@dataclass
class Ledger:
    """The failing items of a run, in its order, and how each is related to those before it."""

    _entries: dict[str, _Entry] = field(default_factory=dict)

    def relate(self, identifier: str, result: ItemResult) -> Relation | None:
        """How this failing item is related to those before it; None: it stands for itself."""
        if identifier not in self._entries:
            causes = tuple(_cause(found.diagnosis, _tensors(found)) for found in result.counterexamples)
            relation = self._after_forward(result, causes) or self._same(result, causes) or self._consequence(result)
            self._entries[identifier] = _Entry(identifier, result, causes, relation)
        return self._entries[identifier].relation

    def groups(self) -> list[Group]:
        """Every cause that several items share, in the words of the first of them, with their identifiers."""
        return grouped(
            (entry.identifier, entry.result.item.layer, found.diagnosis)
            for entry in self._entries.values()
            for found in entry.result.counterexamples
        )

    def summary(self) -> list[str]:
        """What the end of a run says of failures that belong together, a line each."""
        groups, later = self.groups(), dict[str, list[str]]()
        for identifier, entry in self._entries.items():
            out = entry.relation.identifier if isinstance(entry.relation, AfterForward) else None
            if out is not None and not any({identifier, out} <= {*members} for _, members in groups):
                later.setdefault(out, []).append(identifier)
        after = [f"{_named(ids)} wrong after a wrong forward: mend {named([out])} first." for out, ids in later.items()]
        return [same_reason(*group) for group in groups] + after

    def _before(self, result: ItemResult, check: str) -> _Entry | None:
        """The entry of another item of the same part and dtype."""
        path = (result.item.part, check, result.item.dtype)
        return next((entry for entry in self._entries.values() if entry.result.item.path == path), None)

    def _after_forward(self, result: ItemResult, causes: Sequence[Cause]) -> AfterForward | None:
        """Where the output is wrong its gradients are summarised in a line."""
        out, founds = self._before(result, "out"), result.counterexamples
        if out is None or not _is_gradient(result) or not all(f.discrepancy.kind in INHERITED for f in founds):
            return None
        if not any(found.discrepancy.kind in INHERITED for found in out.result.counterexamples):
            return None
        first = f"{result.item.check} is wrong too, as the forward is"
        own = [found.diagnosis for found, cause in zip(founds, causes, strict=True) if cause not in out.causes]
        sentences = tuple(dict.fromkeys(sentence for diagnosis in own for sentence in diagnosis))
        return AfterForward(out.identifier, f"{first}: mend out first ({out.identifier}).", sentences)

    def _same(self, result: ItemResult, causes: Sequence[Cause]) -> SameCause | None:
        """The first entry with every cause of this one."""
        found = result.counterexamples
        if not all(causes) or not all(one.steady for one in found):
            return None
        for entry in self._entries.values():
            if entry.result.item.layer == result.item.layer and set(causes) <= set(entry.causes):
                why = _either(list(dict.fromkeys(sentence for one in found for sentence in one.diagnosis)))
                other = entry.result.item
                reason = f"fails for the same reason as {other.part} {other.check} ({other.dtype}): {why}"
                return SameCause(entry.identifier, reason)
        return None

    def _consequence(self, result: ItemResult) -> Consequence | None:
        """A tensor in it fails in its own item, in the configuration in which this item fails."""
        if not result.property_.follows_tensors or len(result.counterexamples) != 1:
            return None
        (found,) = result.counterexamples
        discrepancy = found.discrepancy
        if discrepancy.kind != "value" or not found.steady or discrepancy.tensor is None:
            return None
        for check in dict.fromkeys((discrepancy.tensor, "out")):
            entry = self._before(result, check)
            if entry is not None and any(_same_question(found, other) for other in entry.result.counterexamples):
                words = f"{discrepancy.message} {check} itself is wrong in the same configuration: mend it first"
                return Consequence(entry.identifier, f"{words} ({entry.identifier}).")
        return None


def grouped(failures: Iterable[tuple[str, str, Sequence[str]]]) -> list[Group]:
    """The causes that several items share, from the identifier, the layer and the diagnosis of every failure."""
    listed = list(failures)
    tensors = {identifier.split("::")[2] for identifier, _, _ in listed}
    words: dict[tuple[str, Cause], str] = {}
    members: dict[tuple[str, Cause], dict[str, None]] = {}
    for identifier, layer, diagnosis in listed:
        key = layer, _cause(diagnosis, tensors)
        if diagnosis:
            words.setdefault(key, _either(diagnosis))
            members.setdefault(key, {})[identifier] = None
    return [(words[key], tuple(names)) for key, names in members.items() if len(names) > 1]


def same_as(items: Iterable[tuple[str, str, Sequence[Sequence[str]]]]) -> dict[str, str]:
    """Of items all of whose failures have causes of an earlier one, by their identifiers, the first such item.

    From the identifier, the layer and the diagnoses of every item, in the order of the report.
    """
    listed = list(items)
    tensors = {identifier.split("::")[2] for identifier, _, _ in listed}
    causes: dict[tuple[str, str], set[Cause]] = {}
    found: dict[str, str] = {}
    for identifier, layer, diagnoses in listed:
        own = {_cause(diagnosis, tensors) for diagnosis in diagnoses}
        earlier = [name for (other, name), there in causes.items() if other == layer and own <= there]
        if earlier and diagnoses and all(diagnoses):
            found[identifier] = earlier[0]
        causes[layer, identifier] = own
    return found


def same_reason(words: str, identifiers: Sequence[str]) -> str:
    """A group in a line."""
    if len({identifier.rpartition("::")[0] for identifier in identifiers}) == 1:
        return f"{named(identifiers)} fails for the same reason in {len(identifiers)} dtypes: {words}"
    return f"{named(identifiers)} fail for the same reason: {words}"


def named(identifiers: Iterable[str]) -> str:
    """Items as they are spoken of: "conv1d dw and db, conv2d dw (float32)"; the dtype where it is not all of them."""
    paths = [name.split("::")[1:] for name in identifiers]
    dtypes = {dtype for _, _, dtype in paths}
    every = len(paths) == len({(part, check) for part, check, _ in paths}) * len(dtypes)
    parts: dict[str, list[str]] = {}
    for part, check, dtype in paths:
        name = check if every else f"{check} ({dtype})"
        if name not in parts.setdefault(part, []):
            parts[part].append(name)
    return ", ".join(f"{part} {_listed(checks)}" for part, checks in parts.items())


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _named(identifiers: Sequence[str]) -> str:
    """Items with their verb."""
    several = len({tuple(name.split("::")[1:3]) for name in identifiers}) > 1
    return f"{named(identifiers)} {'are' if several else 'is'}"


def _tensors(found: Counterexample) -> tuple[str, ...]:
    contract = found.reference.layer.contract
    return ("out", *contract.gradients, *contract.state)


def _is_gradient(result: ItemResult) -> bool:
    """Whether the item is that of a gradient."""
    return any(result.item.check in found.reference.layer.contract.gradients for found in result.counterexamples)


def _cause(diagnosis: Sequence[str], tensors: Iterable[str]) -> Cause:
    """The sentences, each with a blank in the place of the tensor that it is said of: the first that it names."""
    any_of = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(tensors)))})\b")
    found = []
    for sentence in diagnosis:
        first = any_of.search(sentence)
        found.append(re.sub(rf"\b{re.escape(first.group())}\b", "...", sentence) if first else sentence)
    return frozenset(found)


def _either(sentences: Sequence[str]) -> str:
    return " Or: ".join(sentences)


def _same_question(one: Counterexample, other: Counterexample) -> bool:
    """Whether two failures are of wrong numbers in the same configuration."""
    first, second = one.case.configuration, other.case.configuration
    return (
        other.discrepancy.kind == "value"
        and other.steady
        and dict(first.options) == dict(second.options)
        and dict(first.shapes) == dict(second.shapes)
    )

"""One way to fail that calling the implementation again can show: wrong memory, state between calls, shapes, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Probe:
    """One possible cause of a failure, with a test for it.

    `sentence` is what is reported; "{tensor}" in it stands for the tensor that is wrong. `checks` are the items that it
    can explain, empty: any. `holds` takes a FailingCase (explaining/probes/failing_case.py). The probe is reported if
    `holds` is true of every failing case; it must be false wherever the cause is another one. `of_accuracy`: the tensor
    is right except for its rounding, which also explains items that compare results with each other.
    """

    sentence: str
    checks: tuple[str, ...]
    holds: Callable[[Any], bool]
    of_accuracy: bool = False


def of_each(
    names: Iterable[str], sentence: str, checks: tuple[str, ...], holds: Callable[[str, Any], bool]
) -> Iterator[Probe]:
    """The same probe for each of these arrays; "{name}" in the sentence stands for the array that `holds` is given."""
    return (Probe(sentence.replace("{name}", name), checks, partial(holds, name)) for name in names)

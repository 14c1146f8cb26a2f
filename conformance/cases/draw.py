"""Cases from Hypothesis: it supplies bytes, the layer's page makes a case of them."""

from __future__ import annotations

import warnings

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.tape import Tape

#: Bytes of a configuration and of its numbers; fixed lengths, so that neither moves when the other changes.
CONFIGURATION, NUMBERS = 40, 64


def cases(layer: Layer, space: Space) -> st.SearchStrategy[Case]:
    """The strategy that draws a case; the configuration and the numbers come from separate tapes.

    They are cut from one string of bytes: of two strings Hypothesis makes every other example anew by writing one over
    the other, so that half of all cases would repeat a configuration.
    """
    tapes = st.binary(min_size=CONFIGURATION + NUMBERS, max_size=CONFIGURATION + NUMBERS)
    return tapes.map(lambda data: case_from(layer, space, data[:CONFIGURATION], data[CONFIGURATION:]))


def case_from(layer: Layer, space: Space, configuration: bytes, numbers: bytes) -> Case:
    """The case of two tapes."""
    return layer.fill(layer.draw(Tape(configuration), space), Tape(numbers), space)


def drawn(layer: Layer, space: Space, examples: int, number: int) -> list[Case]:
    """So many cases of this seed, the same on every call."""
    found: list[Case] = []

    @seed(number)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(cases(layer, space))
    def collect(case: Case) -> None:
        found.append(case)

    if examples > 0:
        # What Hypothesis warns of (a cache that it cannot write, say) is no business of the candidate's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            collect()
    return found[:examples]

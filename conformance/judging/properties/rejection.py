"""What has no meaning gets no answer."""

from __future__ import annotations

from collections.abc import Iterator

from backproof.conformance.adapter.candidate import Candidate, Crashed, Refused
from backproof.conformance.judging.properties.property import OneItem, ScriptWriter, overrides
from backproof.conformance.judging.reference import Reference
from backproof.conformance.spec.case import Case
from backproof.conformance.spec.layer import Layer, Space
from backproof.conformance.spec.results import Discrepancy, Status


class Rejection(OneItem):
    """A case without meaning raises an error: in the forward, or for a dout of another shape in the backward."""

    name = "rejection"
    is_listed = True
    takes_invalid_cases = True

    def is_asked(self, candidate: Candidate) -> bool:
        """Only of an adapter that declares it."""
        return bool(candidate.adapter.settings["rejects"]) and overrides(candidate.layer, Layer.invalid_cases)

    def cases(self, layer: Layer, space: Space) -> Iterator[Case]:
        """The layer's cases without meaning."""
        return layer.invalid_cases(space)

    def asks_backward(self, item: str, tensor: str | None, layer: Layer) -> bool:
        """Not where the forward must already raise."""
        return tensor != "out" and tensor not in layer.contract.state

    def find(self, case: Case, candidate: Candidate, reference: Reference) -> Discrepancy | Status:
        """Makes the calls up to the one that must raise."""
        assert case.invalidity is not None
        function, tensor = f"{candidate.layer.name}_forward", "out"
        try:
            forward = candidate.forward(case)
            if case.invalidity.in_backward:
                function, tensor = f"{candidate.layer.name}_backward", candidate.layer.contract.gradients[0]
                candidate.backward(case, forward)
        except (Crashed, Refused):
            return Status.RIGHT
        sentence = f"{function} accepts {case.invalidity.words}. Such a case has no meaning: it must raise an error."
        return Discrepancy("accepted", tensor, sentence)

    def script(self, writer: ScriptWriter, item: str) -> bool:
        """Makes the calls, one of which must raise an error."""
        invalidity = writer.case.invalidity
        assert invalidity is not None
        writer.numbers(writer.case)
        writer.calls(writer.case.configuration)
        both = f"        backward(dout, forward({writer.passes()})[1])"
        alone = f"        forward({writer.passes()})"
        writer.judge = [
            "    try:",
            both if invalidity.in_backward else alone,
            "    except (Wrong, KeyboardInterrupt):",
            "        raise",
            "    except BaseException as error:",
            '        print(f"It is rejected, as it must be: {type(error).__name__}: {error}")',
            "        return 0",
            f"    print({f'It is accepted, and must raise an error: {invalidity.words}.'!r})",
            "    return 1",
        ]
        return True

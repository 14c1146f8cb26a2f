"""The one value that every report is made of: its JSON stays as it was, and nothing in it knows a layer by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from backproof.conformance.adapter.load import Adapter
from backproof.conformance.explaining.counterexample import Counterexample
from backproof.conformance.explaining.item_result import ItemResult
from backproof.conformance.judging.item import Item
from backproof.conformance.judging.properties import TENSORS
from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.build import item_record
from backproof.conformance.reporting.pages.annotations import annotations
from backproof.conformance.reporting.pages.html import html
from backproof.conformance.reporting.pages.markdown import markdown
from backproof.conformance.reporting.record import Report, builtins, item_of, report_of, schema, text
from backproof.conformance.reporting.terminal import shown
from backproof.conformance.spec.case import Case, Configuration
from backproof.conformance.spec.contract import Contract, Option, Setting, Signature
from backproof.conformance.spec.layer import Layer, Part
from backproof.conformance.spec.results import Discrepancy
from tests import reports
from tests.failures import STORIES

#: The records of the stories as schema 1 began; what is added to it does not change them.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "records.json").read_text(encoding="utf-8"))


def changed(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """The places where a value of the old record is another one in the new, or gone."""
    if isinstance(old, dict):
        for key, value in old.items():
            yield from changed(value, new.get(key, "gone"), f"{place}.{key}") if isinstance(new, dict) else [place]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from changed(one, other, f"{place}[{k}]")
    elif old != new or type(old) is not type(new):
        yield f"{place}: {old!r} is now {new!r}"


@pytest.mark.parametrize("name", STORIES)
def test_no_value_of_schema_1_changes(name: str) -> None:
    report = reports.content([builtins(STORIES[name]().record)])
    (item,) = json.loads(text(report))["items"]
    assert list(changed(GOLDEN[name], item)) == []


def test_a_change_is_noticed() -> None:
    assert len(list(changed({"a": [1, 2.0], "b": 3, "c": None}, {"a": [1, 2], "c": None, "d": 1}))) == 2


@pytest.mark.parametrize("name", STORIES)
def test_a_record_comes_back_from_json_as_it_was(name: str) -> None:
    content = json.loads(json.dumps(builtins(STORIES[name]().record)))
    assert json.loads(json.dumps(builtins(item_of(content)))) == content


def test_the_schema_knows_no_layer() -> None:
    words = json.dumps(schema())
    assert not [name for name in ("linear", "conv", "batchnorm", "stride", "padding", "eps", "gamma") if name in words]


# A layer that nobody has heard of


@dataclass(frozen=True)
class Echoes(Layer):
    """out = loudness * signal, with an option; only what reports ask of a layer is here."""

    contract: ClassVar[Contract] = Contract(
        "echoes",
        ("signal", "loudness"),
        1,
        (Option("wobble", 3), Option("tape", "new")),
        ("memory",),
        settings={"rooms": Setting((1,), "subset", (1, 2)), "walls": Setting("bare", "choice", ("bare", "soft"))},
    )

    def parts(self, settings: Any) -> tuple[Part, ...]:
        return tuple(Part(f"echoes{rooms}", None, (rooms,)) for rooms in settings["rooms"])


Echoes.__abstractmethods__ = frozenset()


def echoes(kind: str = "value", check: str = "dsignal", **facts: Any) -> Report:
    """A run in which one item of it fails."""
    layer = Echoes()  # type: ignore[abstract]
    arrays = {"signal": np.arange(6.0).reshape(2, 3), "loudness": None, "memory": np.ones(3), "dout": np.ones((2, 3))}
    shapes = {name: None if a is None else a.shape for name, a in arrays.items()}
    configuration = Configuration({}, shapes, {"wobble": 5, "tape": "new"}, {}, 1, 0)
    signature = Signature(("signal", "loudness"), frozenset(), frozenset(), ("wobble", "tape"), True, {}, ())
    reference: Any = SimpleNamespace(
        layer=layer,
        space=SimpleNamespace(signature=signature, settings={}),
        expected=lambda case: SimpleNamespace(tolerances={"dsignal": np.full((2, 3), 1e-9)}),
    )
    expected = np.ones((2, 3))
    got = np.where([[True, False, True], [True, True, True]], expected, np.nan)
    found: Any = Discrepancy(kind, "dsignal", "dsignal[0, 1] is nan.", expected, got)  # type: ignore[arg-type]
    counts = {"proved": True, "smaller_cases": 4, "region": "wobble > 3", "failed": 3, "passed": 9}
    failure = Counterexample(
        found, Case(configuration, "float64", arrays), reference, **{**counts, **facts}, property_=TENSORS
    )
    item = Item("echoes", "echoes1", None, check, "float64")
    result = ItemResult(item, "failed", 20, 0, 0, 0.1, (failure,), refused="refused some", property_=TENSORS)
    record = item_record(result, f"backproof::echoes1::{check}::float64", layer, {}, again="pytest again")
    return report_of(json.loads(text(reports.content([builtins(record)]))))


@pytest.mark.parametrize("kind", ["value", "shape", "dtype", "crash", "refused", "accepted", "state"])
def test_a_layer_of_invented_names_is_reported_in_every_format(kind: str, tmp_path: Path) -> None:
    layer = Echoes()  # type: ignore[abstract]
    report = echoes(kind)
    adapter = Adapter("adapter", None, None, None, {}, (), {"dtypes": ("float64",)}, None, None, ())
    terminal = shown(report.items[0])
    page, summary = html(report, [layer]), markdown(report)
    (annotation,) = annotations(report, adapter, tmp_path)
    assert "echoes_forward(signal, loudness=None, memory=memory, wobble=5)" in terminal
    for words in (terminal, page, summary, annotation):
        assert "wobble" in words
    if kind in ("value", "state"):
        assert "NaN" in page
        assert "nan*" in terminal
    if kind != "refused":
        assert "where wobble > 3: 3 of 3 cases; elsewhere 0 of 9." in terminal
    assert sentences.layer_summary(layer, report.items).startswith("echoes: does not conform: 1 of 1 items failed")


def test_a_layer_of_invented_settings_has_its_line_in_the_header() -> None:
    layer = Echoes()  # type: ignore[abstract]

    def line(**settings: Any) -> str:
        defaults = {name: setting.default for name, setting in layer.contract.settings.items()}
        implementation: Any = SimpleNamespace(contract=layer.contract, settings={**defaults, **settings})
        return sentences.layer_with_settings(layer, implementation)

    assert line() == "echoes (echoes1)"
    assert line(rooms=(1, 2), walls="soft") == "echoes (echoes1, echoes2; walls soft)"


def test_what_no_encoding_has_is_written_all_the_same() -> None:
    report = msgspec.structs.replace(echoes(), impl="a\udc80.py")
    assert json.loads(text(report))["impl"] == "a\udc80.py"

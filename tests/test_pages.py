"""The reports as people read them: the page, the summary for CI, the annotations."""

from __future__ import annotations

import copy
import itertools
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backproof.conformance.adapter.load import Adapter, load
from backproof.conformance.reporting.pages import sentences
from backproof.conformance.reporting.pages.annotations import annotations, command
from backproof.conformance.reporting.pages.arrays import channels_last, compare, numeric, planes
from backproof.conformance.reporting.pages.html import html
from backproof.conformance.reporting.pages.markdown import code, escaped, markdown
from backproof.conformance.reporting.pages.pictures import scene
from backproof.conformance.reporting.pages.windows import Windows, windows
from backproof.conformance.reporting.record import schema
from backproof.reference import CONTRACTS
from backproof.reference.textbook import conv_forward
from tests import reports

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """The elements of a page, each with its tag, attributes and text; wrong nesting is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs}, list[str]())
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text.append(data)

    def all(self, tag: str, **having: str) -> list[tuple[dict[str, str], str]]:
        """The attributes and the text of every such element; a class is one of several."""
        return [
            (attributes, " ".join("".join(text).split()))
            for name, attributes, text in self.elements
            if name == tag
            and all(value in attributes.get(key.rstrip("_"), "").split() for key, value in having.items())
        ]


@pytest.fixture(scope="module")
def everything() -> Page:
    return Page(html(reports.everything()))


def one(failure: dict[str, Any], part: str = "conv2d", check: str = "dx") -> Page:
    return Page(html(reports.content([reports.item(part, check, failures=[failure])])))


# The samples


def test_the_samples_are_reports() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(reports.everything(), schema())


# The page


def test_every_link_leads_somewhere_and_no_id_is_there_twice(everything: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes, _ in everything.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    links = [attributes["href"] for attributes, _ in everything.all("a")]
    assert len(links) > 10
    assert {link.removeprefix("#") for link in links} <= set(ids)
    named = [name for _, attributes, _ in everything.elements for name in attributes.get("aria-labelledby", "").split()]
    assert set(named) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(everything: Page) -> None:
    assert everything.all("script") == []
    fetching = ("src", "srcset", "action", "data", "poster", "background")
    assert [a for _, a, _ in everything.elements if any(name in a for name in fetching)] == []
    assert [
        a["href"] for _, a, _ in everything.elements if "href" in a and not a["href"].startswith(("#", "data:"))
    ] == []
    text = html(reports.everything())
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_a_candidate_says_is_text() -> None:
    text = html(reports.content([reports.item("conv2d", "out", failures=[reports.crash()])], impl=reports.HOSTILE))
    page = Page(text)
    assert "<script" not in text
    assert page.all("b", class_="bold") == []
    assert page.all("p", class_="message")[0][1] == " ".join(reports.crash()["message"].split())
    assert reports.HOSTILE in page.all("title")[0][1]
    assert reports.HOSTILE in page.all("pre")[0][1]


def test_the_matrix_has_every_item(everything: Page) -> None:
    found = reports.everything()
    (_, caption), *_ = everything.all("caption")
    assert caption == "Checks by part and dtype"
    outcomes = Counter(item["outcome"] for item in found["items"])
    for outcome, count in outcomes.items():
        assert len(everything.all("td", class_=outcome)) == count
    heads = [text for _, text in everything.all("th", scope="colgroup")]
    assert heads == ["conv1d", "conv2d", "conv3d", "batchnorm"]
    assert everything.all("td", class_="xfailed")[0][1].endswith("fails, known")
    assert everything.all("td", class_="error")[0][1].endswith("error")
    rows = [text for attributes, text in everything.all("th", scope="row")]
    assert rows[:8] == ["out", "dx", "dw", "db", "dgamma", "dbeta", "running_mean", "running_var"]


def test_failures_are_linked_to_from_the_matrix(everything: Page) -> None:
    texts = [text for attributes, text in everything.all("a") if attributes["href"] == "#conv2d-dx-float64"]
    assert texts == ["conv2d dx float64", "✗ fails", "✗ fails"]  # the second cell is of the item with the same cause
    articles = [attributes["id"] for attributes, _ in everything.all("article")]
    assert articles == [
        "conv1d-dx-float64",
        "conv2d-out-float64",
        "conv2d-dx-float64",
        "conv2d-dx-float64-2",
        "conv2d-purity-float32",
        "conv3d-out-float64",
        "batchnorm-dx-float64",
    ]


def test_a_failure_of_the_same_cause_is_told_there(everything: Page) -> None:
    (article,) = [text for attributes, text in everything.all("article", id="conv2d-dx-float64")]
    assert "conv2d identities float64 fails for the same reason: dx is wrong." in article


def test_a_failure_is_told_itself_where_the_other_is_not() -> None:
    for other in ("backproof::conv2d::out::float64", "backproof::conv2d::dx::float64"):
        alone = reports.item("conv2d", "dx", failures=[reports.failure("dx", {}, {})], same_as=other)
        assert len(Page(html(reports.content([alone]))).all("article")) == 1


def test_a_failure_has_its_facts(everything: Page) -> None:
    (article,) = [text for attributes, text in everything.all("article", id="conv2d-dx-float64")]
    for sentence in (
        "What explains it dx ignores the stride: its windows lie side by side.",
        "It fails where stride > 1 and remainder > 0: 61 of 61 failed; otherwise 0 of 139.",
        "No smaller configuration fails: 57 tried, every one there is, with every fill. Every single value is 0 or 1",
        "stride=2 padding=((1, 0), (0, 1))",
        "python '.backproof/reproduce conv2d.py'",
        "pytest --impl=mypkg.adapter --impl-profile=quick backproof::conv2d::dx::float64",
        "3 of 60 entries wrong",
        "One slice more is right",
    ):
        assert sentence in article
    (article,) = [text for attributes, text in everything.all("article", id="batchnorm-dx-float64")]
    assert "Step 2, xmu = x - mean." in article
    assert "It fails in all 150 cases that were judged." in article
    assert "Every option has its plain value." in article
    (article,) = [text for attributes, text in everything.all("article", id="conv1d-dx-float64")]
    assert "The error sits in 1 of 33 entries." in article
    assert "What would explain it" in article


def test_wrong_entries_are_marked_in_words_and_by_how_far_they_are_off() -> None:
    page = one(reports.strided_dx())
    assert [text for _, text in page.all("td", class_="wrong")] == ["wrong: 3.5", "wrong: ∞", "wrong: 0.25"]
    assert [text for _, text in page.all("td", class_="level4")] == ["+2.5"]
    assert [text for _, text in page.all("td", class_="level-2")] == ["\N{MINUS SIGN}0.75"]
    assert [text for _, text in page.all("td", class_="broken")] == ["+∞"]
    captions = [text for _, text in page.all("caption")]
    assert "difference, n = 0, c = 1" in captions
    assert "difference, n = 0, c = 0" not in captions


def test_results_of_different_shapes_stand_side_by_side() -> None:
    arrays = {"x": np.ones((1, 1, 2, 1)), "w": np.ones((1, 1, 1, 1)), "dout": np.ones((1, 1, 1, 1))}
    shape = reports.failure("out", arrays, reports.conv_options(stride=[2, 2]), kind="shape")
    text = one(shape | {"expected": [[[[1.0]]]], "got": [[[[1.0], [2.0]]]]}, check="out").all("article")[0][1]
    assert "out expected 1 × 1 × 1 × 1" in text  # noqa: RUF001
    assert "out got 1 × 1 × 2 × 1" in text  # noqa: RUF001


def test_every_picture_has_a_title_and_a_description(everything: Page) -> None:
    pictures = everything.all("svg", role="img")
    assert len(pictures) >= 6
    assert all(len(attributes["aria-labelledby"].split()) == 2 for attributes, _ in pictures)
    assert len(everything.all("title")) == len(everything.all("desc")) + 1 == len(pictures) + 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "conforms"),
        ({"complete": False, "conforms": None}, "has no verdict"),
        ({"conforms": False}, "does not conform"),
    ],
)
def test_a_run_without_failures_has_its_page(more: dict[str, Any], told: str) -> None:
    found = reports.content([reports.item("conv2d", check) for check in reports.CONV_CHECKS], **more)
    page = Page(html(found))
    assert page.all("h1")[0][1] == f"mypkg.adapter {told}"
    assert page.all("article") == []
    assert len(page.all("td", class_="passed")) == len(reports.CONV_CHECKS)
    assert page.all("summary")[-1][1] == "conv2d: 2 of 3 conditions met; never: no bias"


def test_a_run_of_nothing_has_its_page() -> None:
    page = Page(html(reports.content([], complete=False, conforms=None, cells={})))
    assert "No item was judged." in page.all("main")[0][1]
    assert page.all("table") == []


def test_reports_without_the_newer_keys_have_their_page() -> None:
    found = reports.everything()
    for name in ("profile", "seed"):
        del found[name]
    for item in found["items"]:
        for name in ("reason", "refused", "unjudged"):
            del item[name]
    assert Page(html(found)).all("article")
    assert "# " in markdown(found)


# The arrays


def test_the_planes_hold_every_entry_once() -> None:
    array = np.arange(120.0).reshape(2, 3, 4, 5)
    for names in (("n", "c", "h", "w"), ("n", "h", "w", "c")):
        found = planes(array, names)
        for plane in found:
            assert [[array[at] for at in row] for row in plane.indices] == plane.values.tolist()
        assert sorted(v for plane in found for v in plane.values.ravel()) == list(range(120))
    assert [plane.label for plane in planes(array, ("n", "h", "w", "c"))][:2] == ["n = 0, c = 0", "n = 0, c = 1"]
    assert planes(np.array(3.0), ())[0].indices == (((),),)
    assert planes(np.arange(2.0), ("c",))[0].indices == (((0,), (1,)),)


def test_numbers_that_json_has_no_words_for_are_read() -> None:
    found = numeric([["NaN", 1.0], ["Infinity", "-Infinity"]])
    assert found is not None
    assert np.array_equal(found, [[np.nan, 1], [np.inf, -np.inf]], equal_nan=True)


def compared(expected: Any, got: Any, dtype: str = "float64", **more: Any) -> Any:
    return compare(reports.failure("db", {}, {}, expected=expected, got=got, **more), "db", dtype)


def test_what_is_rounding_is_not_marked() -> None:
    expected = [1.0, 2.0, 1e-3]
    found = compared(expected, [1.0 + 1e-15, 2.5, 1e-3])
    assert [entry.wrong for entry in found.planes[0].entries[0]] == [False, True, False]
    assert found.first == (1,)
    assert compared(expected, [1.0 + 1e-15, 2.0, 1e-3]).wrong == 1  # there is nothing else
    assert compared(expected, [1.0001, 2.5, 1e-3], "bfloat16").wrong == 1
    assert compared(expected, [1.0001, 2.5, 1e-3]).wrong == 2
    assert compared(expected, [1.0001, 2.5, 1e-3], wrong=[False, True, False]).wrong == 1
    assert compared(["NaN", 1.0], ["NaN", 2.0]).wrong == 1


def test_numbers_have_as_many_digits_as_tell_them_apart() -> None:
    (entry,) = compared([0.1], [0.1 + 1e-11]).planes[0].entries[0]
    assert (entry.expected, entry.got) == ("0.1", "0.10000000001")


# The windows


def cases() -> Iterator[tuple[dict[str, Any], Windows]]:
    """Geometries of every sort."""
    random = np.random.default_rng(0)
    for k in range(60):
        rank, mode = 1 + k % 3, ("zeros", "reflect", "replicate", "circular")[k % 4]
        size, kernel, stride, dilation, low, high = random.integers(1, (6, 4, 4, 3, 4, 4), (rank, 6)).T.tolist()
        padding = [[a - 1, b - 1] for a, b in zip(low, high, strict=True)]
        groups, last = 1 + k % 2, bool(k % 5 == 0)
        options = reports.conv_options(
            rank, stride=stride, dilation=dilation, padding=padding, groups=groups, padding_mode=mode
        )
        shape = [1, *size, 2 * groups] if last else [1, 2 * groups, *size]
        arrays = {"x": np.zeros(shape), "w": np.ones((groups, 2, *kernel))}
        failure = reports.failure("dx", arrays, options, layout="channels_last" if last else "channels_first")
        if (geometry := windows(failure)) is not None:
            yield failure, geometry


def test_the_windows_reach_what_a_convolution_reaches() -> None:
    judged = list(cases())
    assert len(judged) > 20
    assert {geometry.rank for _, geometry in judged} == {1, 2, 3}
    assert {geometry.axes[2].mode for _, geometry in judged} == {"zeros", "reflect", "replicate", "circular"}
    for failure, geometry in judged:
        x, w = (np.array(failure["arrays"][name]) for name in ("x", "w"))
        x = np.moveaxis(x, -1, 1) if geometry.last else x
        for pixel in itertools.product(*(range(axis.size) for axis in geometry.axes)):
            lit = np.zeros_like(x)
            lit[(0, 0, *pixel[3 - geometry.rank :])] = 1
            out, _ = conv_forward(lit, w, **failure["options"])
            counts = Counter(output[3 - geometry.rank :] for output, _, _ in geometry.reaching(pixel))
            assert {at: int(out[(0, 0, *at)]) for at in np.ndindex(out.shape[2:]) if out[(0, 0, *at)]} == counts
        assert out.shape[2:] == geometry.outputs[3 - geometry.rank :]


def test_what_is_left_over_is_what_no_window_spans() -> None:
    for _, geometry in cases():
        for axis in geometry.axes:
            reached = axis.taps(axis.outputs - 1)[-1]
            assert list(axis.left_over) == [at for at in axis.positions if at > reached]


@pytest.mark.parametrize(
    ("change", "value"),
    [("stride", [0, 1]), ("padding", [[-1, 0], [0, 0]]), ("padding", [[0, 0], [0, 0]]), ("groups", 2)],
)
def test_a_case_without_meaning_has_no_picture(change: str, value: Any) -> None:
    arrays = {"x": np.ones((1, 1, 1, 2)), "w": np.ones((1, 1, 2, 2)), "dout": np.ones((1, 1, 1, 1))}
    failure = reports.failure("out", arrays, reports.conv_options(padding=[[1, 0], [0, 0]]))
    assert windows(failure) is not None
    failure["options"][change] = value
    if change == "groups":
        failure["shapes"]["x"][1] = 2
    assert windows(failure) is None
    assert scene(failure, "out", None, "a") is None


def test_the_layout_is_told_from_the_shapes() -> None:
    def is_last(x: tuple[int, ...], dout: tuple[int, ...], **more: Any) -> bool:
        arrays = {"x": np.ones(x), "w": np.ones((2, 3, 1, 1)), "dout": np.ones(dout)}
        return channels_last(reports.failure("dx", arrays, reports.conv_options(), **more))

    assert not is_last((1, 3, 4, 4), (1, 2, 4, 4))
    assert is_last((1, 4, 4, 3), (1, 4, 4, 2))
    assert not is_last((1, 3, 3, 3), (1, 2, 3, 3))
    assert is_last((1, 3, 3, 3), (1, 3, 3, 2))
    assert not is_last((1, 3, 3, 3), (1, 2, 2, 2))  # both fit
    assert not is_last((1, 4, 4, 3), (1, 4, 4, 5))  # neither does
    assert is_last((1, 3, 3, 3), (1, 2, 3, 3), layout="channels_last")
    arrays = {"x": np.ones((2, 5, 3)), "gamma": np.ones(3)}
    assert channels_last(reports.failure("dx", arrays, {"eps": 1e-5}))


def marks(failure: dict[str, Any], tensor: str, first: tuple[int, ...] | None, *having: str) -> list[int]:
    """How many cells with all these marks each picture has."""
    found = scene(failure, tensor, first, "a")
    assert found is not None
    drawn = [ElementTree.fromstring(drawing.svg) for drawing in found.drawings]
    cells = [[cell.get("class", "").split() for cell in svg.iter("g")] for svg in drawn]
    return [sum(set(having) <= set(cell) for cell in svg) for svg in cells]


def test_the_windows_are_drawn() -> None:
    failure = reports.strided_dx()
    # x has 5 x 6 positions, 4 x 5 of which are pixels; out has 2 x 3.
    assert marks(failure, "dx", (0, 1, 0, 2), "pixel") == [20, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "pad") == [10, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "left") == [6, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "wrong") == [1, 0]
    assert marks(failure, "dx", (0, 1, 0, 2), "output", "tap") == [0, 1]
    assert marks(failure, "dx", (0, 1, 3, 2), "tap") == [0, 0]
    assert marks(failure, "out", (0, 1, 1, 1), "tap") == [4, 1]
    assert marks(failure, "out", (0, 1, 1, 1), "wrong") == [0, 1]
    assert marks(failure, "dw", (0, 1, 1, 1), "tap") == [6, 6]
    assert marks(failure, "db", (0,), "tap") == [4, 1]
    assert marks(failure, "out", None, "tap") == [4, 1]
    assert marks(reports.volume_out(), "out", (0, 0, 1, 0, 1), "tap") == [4, 4, 1]
    assert marks(reports.wide_dx(), "dx", (0, 0, 7), "output", "tap") == [0, 2]


def test_what_is_left_over_has_a_corner() -> None:
    found = scene(reports.strided_dx(), "dx", (0, 1, 0, 2), "a")
    assert found is not None
    assert [len(list(ElementTree.fromstring(drawing.svg).iter("path"))) for drawing in found.drawings] == [6, 0]


def test_the_windows_are_told_in_words() -> None:
    def told(tensor: str, first: tuple[int, ...]) -> list[str]:
        found = scene(reports.strided_dx(), tensor, first, "a")
        assert found is not None
        return list(found.sentences)

    left = "Behind the last window is left over: h = 3."
    reached = (
        "x[0, 1, 0, 2] is read for output (0, 1) by tap (1, 0), so dx[0, 1, 0, 2] has one term a filter of its group."
    )
    assert told("dx", (0, 1, 0, 2)) == [reached, left]
    assert told("dx", (0, 1, 3, 2))[0] == "No window reads x[0, 1, 3, 2], so dx[0, 1, 3, 2] must be 0."
    below = "\N{MINUS SIGN}1, 0; w = 2, 3 (below 0 is padding)."
    assert told("out", (0, 1, 0, 1))[0] == f"out[0, 1, 0, 1] reads x at h = {below}"


def test_a_large_image_is_not_drawn() -> None:
    arrays = {"x": np.ones((1, 1, 1, 60)), "w": np.ones((1, 1, 1, 1)), "dout": np.ones((1, 1, 1, 60))}
    found = scene(reports.failure("dx", arrays, reports.conv_options()), "dx", None, "a")
    assert found is not None
    assert found.drawings == ()
    assert found.sentences[-1] == "The image is too large to be drawn here."


# The words


def test_minimality_says_no_more_than_was_tried() -> None:
    def told(proved: bool, count: int, **more: Any) -> str:
        minimal = {"proved": proved, "smaller_cases_checked": count}
        return sentences.minimality(reports.failure("dx", {}, {}, minimal=minimal, **more))

    assert told(True, 57) == "No smaller configuration fails: 57 tried, every one there is, with every fill."
    assert told(True, 0) == "There is no smaller configuration."
    assert "others are untried" in told(False, 57)
    assert told(False, 0) == "The first found; smaller cases were not tried."
    assert told(False, 0, unexplained="The time was up.") == "The time was up."
    assert "does not fail every time" in told(False, 0, steady=False)
    assert told(True, 1, plain=True).endswith("one tried, every one there is, with every fill. "
                                              "Every single value is 0 or 1 or needed.")  # fmt: skip


# The summary


def test_the_summary_is_short_and_has_what_counts() -> None:
    text = markdown(reports.everything())
    assert text.startswith("## mypkg.adapter does not conform\n")
    assert "| check | conv1d float64 | conv1d float32 |" in text
    assert "- Where: It fails where stride &gt; 1 and remainder &gt; 0: 61 of 61 failed; otherwise 0 of 139." in text
    assert "- Options: `stride=2`, `padding=((1, 0), (0, 1))`" in text
    assert "- Reproduce: `python '.backproof/reproduce conv2d.py'`" in text
    assert "- Likewise: conv2d identities float64: dx is wrong." in text
    assert text.count("<details>") == text.count("\n</details>\n") == 7
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def outside_of_code(text: str) -> str:
    """What a summary has that is not code: neither blocks nor spans."""
    blocks = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<![`\\])(`+)(?!`)(?:.|\n)*?(?<!`)\1(?!`)", "", blocks)


def test_the_summary_takes_what_a_candidate_says_for_text() -> None:
    found = reports.content([reports.item("conv2d", "out", failures=[reports.crash()])], impl=reports.HOSTILE)
    text = outside_of_code(markdown(found))
    assert set(re.findall(r"</?\w+", text)) == {"<details", "</details", "<summary", "</summary", "<sub", "</sub"}
    assert text.count("</details>") == 1
    assert re.findall(r"(?<!\\)(?:[\[\]$`])|@", text) == []
    assert "alert" in text


def test_text_stays_text_at_the_beginning_of_a_line() -> None:
    assert [escaped(line)[0] for line in ("- a", "+ a", "1. a", "# a", "> a", "=")] == ["&", "&", "&", "\\", "&", "&"]
    assert escaped("a\n\nb") == "a b"


def test_code_is_fenced_by_more_backticks_than_it_has() -> None:
    assert code("a") == "`a`"
    assert code("a``b`c") == "```a``b`c```"
    assert code("`a`") == "`` `a` ``"


def test_the_summary_is_cut_at_its_limit() -> None:
    failing = [
        reports.item("conv2d", f"{check}", d, [reports.strided_dx()]) for check in "abcdef" for d in ("float64",)
    ]
    whole = markdown(reports.content(failing))
    for limit in (len(whole.encode()), len(whole.encode()) - 1, 3000, 1500):
        text = markdown(reports.content(failing), limit)
        assert len(text.encode()) <= limit
        assert ("left out here" in text) == (limit < len(whole.encode()))
        assert text.count("<details>") == text.count("</details>")
    assert "5 failures more are left out here" in markdown(reports.content(failing), 3000)
    assert "too long for this place" in markdown(reports.content(failing), 250)


# The annotations

ADAPTER = """
    import functools

    def decorated(function):
        @functools.wraps(function)
        def call(*arguments, **options):
            return function(*arguments, **options)
        return call

    @decorated
    def conv_forward(x, w, stride=1):
        raise ValueError

    def _backward(scale, dout, cache):
        return None

    conv_backward = functools.partial(_backward, 1)
"""


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "an adapter.py"
    file.write_text(textwrap.dedent(ADAPTER))
    return load(str(file), CONTRACTS, tmp_path)


def properties(line: str) -> dict[str, str]:
    found = re.fullmatch(r"::error ([^:]*)::.*", line)
    assert found is not None
    return dict(pair.split("=", 1) for pair in found[1].split(","))


def annotated(adapter: Adapter, root: Path, failure: dict[str, Any], check: str) -> dict[str, str]:
    (line,) = annotations(reports.content([reports.item("conv2d", check, failures=[failure])]), adapter, root)
    return properties(line)


def test_an_annotation_is_on_the_def_of_what_is_wrong(adapter: Adapter, tmp_path: Path) -> None:
    text = (tmp_path / "package" / "an adapter.py").read_text().splitlines()
    forward, backward = (1 + text.index(next(line for line in text if f"def {name}(" in line)) for name in
                         ("conv_forward", "_backward"))  # fmt: skip
    found = annotated(adapter, tmp_path, reports.strided_dx(), "dx")
    assert found == {
        "file": "package/an adapter.py",
        "line": str(backward),
        "title": "Backproof%3A conv2d dx float64",
    }
    assert annotated(adapter, tmp_path, {**reports.strided_dx(), "tensor": "out"}, "memory_layout")["line"] == str(
        forward
    )


def test_an_annotation_of_a_crash_is_on_the_line_that_raised(adapter: Adapter, tmp_path: Path) -> None:
    inside, outside = tmp_path / "kernels.py", tmp_path / "venv" / "site-packages" / "torch.py"
    crash = reports.crash(str(inside), 7)
    frames = f'  File "{inside}", line 7, in f\n    g()\n  File "{outside}", line 9, in g\n    raise\nValueError: a\n'
    own = tmp_path / "package" / "an adapter.py"
    crash["traceback"] = f'Traceback (most recent call last):\n  File "{own}", line 12, in conv_forward\n{frames}'
    found = annotated(adapter, tmp_path, crash, "out")
    assert (found["file"], found["line"]) == ("kernels.py", "7")


def test_an_annotation_has_no_file_where_it_is_not_in_the_checkout(adapter: Adapter, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    found = annotated(adapter, tmp_path / "elsewhere", reports.strided_dx(), "dx")
    assert list(found) == ["title"]


def test_a_command_is_escaped() -> None:
    line = command("error", {"file": "a,b:c%d", "title": "x\ny"}, "50%: a, b\r\nc")
    assert line == "::error file=a%2Cb%3Ac%25d,title=x%0Ay::50%25: a, b%0D%0Ac"
    assert command("notice", {}, "a") == "::notice::a"


def test_annotations_tell_what_to_do(adapter: Adapter, tmp_path: Path) -> None:
    lines = annotations(reports.everything(), adapter, tmp_path)
    assert len(lines) == 6  # a known failure is none
    assert all("\n" not in line for line in lines)
    (line,) = [line for line in lines if "%3A conv2d dx float64::dx[" in line]
    assert line.split("::", 2)[2].split("%0A") == [
        "dx[0, 1, 0, 2] is 3.5, must be 1 (off by 2.5). 3 of 60 entries are wrong.",
        "With stride=2, padding=((1, 0), (0, 1)).",
        "It fails where stride > 1 and remainder > 0: 61 of 61 failed; otherwise 0 of 139.",
        "dx ignores the stride: its windows lie side by side.",
        "Reproduce: python '.backproof/reproduce conv2d.py'",
        "For the same reason fails conv2d identities float64.",
    ]


def test_no_more_annotations_than_are_shown(adapter: Adapter, tmp_path: Path) -> None:
    def lines(count: int) -> list[str]:
        failing = [reports.item("conv2d", f"check_{k}", failures=[reports.strided_dx()]) for k in range(count)]
        return annotations(reports.content(copy.deepcopy(failing)), adapter, tmp_path)

    assert len(lines(10)) == 10
    assert len(lines(13)) == 10
    assert lines(13)[-1].endswith(
        "::4 more failures: " + ", ".join(f"conv2d check_{k} float64" for k in range(9, 13)) + "."
    )


def test_an_annotation_is_on_the_adapter_where_its_functions_have_no_file(tmp_path: Path) -> None:
    file = tmp_path / "built.py"
    file.write_text("exec('def linear_forward(x, w): ...\\ndef linear_backward(dout, cache): ...')\n")
    adapter = load(str(file), CONTRACTS, tmp_path)
    found = reports.content([reports.item("linear", "dx", failures=[reports.batch_dx()])])
    assert properties(annotations(found, adapter, tmp_path)[0])["file"] == "built.py"

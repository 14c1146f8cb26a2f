"""The reports as people read them: the page, the summary for CI, the annotations."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from backproof.conformance.reporting import sentences
from backproof.conformance.reporting.pages.arrays import compare, planes
from backproof.conformance.reporting.pages.html import html
from backproof.conformance.reporting.pages.markdown import code, escaped, markdown
from backproof.conformance.reporting.record import Report, builtins, report_of, schema
from backproof.conformance.reporting.record import text as json_text
from backproof.conformance.reporting.terminal import shown
from backproof.reference import LAYERS
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


def opened(report: Report) -> Page:
    return Page(html(report, LAYERS))


@pytest.fixture(scope="module")
def everything() -> Page:
    return opened(reports.everything())


def one(failure: dict[str, Any], part: str = "conv2d", check: str = "dx") -> Page:
    return opened(reports.content([reports.item(part, check, failures=[failure])]))


# The samples


def test_the_samples_are_reports() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(json_text(reports.everything())), schema())


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
    text = html(reports.everything(), LAYERS)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_a_candidate_says_is_text() -> None:
    text = html(
        reports.content([reports.item("conv2d", "out", failures=[reports.crash()])], impl=reports.HOSTILE), LAYERS
    )
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
    outcomes = Counter(item.outcome for item in found.items)
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
        assert len(opened(reports.content([alone])).all("article")) == 1


def test_a_failure_has_its_facts(everything: Page) -> None:
    (article,) = [text for attributes, text in everything.all("article", id="conv2d-dx-float64")]
    for sentence in (
        "Why dx ignores the stride: its windows lie side by side.",
        "It fails like this where stride > 1 and remainder > 0: 61 of 61 cases; elsewhere 0 of 139.",
        "No smaller configuration fails (57 cases tried, every fill of each); every number is 0 or 1 or needed.",
        "stride=2 padding=((1, 0), (0, 1))",
        "python '.backproof/reproduce conv2d.py'",
        "pytest --impl=mypkg.adapter --impl-profile=quick backproof::conv2d::dx::float64",
        "3 of 60 entries wrong",
        "One slice more is right",
    ):
        assert sentence in article
    (article,) = [text for attributes, text in everything.all("article", id="batchnorm-dx-float64")]
    assert "2: xmu = x - mean (see backproof.textbook.batchnorm_backward)" in article
    assert "It fails in all 150 cases." in article
    assert "Every option has its plain value." in article
    (article,) = [text for attributes, text in everything.all("article", id="conv3d-out-float64")]
    assert "No known mistake gives this result." in article
    assert "The error sits in 1 of 8 entries." in article
    (article,) = [text for attributes, text in everything.all("article", id="conv1d-dx-float64")]
    assert "Why One thing. or: Or another, which gives the same." in article


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
    page = opened(found)
    assert page.all("h1")[0][1] == f"mypkg.adapter {told}"
    assert page.all("article") == []
    assert len(page.all("td", class_="passed")) == len(reports.CONV_CHECKS)
    assert page.all("summary")[-1][1] == "conv2d: 2 of 3 conditions met; never: no bias"


def test_a_run_of_nothing_has_its_page() -> None:
    page = opened(reports.content([], complete=False, conforms=None, cells={}))
    assert "No item was judged." in page.all("main")[0][1]
    assert page.all("table") == []


def test_reports_without_the_newer_keys_have_their_page() -> None:
    found = builtins(reports.everything())
    for name in ("profile", "seed"):
        del found[name]
    for item in found["items"]:
        for name in ("reason", "refused", "unjudged", "again", "kept"):
            del item[name]
        for failure in item["failures"]:
            for name in ("wrong", "columns", "calls", "neutral", "unread", "axes", "orders"):
                del failure[name]
    report = report_of(found)
    assert opened(report).all("article")
    assert "# " in markdown(report)


# The arrays


def test_the_planes_hold_every_entry_once() -> None:
    array = np.arange(120.0).reshape(2, 3, 4, 5)
    labels = {}
    for orders in ({}, {"x": [0, 2, 3, 1]}):
        names = [("n", "c", "h", "w")[k] for k in orders.get("x", range(4))]
        failure = reports.typed(reports.failure("dx", {}, {}, axes={"x": names}, orders=orders))
        found = planes(array, "x", failure)
        for plane in found:
            assert [[array[at] for at in row] for row in plane.indices] == plane.values.tolist()
        assert sorted(v for plane in found for v in plane.values.ravel()) == list(range(120))
        labels[len(orders)] = [(plane.label, plane.rows, plane.columns) for plane in found][:2]
    assert labels[0] == labels[1] == [("n = 0, c = 0", "h", "w"), ("n = 0, c = 1", "h", "w")]
    assert planes(np.array(3.0), "x", failure)[0].indices == (((),),)
    assert planes(np.arange(2.0), "x", failure)[0].indices == (((0,), (1,)),)


def test_numbers_that_json_has_no_words_for_are_read() -> None:
    got = [["NaN", 1.0], ["Infinity", "-Infinity"]]
    report = reports.content([reports.item("conv2d", "dx", failures=[reports.failure("dx", {}, {}, got=got)])])
    found = report.items[0].failures[0].got
    assert found is not None
    assert np.array_equal(found, [[np.nan, 1], [np.inf, -np.inf]], equal_nan=True)
    assert json.loads(json_text(report))["items"][0]["failures"][0]["got"] == got


def compared(expected: Any, got: Any, dtype: str = "float64", **more: Any) -> Any:
    return compare(reports.typed(reports.failure("db", {}, {}, expected=expected, got=got, **more), dtype), "db")


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


# The words


def test_minimality_says_no_more_than_was_tried() -> None:
    def said(proved: bool, count: int, listed: bool = False, **more: Any) -> str:
        minimal = {"proved": proved, "smaller_cases_checked": count, "listed": listed}
        return sentences.smallest(reports.typed(reports.failure("dx", {}, {}, minimal=minimal, **more)))

    numbers = "plainer numbers were not all tried."
    assert said(True, 57) == f"No smaller configuration fails (57 cases tried, every fill of each); {numbers}"
    assert said(True, 0) == f"There is no smaller configuration; {numbers}"
    assert "others were not tried" in said(False, 57)
    assert said(False, 0) == f"The first found, none that is smaller was tried; {numbers}"
    assert said(False, 0, unexplained="the time was up.") == "Not looked for; the time was up."
    assert "does not fail every time" in said(False, 0, steady=False)
    assert said(True, 1, plain=True).endswith("(1 case tried, every fill of each); every number is 0 or 1 or needed.")
    assert said(False, 3, listed=True) == "The first that fails of the item's list, after 3 cases."


def test_every_format_has_the_same_sentences() -> None:
    report = reports.everything()
    page = " ".join(words for _, words in opened(report).all("article"))
    summary, checked = markdown(report), 0
    for item, failure, _ in sentences.entries(report):
        terminal = " ".join(shown(item).split())
        for _, facts in sentences.facts(item, failure):
            for fact in facts:
                assert escaped(fact) in summary
                assert " ".join(fact.split()) in page
                assert " ".join(fact.split()) in terminal
                checked += 1
    assert checked > 15


# The summary


def test_the_summary_is_short_and_has_what_counts() -> None:
    text = markdown(reports.everything())
    assert text.startswith("## mypkg.adapter does not conform\n")
    assert "| check | conv1d float64 | conv1d float32 |" in text
    assert (
        "- Where: It fails like this where stride &gt; 1 and remainder &gt; 0: 61 of 61 cases; elsewhere 0 of 139."
        in text
    )
    assert "- Options: `stride=2`, `padding=((1, 0), (0, 1))`" in text
    assert "- Reproduce: `python '.backproof/reproduce conv2d.py'`" in text
    assert "- Likewise: conv2d identities float64 fails for the same reason: dx is wrong." in text
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

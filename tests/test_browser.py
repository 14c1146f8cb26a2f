"""The page in a browser: it opens without errors, fits a phone, and can be used by keyboard and by screen reader."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backproof.conformance.reporting.pages.html import html
from backproof.conformance.reporting.record import report_of
from backproof.reference import LAYERS
from tests import reports

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

#: Under which names a Chromium, or a browser made of it, is installed.
NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = {"phone": 320, "desktop": 1280}
SCHEMES = ("light", "dark")
#: Contrast of text with what is behind it, by WCAG 2.2, level AA.
LEAST_CONTRAST = 4.5
#: A fault whose failure is found in a second.
FAULT = "backproof.plugins.gallery:rounds_the_output_size_up"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("Chromium is not installed: neither the system's (apt-get install chromium) nor playwright's")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = driver.chromium.launch(executable_path=path, args=flags)
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of a run in which all of it fails, of one that conforms, of none, and of a real run."""
    folder = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "pytest", f"--impl={FAULT}", "--impl-profile=quick", "--impl-examples=5"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command += ["--impl-report=report.json"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    passing = [reports.item("conv2d", check) for check in reports.CONV_CHECKS]
    contents = {
        "everything": reports.everything(),
        "conforms": reports.content(passing),
        "nothing": reports.content([], complete=False, conforms=None, cells={}),
        "real": report_of(json.loads((folder / "report.json").read_text())),
    }
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(html(content, LAYERS), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


def opened(browser: Any, file: Path, size: str, scheme: str) -> Iterator[Any]:
    """The page as a visitor has it; whatever it complains of, or fetches, is an error."""
    context = browser.new_context(viewport={"width": WIDTHS[size], "height": 800}, color_scheme=scheme)
    context.set_default_timeout(10_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.as_uri())
    # Folded parts are looked at too.
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(params=[(size, scheme) for size in WIDTHS for scheme in SCHEMES], ids="-".join)
def page(browser: Any, files: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from opened(browser, files["everything"], *request.param)


def test_the_matrix_and_the_pictures_are_seen(page: Any) -> None:
    assert page.locator("table.matrix").is_visible()
    assert page.locator("table.matrix td").count() == 12 * 8
    pictures = page.locator("svg[role=img]")
    assert pictures.count() >= 6
    for k in range(pictures.count()):
        box = pictures.nth(k).bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 20
    assert page.locator("td.wrong").first.is_visible()


@pytest.mark.parametrize("name", ["everything", "conforms", "nothing", "real"])
def test_no_page_scrolls_sideways(browser: Any, files: dict[str, Path], name: str) -> None:
    for size in WIDTHS:
        for page in opened(browser, files[name], size, "light"):
            assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[size]


def test_what_is_wide_scrolls_in_a_region_that_the_keyboard_reaches(page: Any) -> None:
    script = """[...document.querySelectorAll('body *')].filter(each =>
        each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX == 'auto')
        .map(each => [each.tabIndex, each.getAttribute('role'), each.getAttribute('aria-label')])"""
    wide = page.evaluate(script)
    assert all(index == 0 and role == "region" and label for index, role, label in wide)
    assert len({label for _, _, label in wide}) == len(wide)
    if page.viewport_size["width"] == WIDTHS["phone"]:
        assert len(wide) >= 3


FOCUSABLE = "a[href], summary, [tabindex='0']"
FOCUSED = """() => { const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
    return {tag: it.tagName, text: it.textContent.trim().slice(0, 40), top: box.top + scrollY, height: box.height,
            seen: style.outlineStyle != 'none' && parseFloat(style.outlineWidth) >= 2 && box.bottom > 0}; }"""


def test_the_keyboard_walks_through_the_page_in_its_order(page: Any) -> None:
    stops = []
    for _ in range(400):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop["tag"] == "BODY":
            break
        stops.append(stop)
    focusable = page.locator(FOCUSABLE).count()
    assert len(stops) == focusable
    assert stops[0]["text"] == "Skip to the verdict"
    assert all(stop["seen"] for stop in stops)
    script = "found => [...document.querySelectorAll(found)].map(each => each.textContent.trim().slice(0, 40))"
    assert [stop["text"] for stop in stops] == page.evaluate(script, FOCUSABLE)


def test_the_first_link_leads_past_the_header(page: Any) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_summary_opens_by_keyboard(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
    page.locator("summary").last.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").last.evaluate("each => each.open")


def test_a_link_of_the_matrix_leads_to_its_failure(page: Any) -> None:
    page.locator("table.matrix td.failed a").first.press("Enter")
    assert page.locator("article:target").count() == 1
    page.wait_for_function("Math.abs(document.querySelector('article:target').getBoundingClientRect().top) < 400")


#: Of every text that is seen, its colour and that of the nearest background; in a picture, that of the cell's rect.
COLOURS = """() => {
    const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = colour => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
                            return [...probe.getImageData(0, 0, 1, 1).data]; };
    const behind = each => { for (let it = each; it; it = it.parentElement) {
        const found = rgb(getComputedStyle(it).backgroundColor); if (found[3] == 255) return found; }
        return rgb('white'); };
    const found = [];
    for (const each of document.querySelectorAll('body *')) {
        const drawn = each.tagName == 'text';
        const own = [...each.childNodes].some(node => node.nodeType == 3 && node.textContent.trim());
        if (!own || ['title', 'desc', 'STYLE'].includes(each.tagName) || !each.getClientRects().length) continue;
        const style = getComputedStyle(each);
        const rect = drawn && each.parentElement.querySelector(':scope > rect');
        const fill = rect && getComputedStyle(rect).fill;
        found.push([each.textContent.trim().slice(0, 30), rgb(drawn ? style.fill : style.color),
                    fill && fill != 'none' ? rgb(fill) : behind(each)]);
    }
    return found; }"""


def luminance(colour: list[int]) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[int], other: list[int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_stands_out_from_what_is_behind_it(page: Any) -> None:
    found = page.evaluate(COLOURS)
    assert len(found) > 300
    weak = {
        (text, round(contrast(ink, paper), 2)) for text, ink, paper in found if contrast(ink, paper) < LEAST_CONTRAST
    }
    assert weak == set()


def test_every_step_of_the_heat_map_can_be_read_and_told_apart(page: Any) -> None:
    classes = [f"level{k}" for k in range(-4, 5)] + ["broken"]
    cells = "".join(f'<table><tbody><tr><td class="{name}">1</td></tr></tbody></table>' for name in classes)
    page.evaluate("cells => { document.querySelector('main').innerHTML = cells; }", cells)
    found = [(ink, paper) for text, ink, paper in page.evaluate(COLOURS) if text == "1"]
    assert len(found) == len(classes)
    assert [name for name, pair in zip(classes, found, strict=True) if contrast(*pair) < LEAST_CONTRAST] == []
    assert len({tuple(paper) for _, paper in found}) == len(classes)


def violations(page: Any) -> list[str]:
    """What axe-core has against the page, best practices included."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page)
    return [f"{each['impact']} {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found.response["violations"]]


def test_axe_finds_nothing(page: Any) -> None:
    assert violations(page) == []


@pytest.mark.parametrize("name", ["conforms", "nothing", "real"])
def test_axe_finds_nothing_on_the_other_pages(browser: Any, files: dict[str, Path], name: str) -> None:
    for page in opened(browser, files[name], "desktop", "dark"):
        assert violations(page) == []


def test_a_real_run_has_its_failure_on_the_page(browser: Any, files: dict[str, Path]) -> None:
    for page in opened(browser, files["real"], "desktop", "light"):
        assert page.locator("h1").inner_text().endswith("does not conform")
        assert (
            page.locator("article .message").first.inner_text() == "out has shape (1, 1, 2, 1), must be (1, 1, 1, 1)."
        )
        assert page.locator("svg[role=img]").first.is_visible()


def test_headings_stand_in_order(page: Any) -> None:
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => Number(each.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_checks_notice_what_is_bad(browser: Any, tmp_path: Path) -> None:
    """The same checks on a page that has all of it wrong."""
    bad = (
        "<!doctype html><html><body><h1>a</h1><h3>b</h3><img src='data:,'><p style='color: #aaa'>pale</p>"
        "<svg width='40' height='20'><g><rect fill='#888' width='40' height='20'/><text fill='#777'>1</text></g></svg>"
        "<div style='width: 3000px'>wide</div></body></html>"
    )
    (tmp_path / "bad.html").write_text(bad)
    for page in opened(browser, tmp_path / "bad.html", "phone", "light"):
        found = {line.split(" ")[1].rstrip(":") for line in violations(page)}
        assert {"html-has-lang", "image-alt", "heading-order", "color-contrast", "landmark-one-main"} <= found
        pale = {text for text, ink, paper in page.evaluate(COLOURS) if contrast(ink, paper) < LEAST_CONTRAST}
        assert pale == {"pale", "1"}
        assert page.evaluate("document.documentElement.scrollWidth") > WIDTHS["phone"]


@pytest.mark.parametrize(
    "complaint", ["console.error('bad')", "new Image().src = 'http://localhost:9/'", "setTimeout(() => { throw 1; })"]
)
def test_a_complaint_of_the_page_is_noticed(browser: Any, tmp_path: Path, complaint: str) -> None:
    (tmp_path / "bad.html").write_text(f"<!doctype html><title>a</title><script>{complaint}</script>")
    visit = opened(browser, tmp_path / "bad.html", "phone", "light")
    next(visit).wait_for_timeout(50)
    with pytest.raises(AssertionError):
        next(visit)

"""report.html in a real browser: no fault, no request, nothing wider than a phone, and every text readable."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.render import render
from tests.reports.browser import PROGRAM, Page, page
from tests.reports.complete import complete

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium or Chrome: apt install chromium")
MakeRun = Callable[..., Path]
CONTRAST = 4.5  # of normal text, WCAG 2.2 level AA
LOOKS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]

# Every visible text with its contrast to what is behind it. Colours of any notation become numbers on a canvas.
CONTRASTS = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const numbers = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(numbers(getComputedStyle(at).backgroundColor));
    const page = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reduceRight((below, layer) => over(layer, below), page);
  };
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || element.closest("script, style, title") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const colour = over(numbers(element instanceof SVGElement ? style.fill : style.color), ground);
    const [one, other] = [light(colour), light(ground)];
    found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), text]);
  }
  return found;
})()"""
OPEN_ALL = "document.querySelectorAll('details').forEach((folded) => { folded.open = true; })"
# Every figure has a text alternative; marks that only decorate are hidden from readers of text.
UNNAMED = """[...document.querySelectorAll("svg, img")]
  .filter((figure) => !figure.parentElement.closest("svg, [role=img]") && figure.getAttribute("aria-hidden") !== "true")
  .filter((figure) => !(figure.alt || (figure.getAttribute("role") === "img" && figure.getAttribute("aria-label"))))
  .map((figure) => figure.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a browser that all tests of this file share."""
    with page(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def report(make_run: MakeRun) -> Path:
    wrong = {"baseline-fp32": range(0, 60, 3), "student-int8": range(0, 80, 2)}
    out = complete(make_run(wrong=wrong, max_drop=3.0))
    render(out)
    return out / "report.html"


def faults(opened: Page) -> list[Any]:
    logged = [entry["entry"] for entry in opened.seen("Log.entryAdded")]
    return [*logged, *opened.seen("Runtime.exceptionThrown"), *opened.seen("Runtime.consoleAPICalled")]


def requested(opened: Page, file: Path) -> list[str]:
    """The addresses that were requested besides the file itself; what is inside of it has addresses that begin with data."""
    addresses = [request["request"]["url"] for request in opened.seen("Network.requestWillBeSent")]
    return [address for address in addresses if address != file.resolve().as_uri() and not address.startswith("data:")]


def width(opened: Page) -> int:
    return int(opened.run("document.documentElement.scrollWidth"))


def unreadable(opened: Page) -> list[tuple[float, str]]:
    return [(round(contrast, 2), text) for contrast, text in opened.run(CONTRASTS) if contrast < CONTRAST]


def test_the_report_in_a_browser(opened: Page, report: Path) -> None:
    for wide, scheme in LOOKS:
        look = f"{wide} pixels, {scheme}"
        opened.open(report, wide, scheme)
        assert width(opened) <= wide, look
        opened.run(OPEN_ALL)
        assert width(opened) <= wide, f"{look}, with everything unfolded"
        assert unreadable(opened) == [], look
        assert opened.run(UNNAMED) == [], look
        assert len(opened.run(CONTRASTS)) > 300, "the texts were looked at"
        assert faults(opened) == [], look
        assert requested(opened, report) == [], look


@pytest.mark.parametrize(("labelled", "verdict", "lost"), [(True, "pass", 0), (True, "fail", 200), (False, "pass", 0)])
def test_every_verdict_is_readable(opened: Page, make_run: MakeRun, labelled: bool, verdict: str, lost: int) -> None:
    wrong = {"baseline-fp32": range(0), "student-int8": range(lost)}
    out = make_run(labelled=labelled, wrong=wrong, held_out={key: range(0) for key in wrong})
    assert render(out).gate.verdict == verdict
    for scheme in ("light", "dark"):
        opened.open(out / "report.html", 400, scheme)
        assert unreadable(opened) == [] and width(opened) <= 400 and faults(opened) == [], scheme


def test_tables_sort_with_the_keyboard(opened: Page, report: Path) -> None:
    table = "document.querySelector('#classes ~ .scroll table')"
    head = f"{table}.tHead.rows[0].cells[4]"
    lost = f"[...{table}.tBodies[0].rows].map((row) => parseFloat(row.cells[4].innerText.replace('−', '-')))"
    opened.open(report, 1280)
    before = opened.run(lost)
    opened.run(f"{head}.querySelector('button').focus()")
    opened.press("Enter")
    assert opened.run(lost) == sorted(before) != before
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    opened.press("Enter")
    assert opened.run(lost) == sorted(before, reverse=True)
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "descending"
    assert faults(opened) == []


def test_it_prints(opened: Page, report: Path) -> None:
    opened.open(report, 1280)
    printed = opened.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    opened.call("Emulation.setEmulatedMedia", media="print")
    opened.call("Emulation.setDeviceMetricsOverride", width=1047, height=700, deviceScaleFactor=1, mobile=False)
    assert width(opened) <= 1047, "A4, landscape, with margins of 10 mm"


def test_each_fault_would_be_found(opened: Page, tmp_path: Path) -> None:
    file = tmp_path / "faulty.html"
    file.write_text(
        "<!doctype html><body style='background: #fff'><p style='color: #999'>grey</p><svg></svg>"
        "<div style='width: 900px'>wide</div><img src='http://localhost:9/x.png' alt='x'><script>undefinedName()</script>"
    )
    opened.open(file, 400)
    assert width(opened) > 400
    assert [text for _, text in unreadable(opened)] == ["grey"]
    assert len(opened.run(UNNAMED)) == 1
    assert requested(opened, file) == ["http://localhost:9/x.png"]
    assert any("undefinedName" in str(fault) for fault in faults(opened))

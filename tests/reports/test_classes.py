"""What each class lost, which images, and how both look in the reports whatever their names are."""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.classes import spread
from reports.render import render
from reports.rows import collect
from reports.schema import Report
from tests.reports.conftest import CLASSES

MakeRun = Callable[..., Path]
ROW = "student-int8/onnxruntime"
# Image i is of class i % 10: of class 0 images 0 … 90 are lost, of class 3 one is gained, of class 5 image 505 is lost.
WRONG = {"baseline-fp32": [3], "student-int8": [*range(0, 100, 10), 505]}


class Page(HTMLParser):
    """The texts and pictures that a browser would show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.texts: list[str] = []
        self.pictures: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.pictures.append(str(dict(attrs)["src"]))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def rendered(out: Path) -> tuple[Report, Page, str]:
    report = render(out)
    return report, Page((out / "report.html").read_text()), (out / "report.md").read_text()


def write_folder(root: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 150), (i % 256, 100, 50)).save(root / name)


def relabel(out: Path, count: int) -> None:
    """As if the images were of `count` classes."""
    described = out / "stages/index/dataset.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "classes": [f"kind {i}" for i in range(count)]}))
    for stage in out.glob("stages/predict-*"):
        with np.load(stage / "predictions.npz") as arrays:
            labels, right = arrays["labels"], arrays["top5"][:, 0] == arrays["labels"]
        kinds = np.arange(len(labels)) % count
        top5 = (np.where(right, kinds, kinds + 1)[:, None] + np.arange(5)) % count
        np.savez(stage / "predictions.npz", top5=top5, labels=kinds)


def columns(row: str) -> int:
    """Of a Markdown table: bars that no backslash takes."""
    return re.sub(r"\\.", "", row).count("|")


def test_every_class_counts_its_own_images(make_run: MakeRun) -> None:
    report = collect(make_run(wrong=WRONG))
    assert [entry.label for entry in report.per_class] == CLASSES
    assert {entry.row for entry in report.per_class} == {ROW}, "the one INT8 engine that was measured"
    found = {entry.label: entry for entry in report.per_class}
    worst, gained, same = found["T-shirt/top"], found["two\nlines"], found["a|b"]
    assert (worst.n, worst.baseline_top1, worst.top1, worst.points) == (100, 100.0, 90.0, 10.0)
    assert (worst.lost, worst.gained) == (10, 0)
    assert (gained.baseline_top1, gained.top1, gained.points, gained.lost, gained.gained) == (99.0, 100.0, -1.0, 0, 1)
    assert (same.points, same.lost, same.gained) == (0.0, 0, 0)


def test_classes_add_up_to_the_drop(make_run: MakeRun) -> None:
    report = collect(make_run(wrong={"baseline-fp32": range(30, 60), "student-int8": range(0, 45)}))
    drop = next(row.drop for row in report.rows if row.id == ROW)
    assert drop is not None
    assert sum(entry.lost for entry in report.per_class) == drop.lost == 30
    assert sum(entry.gained for entry in report.per_class) == drop.gained == 15
    assert sum(entry.n for entry in report.per_class) == drop.n


def test_lost_images_have_both_predictions(make_run: MakeRun) -> None:
    report = collect(make_run(wrong=WRONG))
    assert {image.index for image in report.lost_images} == set(WRONG["student-int8"])
    image = next(image for image in report.lost_images if image.index == 505)
    assert (image.row, image.name) == (ROW, "test #505")
    assert (image.label, image.baseline_answer, image.answer) == ("\N{HANDBAG}", "\N{HANDBAG}", "T-shirt/top")


def test_at_most_48_images_are_listed_from_all_classes(make_run: MakeRun) -> None:
    mostly_of_one_class = [*range(0, 1000, 10), *range(1, 10)]
    report = collect(make_run(wrong={"baseline-fp32": [], "student-int8": mostly_of_one_class}))
    drop = next(row.drop for row in report.rows if row.id == ROW)
    assert drop is not None and drop.lost == 109
    labels = Counter(image.label for image in report.lost_images)
    assert labels == {"T-shirt/top": 39} | {name: 1 for name in CLASSES[1:]}
    assert {image.label for image in report.lost_images[:10]} == set(CLASSES), "the first ones are the ones with pictures"


def test_spread_takes_turns_and_starts_with_the_class_that_lost_most() -> None:
    truth = np.asarray([7, 7, 2, 7, 2, 4])
    assert spread([0, 1, 2, 3, 4, 5], truth) == [0, 2, 5, 1, 4, 3]
    assert spread([], truth) == []


def test_a_prediction_beyond_the_named_classes_has_a_name(make_run: MakeRun) -> None:
    out = make_run(wrong=WRONG)
    described = out / "stages/index/dataset.json"
    dataset = json.loads(described.read_text())
    described.write_text(json.dumps({**dataset, "classes": CLASSES[:5]}))
    image = next(image for image in collect(out).lost_images if image.index == 10)
    assert (image.label, image.answer) == ("T-shirt/top", "class 5")


def test_nothing_measured_has_no_classes_and_no_images(make_run: MakeRun) -> None:
    report, page, markdown = rendered(make_run(measured=False))
    assert report.per_class == [] and report.lost_images == []
    assert "Per class" not in page.texts and "<summary>Per class" not in markdown and "Images lost" not in page.texts


def test_names_of_any_kind_stay_text(make_run: MakeRun, tmp_path: Path) -> None:
    nasty = [
        'test/a/"><img src=x onerror=1>.png',
        "test/b/<script>.png",
        "test/c/حقيبة \N{HANDBAG}|.png",
        "test/d/&lt;two\n&#60;.png",
    ]
    names = nasty + [f"test/e/{i}.png" for i in range(996)]
    wrong = {"baseline-fp32": [], "student-int8": range(4)}
    report, page, markdown = rendered(make_run(wrong=wrong, root=tmp_path, files=names, notes=(["<script>|\nnote"], [])))
    nasty[3] = r"test/d/&lt;two\n&#60;.png"  # how Split.name says a line break
    assert {image.name for image in report.lost_images} == set(nasty)
    assert {*nasty, *CLASSES, "<script>|\nnote"} <= set(page.texts), "as text, to the letter"
    assert page.tags["script"] == 1 and not page.tags["img"], "the only script is that of the report"
    assert not {name for name in page.attributes if name.startswith("on")}
    lines = markdown.splitlines()
    table = lines[lines.index("<details><summary>Per class</summary>") + 4 :][: 2 + len(CLASSES)]
    assert [columns(line) for line in table] == [8] * (2 + len(CLASSES))
    assert "<b>" not in markdown and "<script>" not in markdown and "- &lt;script>\\| note" in lines


def test_files_that_are_gone_or_broken_are_listed_without_a_picture(make_run: MakeRun, tmp_path: Path) -> None:
    names = [f"test/{i}.png" for i in range(1000)]
    write_folder(tmp_path / "photos", names[:2])
    (tmp_path / "photos" / names[1]).write_bytes((tmp_path / "photos" / names[1]).read_bytes()[:60])
    (tmp_path / "photos" / names[2]).write_text("no image")
    wrong = {"baseline-fp32": [], "student-int8": range(4)}
    _, page, _ = rendered(make_run(wrong=wrong, root=tmp_path / "photos", files=names))
    assert len(page.pictures) == 1 and page.texts.count("cannot be opened") == 3
    assert {*names[:4]} <= set(page.texts)


def test_the_worst_20_classes_are_shown_and_the_rest_counted(make_run: MakeRun) -> None:
    out = make_run(wrong={"baseline-fp32": [], "student-int8": [*range(100, 130), *range(125)]})
    relabel(out, 50)
    report, page, markdown = rendered(out)
    assert len(report.per_class) == 50, "report.json has them all"
    points = sorted((entry.points for entry in report.per_class), reverse=True)
    more = f"30 more classes, none of which lost more than +{points[20]:.2f} points; report.json has them all."
    assert more in page.texts and more in markdown.splitlines()
    lines = markdown.splitlines()
    table = lines[lines.index("<details><summary>Per class</summary>") + 6 :][:20]
    assert [float(line.split(" | ")[4].split()[0]) for line in table] == pytest.approx(points[:20], abs=0.005)
    assert page.html.count('<svg class="interval" height="18"') == 20, "an interval for each of them"


@pytest.mark.parametrize("lost", [3, 40])
def test_pictures_are_small_and_in_the_file(make_run: MakeRun, tmp_path: Path, lost: int) -> None:
    names = [f"test/{i % 10}/{i}.png" for i in range(1000)]
    write_folder(tmp_path / "photos", names[:lost])
    out = make_run(wrong={"baseline-fp32": [], "student-int8": range(lost)}, root=tmp_path / "photos", files=names)
    _, page, _ = rendered(out)
    assert len(page.pictures) == min(lost, 24)
    for source in page.pictures:
        head, _, body = source.partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as image:
            assert image.size == (96, 48)


def test_a_class_that_is_lost_fails_and_stands_in_the_headline(make_run: MakeRun) -> None:
    """Class 9 is lost: 10 points of all images, of which 20 may be lost."""
    wrong = {"baseline-fp32": [], "student-int8": range(9, 1000, 10)}
    report, page, markdown = rendered(make_run(wrong=wrong, max_drop=20.0))
    row = next(row for row in report.rows if row.id == ROW)
    assert report.gate.verdict == "fail" and report.gate.max_class_drop == 20 and not row.ships
    assert row.drop is not None and [entry.label for entry in row.drop.failed_classes] == ["Coat & hat"]
    (entry,) = [entry for entry in report.per_class if entry.verdict == "fail"]
    assert (entry.label, entry.baseline_top1, entry.top1, entry.n) == ("Coat & hat", 100, 0, 100)
    assert entry.p is not None and entry.p < 0.05 and entry.lower_95 is not None and entry.lower_95 > 20
    said = "class Coat & hat: recall 100.0 % -> 0.0 % (100 images)"
    assert any(note.startswith(f"{ROW} fails the gate and does not ship: {said}; +10.00 points") for note in report.notes)
    assert said in page.texts
    shown = markdown[: markdown.index("<details>")]
    assert f"| {ROW} | fail: {said} |" in shown and "not significantly more than 20 of one class" in shown


def test_a_class_that_may_be_lost_is_a_finding(make_run: MakeRun) -> None:
    wrong = {"baseline-fp32": [], "student-int8": range(9, 119, 10)}
    report = collect(make_run(wrong=wrong, max_drop=5.0))
    assert report.gate.verdict == "pass"
    assert any("too few images to be sure: class Coat & hat: recall 100.0 % -> 89.0 % (100 images)." in n for n in report.notes)


def test_copies_count_in_the_accuracy_and_not_in_the_verdict(make_run: MakeRun) -> None:
    out = make_run(wrong={"baseline-fp32": [], "student-int8": range(10)})
    (out / "stages/check_images").mkdir()
    counted = np.arange(1000) < 400
    np.savez(out / "stages/check_images/duplicates.npz", counted=counted, chooses=np.ones(500, bool))
    manifest = {"name": "check_images", "metrics": {"counted": 400, "notes": []}}
    (out / "stages/check_images/manifest.json").write_text(json.dumps(manifest))
    run = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**run, "checked": "stages/check_images"}))
    report = collect(out)
    row = next(row for row in report.rows if row.id == ROW)
    assert row.accuracy is not None and row.accuracy.n == 1000
    assert row.drop is not None and (row.drop.n, row.drop.lost, row.drop.points) == (400, 10, 2.5)
    assert {entry.n for entry in report.per_class} == {40}

"""A run against an earlier one: paired by the pixels of the images, judged by the gate, and what changed is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.against import Against, against, exit_code, write_against

MakeRun = Callable[..., Path]
RIGHT: list[int] = []


@pytest.fixture
def runs(make_run: MakeRun, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """`runs(before, now, **how)` -> OLD, NEW: which images the student in INT8 gets wrong in each."""

    def make(before: Any = RIGHT, now: Any = RIGHT, **how: Any) -> tuple[Path, Path]:
        made = []
        for name, wrong in (("old", before), ("new", now)):
            run = make_run(wrong={"baseline-fp32": [], "student-int8": wrong}, **how)
            made.append(run.rename(tmp_path / name))
        return made[0], made[1]

    return make


def onnxruntime(found: Against) -> Any:
    return next(pair for pair in found.pairs if pair.target == "onnxruntime")


@pytest.mark.parametrize(
    ("before", "now", "strict", "verdict", "code"),
    [
        (RIGHT, RIGHT, False, "pass", 0),
        (range(50), range(50), False, "pass", 0),  # as bad as before
        (range(50), RIGHT, False, "pass", 0),
        (RIGHT, range(50), False, "fail", 1),
        (RIGHT, range(8), False, "inconclusive", 0),  # 0.8 points of 1 may be lost
        (RIGHT, range(8), True, "inconclusive", 1),
    ],
)
def test_the_gate_judges_what_was_lost_since(
    runs: Callable[..., tuple[Path, Path]], before: Any, now: Any, strict: bool, verdict: str, code: int
) -> None:
    old, new = runs(before, now, strict=strict)
    found = against(new, old)
    assert (onnxruntime(found).verdict, found.images) == (verdict, 1000)
    assert onnxruntime(found).drop.points == pytest.approx((len(now) - len(before)) / 10)
    assert exit_code(found) == code


def test_a_class_that_was_lost_since_fails(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs(RIGHT, range(0, 1000, 10), max_drop=20.0)
    (entry,) = [entry for entry in onnxruntime(against(new, old)).per_class if entry.verdict == "fail"]
    assert (entry.label, entry.lost, entry.n) == ("T-shirt/top", 100, 100)
    assert exit_code(against(new, old)) == 1


def permuted(run: Path, order: np.ndarray) -> None:
    """Put the test images of the run, with labels and predictions, into another order, or leave some out."""
    index = run / "stages/index"
    for name in ("test.images", "test.labels"):
        np.save(index / f"{name}.npy", np.load(index / f"{name}.npy")[order])
    for file in run.glob("stages/predict-*-test/predictions.npz"):
        with np.load(file) as arrays:
            kept = {name: arrays[name][order] for name in arrays}
        np.savez(file, **kept)


@pytest.mark.parametrize("count", [1000, 700])
def test_images_are_paired_by_their_pixels(runs: Callable[..., tuple[Path, Path]], count: int) -> None:
    old, new = runs(range(50, 100), range(50, 130))
    order = np.random.default_rng(1).permutation(1000)[:count]
    permuted(new, order)
    found = onnxruntime(against(new, old)).drop
    assert (found.lost, found.gained, found.n) == (int(np.isin(order, range(100, 130)).sum()), 0, count)


def test_copies_count_once(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs(RIGHT, range(5))
    permuted(new, np.r_[np.arange(1000), [0] * 100])
    found = onnxruntime(against(new, old)).drop
    assert (found.lost, found.n) == (5, 1000)


def test_the_order_of_the_classes_may_differ(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs(range(20), range(20))
    turn = np.roll(np.arange(10), 3)  # class k of the earlier run is class turn[k] of this one
    index = new / "stages/index"
    dataset = json.loads((index / "dataset.json").read_text())
    names = list(dataset["classes"])
    for k, name in enumerate(dataset["classes"]):
        names[turn[k]] = name
    (index / "dataset.json").write_text(json.dumps({**dataset, "classes": names}))
    np.save(index / "test.labels.npy", turn[np.load(index / "test.labels.npy")])
    for file in new.glob("stages/predict-*-test/predictions.npz"):
        with np.load(file) as arrays:
            moved = {name: turn[arrays[name]] for name in arrays}
        np.savez(file, **moved)
    found = onnxruntime(against(new, old)).drop
    assert (found.lost, found.gained, found.n) == (0, 0, 1000)


def test_runs_without_common_images_are_refused(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs()
    file = new / "stages/index/test.images.npy"
    np.save(file, 255 - np.load(file))
    with pytest.raises(ValueError, match="no test image in common"):
        against(new, old)


def test_runs_with_other_classes_are_refused(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs()
    file = new / "stages/index/dataset.json"
    file.write_text(file.read_text().replace("Coat & hat", "Coat"))
    with pytest.raises(ValueError, match=r"only one of them has Coat, Coat & hat"):
        against(new, old)


def test_a_folder_without_a_run_is_refused(runs: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    _, new = runs()
    with pytest.raises(ValueError, match="no finished run in"):
        against(new, tmp_path / "nothing")


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_changed_is_listed(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs()
    assert against(new, old).changes == []
    for run, code, ratio in ((old, "a", 0.5), (new, "b", 0.6)):
        manifest = run / "stages/prune/manifest.json"
        change(manifest, stage="compress.prune.prune", config={"pruning_ratio": ratio, "steps": 1}, code=code)
    record = json.loads((new / "run.json").read_text())
    record["environment"] |= {"cores": 8, "versions": {"python": "3.11.2", "onnxruntime": "1.24.0", "torch": "2.8"}}
    change(new / "run.json", gate={"max_drop": 2.0, "strict": False}, environment=record["environment"])
    for stage in ("export_onnx-student", "index"):
        change(new / f"stages/{stage}/manifest.json", content="1")
    assert against(new, old).changes == [
        "version of onnxruntime: 1.23.0 -> 1.24.0",
        "version of torch: – -> 2.8",
        "cores: 4 -> 8",
        "gate.max_drop: 1.0 -> 2.0",
        "prune.pruning_ratio: 0.5 -> 0.6",
        "code of the stages prune",
        "content of the index of images: 0 -> 1",
        "content of student: 0 -> 1",
    ]


@pytest.mark.parametrize("how", [{}, {"labelled": False}, {"measured": False}])
def test_the_two_files(runs: Callable[..., tuple[Path, Path]], how: dict[str, Any]) -> None:
    old, new = runs(RIGHT, range(3), **how)
    found = against(new, old)
    write_against(found, new)
    assert Against.model_validate_json((new / "against.json").read_text()) == found
    markdown = (new / "against.md").read_text()
    assert "None" not in markdown and markdown.count("<details>") == markdown.count("</details>")
    assert len(markdown[: markdown.index("<details>")].splitlines()) <= 15
    assert {pair.target: pair.verdict for pair in found.pairs}["tensorrt"] == "unmeasured"
    if how.get("measured", True):
        assert "| onnxruntime | student-int8 → student-int8 | pass | +0.30 [" in markdown
        assert "| 3 / 0 | 0.50 → 0.50 | 1.00×: 10.50 → 10.50 MB |" in markdown


def test_an_engine_that_is_gone_is_unmeasured(runs: Callable[..., tuple[Path, Path]]) -> None:
    old, new = runs(strict=True)
    record = json.loads((new / "run.json").read_text())
    change(new / "run.json", targets=record["targets"][1:])
    shutil.rmtree(new / "stages/latency")
    found = against(new, old)
    assert onnxruntime(found).verdict == "unmeasured" and exit_code(found) == 1

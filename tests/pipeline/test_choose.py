"""Every choice is made on the images that choose; the images that judge are opened for the baseline and for what was chosen."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calibration.rank_layers import RankLayers
from core.cache import Artifact
from core.engine_name import EngineName
from core.profile import here
from measure.gate import Gate
from pipeline.engines import engines_of
from pipeline.recipe import Ladder
from pipeline.student import Base, Student
from reports.run_folder import TargetResult
from tests.placements import ORT

LAYERS = 20
HELD_OUT, TEST = 4000, 8000
Wrong = Mapping[str, int]  # form of an engine -> how many of the images it gets wrong that the baseline gets right


class Bench:
    """A target whose engines get as many images wrong as a test says: `held_out` of those that choose, `test` of those
    that judge. `opened` has what was predicted."""

    name = "onnxruntime"
    runs, stands_in = True, False
    profile, placement = here(), ORT
    images = Artifact(Path("images"), {})
    baseline = EngineName.baseline("onnxruntime")

    def __init__(self, root: Path, held_out: Wrong, p50: Mapping[str, float], test: Wrong, n: int, shuffled: bool) -> None:
        self.root, self.wrong, self.p50, self.shuffled = root, {"val": held_out, "test": test}, p50, shuffled
        self.n = {"val": n, "test": TEST}
        self.opened: dict[str, list[str]] = {"val": [], "test": []}
        self.packed: list[str] = []
        self.sizes: dict[str, int] = {}  # bytes, by a part of the engine's name
        self.turns: dict[str, list[float]] = {}  # p50 of every turn; where it is not given, all are equal
        self.target: Any = SimpleNamespace(
            prepare=None,
            READS="onnx",
            untimed=lambda profile: "int8",
        )

    def unavailable(self) -> None: ...

    def cannot_run(self) -> None: ...

    def named(self, student: Student, form: str) -> EngineName:
        return EngineName("student", form, student.variant, self.name)

    def artifact(self, name: str) -> Artifact:
        folder = self.root / name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        size = next((size for part, size in self.sizes.items() if part in name), 1)
        return Artifact(folder, {"metrics": {"size_bytes": size}})

    def shippable(self, student: Student) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        forms = [form for form in ("fp16", "int8") if form in self.p50]
        return {self.named(student, form): self.artifact(f"{form}[{student.variant}]") for form in forms}, {}

    def predict_all(
        self, engines: Mapping[EngineName, Artifact], split: str
    ) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        return {name: self.predict(name, engine, split) for name, engine in engines.items()}, {}

    def models(
        self, baseline: Artifact, students: Sequence[Student], shippable: Mapping[EngineName, Artifact]
    ) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        floats = {self.named(s, "fp32"): s.onnx for s in students if "fp32" in self.p50}
        return {self.baseline: baseline, **floats, **shippable}, {}

    def build_all(self, models: Mapping[EngineName, Artifact]) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        return {name: self.artifact(f"built-{name}") for name in models}, {}

    def build(self, name: EngineName, model: Artifact) -> Artifact:
        return self.artifact(f"built-{name}")

    def as_built(self, placed: Artifact) -> Artifact:
        return placed

    def place(self, model: Artifact, ranges: Artifact, skip: tuple[str, ...] = ()) -> Artifact:
        return self.artifact(f"placed-{len(skip)}")

    def step(self, stage: Any, config: Any, **_: Any) -> Artifact:
        found = self.artifact("ranked")
        (found.path / "rank_layers.json").write_text(json.dumps([[f"conv{i}", 1.0] for i in range(LAYERS)]))
        return found

    def predict(self, name: EngineName, engine: Artifact, split: str) -> Artifact:
        self.opened[split].append(name.key)
        found = self.artifact(f"predict-{split}-{name}")
        labels = np.arange(self.n[split]) % 10
        predicted = labels.copy()
        if name != self.baseline:
            predicted[: self.wrong[split][name.key.removeprefix("student-")]] += 1
        if self.shuffled and split == "test":
            labels = np.random.default_rng(0).permutation(labels)
        top5 = (predicted[:, None] + np.arange(5)) % 10
        np.savez(found.path / "predictions.npz", top5=top5, labels=labels)
        return found

    def time_all(self, engines: Mapping[EngineName, Artifact]) -> tuple[Artifact, dict[EngineName, str]]:
        timed = {name.key: in_turns(self.p50[name.key.removeprefix("student-")], self.turns.get(name.key)) for name in engines}
        return Artifact(self.root / "latency", {"metrics": {"timed": timed}}), {}

    def alone(self, name: EngineName, engine: Artifact) -> Artifact:
        return self.artifact("alone")

    def pack(self, engine: Artifact, model: Artifact) -> Artifact:
        self.packed.append(engine.path.name)
        return self.artifact("bundle")


def in_turns(p50: float, turns: list[float] | None) -> dict[str, Any]:
    return {"p50": p50, "turns": turns or [p50] * 10}


class Timed(dict[str, float]):
    """Latencies by form: rungs of the ladder take 2 ms, the baseline 10."""

    def __missing__(self, key: str) -> float:
        return 10.0 if key.startswith("baseline") else 2.0


class Rungs(dict[str, int]):
    """Wrong images by form; `rungs` of all engines that the ladder builds."""

    def __init__(self, wrong: Wrong, rungs: int | Sequence[int] = 0) -> None:
        super().__init__(wrong)
        self.rungs = rungs

    def __missing__(self, key: str) -> int:
        if isinstance(self.rungs, int):
            return self.rungs
        return self.rungs[[f"mixed{count}" for count in (1, 2, 3, 5, 8)].index(key)]


def run(
    root: Path,
    held_out: Wrong,
    p50: Mapping[str, float],
    *,
    test: Wrong | None = None,
    n: int = HELD_OUT,
    shuffled: bool = False,
    strict: bool = False,
    gate: Gate | None = None,
    variants: Sequence[str] = ("",),
    sizes: Mapping[str, int] | None = None,
    prefer: str = "latency",
    turns: Mapping[str, list[float]] | None = None,
) -> tuple[TargetResult, Bench]:
    images, checked = root / "images", root / "checked"
    for folder in (images, checked):
        folder.mkdir(parents=True)
    (images / "dataset.json").write_text(json.dumps({"classes": [str(i) for i in range(10)]}))
    np.savez(checked / "duplicates.npz", counted=np.ones(TEST, bool), chooses=np.ones(n, bool))
    bench = Bench(root / "bench", held_out, Timed(p50), Rungs({}) if test is None else test, n, shuffled)
    bench.sizes, bench.turns = dict(sizes or {}), dict(turns or {})
    onnx, ranges = bench.artifact("onnx"), bench.artifact("ranges")
    recipe: Any = SimpleNamespace(
        gate=gate or Gate(max_drop=1.0, max_class_drop=None, strict=strict),
        ladder=Ladder(rungs=("mixed",)),
        rank_layers=RankLayers(),
        prefer=prefer,
    )
    base = Base(Artifact(images, {}), Artifact(checked, {}), onnx, onnx)
    students = [Student(variant, onnx, onnx, ranges) for variant in variants]
    return engines_of(bench, recipe, base, students), bench  # type: ignore[arg-type]


def keys(names: Sequence[EngineName]) -> list[str]:
    return [name.key.removeprefix("student-") for name in names]


SCENES: dict[str, tuple[Wrong, dict[str, float], list[str]]] = {
    "the quickest that passes": ({"int8": 5, "fp16": 0}, {"int8": 1, "fp16": 3}, ["fp16", "int8"]),
    "16-bit floats that are quicker": ({"int8": 5, "fp16": 0}, {"int8": 3, "fp16": 1}, ["fp16"]),
    "a slow engine that passes before a quick inconclusive one": (
        {"int8": 35, "fp16": 0}, {"int8": 1, "fp16": 9}, ["fp16"],
    ),
    "a rung of the ladder": (Rungs({"int8": 200, "fp32": 0}, 10), {"int8": 1, "fp32": 5}, ["fp32", "mixed1"]),
    "a student of a sweep": ({"int8[a]": 5, "int8[b]": 7}, {"int8": 0, "int8[a]": 2, "int8[b]": 1}, ["int8[b]"]),
    "a student that passes": ({"int8[a]": 5, "int8[b]": 100}, {"int8": 0, "int8[a]": 2, "int8[b]": 1}, ["int8[a]"]),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
def test_the_images_that_judge_change_no_choice(tmp_path: Path, scene: str) -> None:
    held_out, p50, judged = SCENES[scene]
    variants = ("a", "b") if "int8[a]" in held_out else ("",)
    bad = Rungs({}, 4000)  # every engine fails on the images that judge
    for i, more in enumerate(({}, {"shuffled": True}, {"test": bad}, {"test": bad, "shuffled": True})):
        result, bench = run(tmp_path / str(i), held_out, p50, variants=variants, **more)  # type: ignore[arg-type]
        assert keys(result.judged) == judged
        assert keys([EngineName.parse(f"{key}/x") for key in bench.opened["test"]]) == ["baseline-fp32", *judged]
        assert bench.opened["test"] == [name.key for name in result.predictions]
        assert set(result.held_out) == set(result.engines), "all that was built is measured on the images that choose"


@pytest.mark.parametrize(
    ("test", "ships"),
    [
        ({"fp32": 0, "int8": 0}, "int8"),
        ({"fp32": 0, "int8": 200}, "fp32"),
        ({"fp32": 0, "int8": 75}, "fp32"),  # inconclusive: the one that passed ships
        ({"fp32": 75, "int8": 0}, "int8"),
        ({"fp32": 200, "int8": 200}, "int8"),  # nothing ships: the report judges the chosen one
    ],
)
def test_a_milder_engine_ships_where_the_chosen_one_fails(tmp_path: Path, test: Wrong, ships: str) -> None:
    result, bench = run(tmp_path, {"fp32": 0, "int8": 5}, {"fp32": 5, "int8": 1}, test=test)
    assert keys(result.judged) == ["fp32", "int8"] and result.candidate is not None
    assert keys([result.candidate]) == [ships]
    assert bench.packed == [f"built-student-{ships}_onnxruntime"]


@pytest.mark.parametrize(("slower", "judged"), [(8, "int8[b]"), (9, "int8[a]")], ids=["as quick", "slower"])
def test_of_engines_that_are_as_quick_the_smallest_is_chosen(tmp_path: Path, slower: int, judged: str) -> None:
    """Slower is an engine that the quickest one beats in 9 of 10 turns, by however little."""
    wrong, times = {"int8[a]": 0, "int8[b]": 5}, {"int8": 0, "int8[a]": 1.0, "int8[b]": 1.001}
    turns = {"student-int8[b]": [1.001] * slower + [0.9] * (10 - slower)}
    result, _ = run(tmp_path, wrong, times, variants=("a", "b"), sizes={"int8[a]": 200, "int8[b]": 100}, turns=turns)
    assert keys(result.judged) == [judged]


def test_engines_are_level_with_the_quickest_not_with_each_other(tmp_path: Path) -> None:
    """b is level with a, the quickest; c is level with b and has the smallest file, but a beats it."""
    turns = {
        "student-int8[a]": [1.0] * 10,
        "student-int8[b]": [1.1] * 6 + [0.9] * 4,
        "student-int8[c]": [1.2] * 4 + [1.05] * 6,
    }
    p50 = {"int8": 0, "int8[a]": 1.0, "int8[b]": 1.02, "int8[c]": 1.1}
    sizes = {"int8[a]": 300, "int8[b]": 200, "int8[c]": 100}
    wrong = dict.fromkeys(sizes, 0)
    result, _ = run(tmp_path, wrong, p50, variants=("a", "b", "c"), sizes=sizes, turns=turns)
    assert keys(result.judged) == ["int8[b]"]


@pytest.mark.parametrize(("wrong", "judged"), [(5, "int8[b]"), (35, "int8[a]")], ids=["passes", "inconclusive"])
def test_the_smallest_that_passes_can_be_preferred(tmp_path: Path, wrong: int, judged: str) -> None:
    held_out, times = {"int8[a]": 0, "int8[b]": wrong}, {"int8": 0, "int8[a]": 1.0, "int8[b]": 2.0}
    sizes = {"int8[a]": 200, "int8[b]": 100}
    result, _ = run(tmp_path, held_out, times, variants=("a", "b"), sizes=sizes, prefer="size")
    assert keys(result.judged) == [judged]


@pytest.mark.parametrize(("fp32", "rungs"), [(0, 1), (35, 1), (100, 0)])
def test_no_layer_goes_back_to_floats_where_the_floats_fail_too(tmp_path: Path, fp32: int, rungs: int) -> None:
    result, _ = run(tmp_path, Rungs({"int8": 100, "fp32": fp32}), {"int8": 1, "fp32": 5})
    assert len(result.rungs) == rungs


@pytest.mark.parametrize(
    ("fp32", "judged"),
    [(0, ["fp32", "int8"]), (5, ["fp32", "int8"]), (35, ["int8"]), (200, ["int8"])],
)
def test_a_worse_one_is_not_judged_before_the_chosen_one(tmp_path: Path, fp32: int, judged: list[str]) -> None:
    result, _ = run(tmp_path, {"fp32": fp32, "int8": 5}, {"fp32": 5, "int8": 1})
    assert keys(result.judged) == judged


@pytest.mark.parametrize(
    ("rungs", "n", "tried", "chosen"),
    [
        ([5, 5, 5, 5, 5], HELD_OUT, ["pass"], "mixed1"),
        ([35, 35, 5, 5, 5], HELD_OUT, ["inconclusive", "inconclusive", "pass"], "mixed3"),
        ([60, 35, 60, 60, 60], HELD_OUT, ["fail", "inconclusive", "fail", "fail", "fail"], "mixed2"),
        ([2, 1, 0, 0, 0], 250, ["inconclusive"], "mixed1"),  # 250 images cannot show that any engine passes
        ([8, 2, 0, 0, 0], 250, ["fail", "inconclusive"], "mixed2"),
        ([8, 4, 4, 4, 4], 250, ["fail", "fail", "fail"], "mixed2"),  # the third is no better than the second
        ([40, 8, 0, 0, 0], 250, ["fail", "fail", "inconclusive"], "mixed3"),  # what still gets better goes on
    ],
)
def test_the_ladder_ends_at_a_pass_or_where_the_images_are_too_few_to_tell(
    tmp_path: Path, rungs: list[int], n: int, tried: list[str], chosen: str
) -> None:
    result, _ = run(tmp_path, Rungs({"int8": n // 10}, rungs), {"int8": 1}, n=n)
    assert [rung.verdict for rung in result.rungs] == tried
    assert [rung.too_few for rung in result.rungs] == [False] * (len(tried) - 1) + [n < 300]
    assert keys(result.judged) == [chosen]


@pytest.mark.parametrize(
    ("wrong", "n", "strict", "climbs"),
    [(35, HELD_OUT, False, False), (35, HELD_OUT, True, True), (1, 250, True, False), (5, HELD_OUT, True, False)],
)
def test_strict_recovers_an_inconclusive_engine_where_that_can_be_shown(
    tmp_path: Path, wrong: int, n: int, strict: bool, climbs: bool
) -> None:
    result, _ = run(tmp_path, Rungs({"int8": wrong}), {"int8": 1}, n=n, strict=strict)
    assert bool(result.rungs) == climbs

"""Stages that only note that they ran, and a run for one target with them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.cache import Artifact
from core.config import Config
from export import targets
from measure.calls import EngineError
from pipeline.builder import EngineBuilder
from pipeline.engines import engines_of
from pipeline.recipe import Recipe, load_recipe
from pipeline.student import Base, Student
from reports.run_folder import TargetResult

IMAGES, CLASSES = 1000, 10
WRONG = {"baseline-fp32": 0, "student-fp32": 0, "student-fp16": 0, "student-int8": 100, "student-mixed1": 50,
         "student-mixed2": 0, "student-qat": 0}  # fmt: skip


@dataclass
class NotedStages:
    """Takes the place of `Stages`. `failing` has the error of a stage by its name and label; `ran` the calls, `configs` theirs.

    `untimed` has the errors of engines while they are timed, by their keys.
    """

    root: Path
    failing: dict[str, Exception] = field(default_factory=dict)
    untimed: dict[str, Exception] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    configs: dict[str, Config] = field(default_factory=dict)

    def __call__(self, stage: Callable[..., Any], config: Config, *, label: str = "", **inputs: Any) -> Artifact:
        name = f"{stage.__name__} {label}".strip()
        self.ran.append(name)
        self.configs[name] = config
        if name in self.failing:
            raise self.failing[name]
        for engine in inputs.get("engines", {}):
            if engine in self.untimed:
                raise EngineError(engine, self.untimed[engine])
        return getattr(self, stage.__name__, self.anything)(name.replace("/", ":"), label)

    def anything(self, name: str, label: str) -> Artifact:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return Artifact(folder, {"metrics": {"size_bytes": 1}})

    def predict(self, name: str, label: str) -> Artifact:
        made = self.anything(name, label)
        labels = np.arange(IMAGES) % CLASSES
        first = (labels + (np.arange(IMAGES) < WRONG[label.split("/")[0]])) % CLASSES
        np.savez(made.path / "predictions.npz", top5=np.repeat(first[:, None], 5, axis=1), labels=labels)
        return made

    def rank_layers(self, name: str, label: str) -> Artifact:
        made = self.anything(name, label)
        (made.path / "rank_layers.json").write_text(json.dumps([[layer, 1.0] for layer in "abcd"]))
        return made

    def latency(self, name: str, label: str) -> Artifact:
        p50 = {key: 1.0 if "int8" in key else 1.5 if "mixed" in key else 2.0 for key in WRONG}
        timed = {key: {"p50": ms, "turns": [ms] * 10} for key, ms in p50.items()}
        return Artifact(self.anything(name, label).path, {"metrics": {"timed": timed}})


def pressed(
    stages: NotedStages,
    monkeypatch: pytest.MonkeyPatch,
    before: TargetResult | None = None,
    target: str = "onnxruntime",
    **changes: Any,
) -> TargetResult:
    """The result for onnxruntime, here or on a device; it has 16-bit floats, too."""
    given = {key.replace("__", "."): value for key, value in changes.items()}
    recipe: Recipe = load_recipe("resnet18", None, given, [target])
    monkeypatch.setattr(targets.get("onnxruntime"), "half", lambda profile: "fp16")
    images, checked, model, trained = (stages.anything(name, "") for name in ("images", "checked", "model", "trained"))
    (images.path / "dataset.json").write_text(json.dumps({"classes": [str(i) for i in range(CLASSES)]}))
    np.savez(checked.path / "duplicates.npz", counted=np.full(IMAGES, True), chooses=np.full(IMAGES, True))

    def train() -> Student:
        stages(train, Config())
        return Student("", trained, trained, trained)

    student = Student("", trained, trained, trained, train)
    builder = EngineBuilder.of(recipe, stages, target, images)  # type: ignore[arg-type]
    stages.ran.clear()
    return engines_of(builder, recipe, Base(images, checked, model, model), [student], before)


def forms(names: Any) -> set[str]:
    return {name.key for name in names}

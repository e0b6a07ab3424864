"""OUT/run.json -> which folders the run's stages are in, and what its engines answered."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from measure.predictions import Classes, Predictions, read_predictions
from reports.schema import Dataset

BASELINE = "baseline-fp32"


def run_of(out: Path) -> dict[str, Any]:
    """Raises ValueError when there is no run in `out`."""
    if not (out / "run.json").exists():
        raise ValueError(f"no finished run in {out} (run.json is missing); run `make compress OUT={out}` first")
    return cast(dict[str, Any], json.loads((out / "run.json").read_text()))


def images_of(out: Path) -> Path:
    """The folder of the run's images stage."""
    return out / str(run_of(out)["images"])


def dataset_of(images: Path) -> Dataset:
    described = json.loads((images / "dataset.json").read_text())
    return Dataset(**{field: described[field] for field in Dataset.model_fields if field in described})


def variant_of(key: str) -> str | None:
    """Which student of a sweep the engine `key` is of: "student-int8[0.5]" -> "0.5"."""
    return key.partition("[")[2].removesuffix("]") or None


def metrics(out: Path, stage: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((out / stage / "manifest.json").read_text())["metrics"])


@dataclass(frozen=True)
class Folder:
    """What run.json says about one target, and where; `labelled` tells whether its images are."""

    out: Path
    run: dict[str, Any]
    target: dict[str, Any]
    labelled: bool

    @property
    def candidate(self) -> str:
        """The key of the engine that ships where it passes."""
        return str(self.target.get("candidate", "student-int8"))

    @property
    def candidate_id(self) -> str:
        """The id of its row."""
        return f"{self.candidate}/{self.target['target']}"

    def exported(self, key: str) -> str:
        """The folder of the FP32 ONNX file that the engine `key` comes from."""
        return str(self.run["baseline"] if key == BASELINE else self.run["students"][variant_of(key) or ""])

    @cached_property
    def latency(self) -> dict[str, Any]:
        return metrics(self.out, self.target["latency"]) if "latency" in self.target else {"timed": {}}

    @cached_property
    def answers(self) -> dict[str, Predictions]:
        """Of the engines that could be asked."""
        return {key: read_predictions(self.out / path) for key, path in self.target.get("predictions", {}).items()}

    @property
    def compared(self) -> bool:
        """Whether baseline and candidate both answered."""
        return {BASELINE, self.candidate} <= self.answers.keys()

    @cached_property
    def truth(self) -> Classes:
        """The class of every image; unlabelled, the one that the baseline takes it for."""
        baseline = self.answers[BASELINE]
        return baseline.labels if self.labelled else baseline.first

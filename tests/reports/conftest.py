"""A small synthetic run, written the way the pipeline leaves it on disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeRun = Callable[..., Path]
KEYS = ("baseline-fp32", "student-fp32", "student-int8")
CLASSES = ["T-shirt/top", "<b>bag</b>"]


def predictions(n: int, wrong: Sequence[int]) -> dict[str, Any]:
    """Right everywhere but on `wrong`, where every second answer has the right class in second place."""
    labels = np.arange(n) % 10
    top5 = (labels[:, None] + np.arange(5)) % 10
    for i in wrong:
        top5[i] = (labels[i] + 5 + np.arange(5)) % 10
        if i % 2:
            top5[i, 1] = labels[i]
    return {"top5": top5, "labels": labels}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(wrong={key: images got wrong}, …)` -> OUT with run.json; onnxruntime measured, tensorrt only built."""

    def make(
        *,
        n: int = 1000,
        wrong: dict[str, Sequence[int]] | None = None,
        p50: tuple[float, float, float] = (4.0, 1.0, 0.5),
        sizes: tuple[int, int, int] = (170_000_000, 40_000_000, 10_500_000),
        int8_share: float = 0.98,
        max_drop: float = 1.0,
        strict: bool = False,
        requested: Sequence[str] = (),
        measured: bool = True,
    ) -> Path:
        out = tmp_path / "run"

        def stage(name: str, metrics: dict[str, Any]) -> str:
            path = out / "stages" / name
            path.mkdir(parents=True)
            manifest = {"name": name, "stage": name, "config": {}, "metrics": metrics, "seconds": 2.5, "content": "0"}
            (path / "manifest.json").write_text(json.dumps(manifest))
            return f"stages/{name}"

        def predict(key: str) -> str:
            folder = stage(f"predict-{key}", {})
            np.savez(out / folder / "predictions.npz", **predictions(n, (wrong or {}).get(key, range(20))))
            return folder

        def engines(target: str) -> dict[str, str]:
            return {
                key: stage(
                    f"build-{key}-{target}",
                    {
                        "precision": key.split("-")[1],
                        "file": "engine.onnx",
                        "size_bytes": size,
                        "sha256": "ab" * 32,
                        "int8_share": int8_share if key == "student-int8" else 0.0,
                    },
                )
                for key, size in zip(KEYS, sizes, strict=True)
            }

        history = [{"loss": 2.0 / (i + 1), "val_top1": 90 - 30 / (i + 1)} for i in range(12)]
        stages = [stage("train", {"history": history, "best_epoch": 11}), stage("prune", {"pruning_ratio": 0.5})]
        index = {"name": "fashion-mnist", "classes": CLASSES, "input_shape": [1, 28, 28], "kind": "array"}
        timed = {
            key: {"n": 200, "p50": ms, "p90": 1.1 * ms, "p99": 1.3 * ms, "mean": 1.02 * ms}
            for key, ms in zip(KEYS, p50, strict=True)
        }
        throughput = {
            key: [{"batch": b, "images_per_s": 1000 * b**0.5 / ms} for b in (1, 8, 32)]
            for key, ms in zip(KEYS, p50, strict=True)
        }
        onnxruntime: dict[str, Any] = {
            "target": "onnxruntime",
            "engines": engines("onnxruntime"),
            "cannot_run": None if measured else "needs another CPU",
            "bundle": "stages/bundle-onnxruntime",
        }
        if measured:
            onnxruntime["predictions"] = {key: predict(key) for key in KEYS}
            onnxruntime["latency"] = stage("latency", {"batch": 1, "threads": 2, "timed": timed, "throughput": throughput})
        run = {
            "created": "2025-11-22T04:00:00+00:00",
            "command": "make compress MODEL=resnet101",
            "seconds": 4321.0,
            "model": "resnet101",
            "gate": {"max_drop": max_drop, "strict": strict},
            "requested": list(requested),
            "environment": {
                "cpu": "Example CPU",
                "cores": 4,
                "threads": 2,
                "isa": "avx512_vnni",
                "gpu": None,
                "os": "Linux",
                "versions": {"python": "3.11.2", "onnxruntime": "1.23.0"},
            },
            "images": stage("index", {**index, "splits": {"train": 60000, "val": 6000, "test": n}}),
            "baseline": stage("export_onnx-baseline", {"params": 42_500_000, "macs": 7_800_000_000}),
            "student": stage("export_onnx-student", {"params": 10_000_000, "macs": 1_900_000_000}),
            "stages": [{"path": path, "cached": i == 0, "name": path.split("/")[1]} for i, path in enumerate(stages)],
            "targets": [
                onnxruntime,
                {
                    "target": "tensorrt",
                    "engines": engines("tensorrt"),
                    "cannot_run": "no GPU here",
                    "bundle": "stages/bundle-tensorrt",
                },
                {"target": "openvino", "unavailable": "openvino is not installed: pip install openvino"},
            ],
        }
        (out / "run.json").write_text(json.dumps(run))
        return out

    return make

"""A small synthetic run, written the way the pipeline leaves it on disk."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.filenames import Names

MakeRun = Callable[..., Path]
HELD_OUT = 500
KEYS = ("baseline-fp32", "student-fp32", "student-int8")
CLASSES = [
    "T-shirt/top",
    "<b>bag</b>",
    "a|b",
    "two\nlines",
    "حقيبة",
    "\N{HANDBAG}",
    "back\\slash|",
    "`tick",
    "**",
    "Coat & hat",
]
PREPROCESS = {"channels": 1, "input_size": 32, "resize": "pad", "mean": [0.286], "std": [0.353]}


def predictions(n: int, wrong: Sequence[int], labelled: bool) -> dict[str, Any]:
    """Right everywhere but on `wrong`, where every second prediction has the right class in second place."""
    labels = np.arange(n) % 10
    top5 = (labels[:, None] + np.arange(5)) % 10
    for i in wrong:
        top5[i] = (labels[i] + 5 + np.arange(5)) % 10
        if i % 2:
            top5[i, 1] = labels[i]
    return {"top5": top5, "labels": labels if labelled else np.full(n, -1)}


def write_images(stage: Path, dataset: dict[str, Any], n: int, labelled: bool, files: Sequence[str] | None) -> None:
    """The test split as data/index.py leaves it: `files` below dataset["root"], or an array of grey images."""
    (stage / "dataset.json").write_text(json.dumps(dataset))
    np.save(stage / "test.labels.npy", np.arange(n) % 10 if labelled else np.full(n, -1))
    if files is None:
        pixels = np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1), np.uint8)
        np.save(stage / "test.images.npy", pixels)
    else:
        Names.of(os.fsencode(name) for name in files).save(stage, "test")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(wrong={key: images got wrong}, …)` -> OUT with run.json; onnxruntime measured, tensorrt only built.

    `held_out`: like `wrong`, but of the 500 images that choose; `judged`: the judged engines, of which the last was chosen.
    `labelled=False`: the images have no labels; `tuned=False`: no student in FP32, its network is the baseline;
    `notes`: what the stages train and prune had to say; `root` and `files`: a folder of images in place of an array.
    """

    def make(
        *,
        n: int = 1000,
        wrong: dict[str, Sequence[int]] | None = None,
        held_out: dict[str, Sequence[int]] | None = None,
        judged: Sequence[str] = ("student-int8",),
        candidate: str = "student-int8",
        p50: tuple[float, float, float] = (4.0, 1.0, 0.5),
        sizes: tuple[int, int, int] = (170_000_000, 40_000_000, 10_500_000),
        int8_share: float = 0.98,
        max_drop: float = 1.0,
        strict: bool = False,
        requested: Sequence[str] = (),
        measured: bool = True,
        labelled: bool = True,
        tuned: bool = True,
        notes: tuple[Sequence[str], Sequence[str]] = ((), ()),
        root: Path | None = None,
        files: Sequence[str] | None = None,
    ) -> Path:
        out = tmp_path / "run"
        keys = KEYS if tuned else ("baseline-fp32", "student-int8")

        def stage(name: str, metrics: dict[str, Any]) -> str:
            path = out / "stages" / name
            path.mkdir(parents=True)
            manifest = {"name": name, "stage": name, "config": {}, "metrics": metrics, "seconds": 2.5, "content": "0"}
            (path / "manifest.json").write_text(json.dumps(manifest))
            return f"stages/{name}"

        def predict(key: str, split: str) -> str:
            folder = stage(f"predict-{key}-{split}", {})
            count, missed = (n, wrong) if split == "test" else (HELD_OUT, held_out)
            found = predictions(count, (missed or {}).get(key, range(20)), labelled)
            np.savez(out / folder / "predictions.npz", **found)
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
                if key in keys
            }

        history = [{"loss": 2.0 / (i + 1), "val_top1": 90 - 30 / (i + 1)} for i in range(12)]
        stages = [
            stage("train", {"history": history, "notes": list(notes[0]), "augmentation": ["flips", "mixup (0.2)"]}),
            stage("prune", {"pruning_ratio": 0.5, "notes": list(notes[1])}),
        ]
        dataset = {
            "name": "fashion-mnist",
            "classes": CLASSES,
            "input_shape": [1, 28, 28],
            "splits": {"train": 60000, "val": HELD_OUT, "test": n},
            "chosen_on": {"source": "train", "n": HELD_OUT},
            "judged_on": {"source": "test", "n": n},
            "kind": "array" if files is None else "folder",
            "root": str(root),
            "preprocess": PREPROCESS,
            **({} if labelled else {"labelled": False}),
        }
        images = stage("index", {key: dataset[key] for key in ("name", "classes", "input_shape", "splits")})
        write_images(out / images, dataset, n, labelled, files)
        baseline = stage("export_onnx-baseline", {"params": 42_500_000, "macs": 7_800_000_000})
        timed = {
            key: {"n": 200, "p50": ms, "p90": 1.1 * ms, "p99": 1.3 * ms, "mean": 1.02 * ms}
            for key, ms in zip(KEYS, p50, strict=True)
            if key in keys
        }
        throughput = {
            key: [{"batch": b, "images_per_s": 1000 * b**0.5 / ms} for b in (1, 8, 32)]
            for key, ms in zip(KEYS, p50, strict=True)
            if key in keys
        }
        onnxruntime: dict[str, Any] = {
            "target": "onnxruntime",
            "engines": engines("onnxruntime"),
            "cannot_run": None if measured else "needs another CPU",
            "candidate": candidate,
            "bundle": stage("bundle-onnxruntime", {}),
        }
        if measured:
            onnxruntime["held_out"] = {key: predict(key, "val") for key in keys}
            onnxruntime["predictions"] = {key: predict(key, "test") for key in ("baseline-fp32", *judged)}
            onnxruntime["judged"] = list(judged)
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
            "images": images,
            "baseline": baseline,
            "students": {
                "": stage("export_onnx-student", {"params": 10_000_000, "macs": 1_900_000_000}) if tuned else baseline
            },
            "stages": [{"path": path, "cached": i == 0, "name": path.split("/")[1]} for i, path in enumerate(stages)],
            "targets": [
                onnxruntime,
                {
                    "target": "tensorrt",
                    "engines": engines("tensorrt"),
                    "cannot_run": "no GPU here",
                    "candidate": "student-int8",
                    "bundle": stage("bundle-tensorrt", {}),
                },
                {"target": "openvino", "unavailable": "openvino is not installed: pip install openvino"},
            ],
        }
        (out / "run.json").write_text(json.dumps(run))
        return out

    return make

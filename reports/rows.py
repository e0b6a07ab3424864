"""OUT/run.json and the manifests of the stages it names -> the report's rows, gate verdict and everything else in it.

Accuracy and drop both come from the stored predictions of the engine itself, so they cannot contradict each other.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from reports.findings import findings
from reports.gate import Gate, drop_of, worst
from reports.schema import (
    Accuracy,
    Dataset,
    Drop,
    Environment,
    GateResult,
    GateRow,
    Latency,
    Report,
    Row,
    Stage,
    Throughput,
    Verdict,
)

BASELINE = "baseline-fp32"
CANDIDATE = "student-int8"


def collect(out: Path) -> Report:
    """The report of the run in `out`.

    Raises ValueError when there is no run.
    """
    if not (out / "run.json").exists():
        raise ValueError(f"no finished run in {out} (run.json is missing); run `make compress OUT={out}` first")
    run = json.loads((out / "run.json").read_text())
    gate = Gate(**run["gate"])
    rows = [row for target in run["targets"] for row in rows_of(Folder(out, run, target), gate)]
    result = gate_result(rows, gate)
    images = metrics(out, run["images"])
    return Report(
        created=run["created"],
        command=run["command"],
        seconds=run["seconds"],
        environment=Environment(**run["environment"]),
        model=run["model"],
        dataset=Dataset(**{field: images[field] for field in Dataset.model_fields}),
        stages=[stage_of(out, **stage) for stage in run["stages"]],
        rows=rows,
        gate=result,
        requested=run["requested"],
        notes=findings(rows, result),
    )


def missing_requested(report: Report) -> list[str]:
    """The targets that the user asked for by name and that cannot be built here."""
    return [row.target for row in report.rows if row.status == "unavailable" and row.target in report.requested]


@dataclass(frozen=True)
class Folder:
    """What run.json says about one target, and where."""

    out: Path
    run: dict[str, Any]
    target: dict[str, Any]

    @cached_property
    def latency(self) -> dict[str, Any]:
        return metrics(self.out, self.target["latency"]) if "latency" in self.target else {"timed": {}}

    @cached_property
    def baseline(self) -> NDArray[np.int64] | None:
        predictions = self.target.get("predictions", {})
        return ranks(self.out / predictions[BASELINE]) if BASELINE in predictions else None


def rows_of(folder: Folder, gate: Gate) -> list[Row]:
    """One row per engine of the target; one that says why where the target has none."""
    target = folder.target
    if "unavailable" in target:
        name = target["target"]
        return [
            Row(
                id=f"{CANDIDATE}/{name}",
                network="student",
                precision="int8",
                target=name,
                status="unavailable",
                reason=target["unavailable"],
            )
        ]
    return [row_of(folder, key, path, gate) for key, path in target["engines"].items()]


def row_of(folder: Folder, key: str, path: str, gate: Gate) -> Row:
    target = folder.target
    network: Literal["baseline", "student"] = "baseline" if key.startswith("baseline") else "student"
    build, exported = metrics(folder.out, path), metrics(folder.out, folder.run[network])
    accuracy, drop = answers(folder, key, gate)
    latency = latency_of(folder.latency, key)
    reference = latency_of(folder.latency, BASELINE)
    return Row(
        id=f"{key}/{target['target']}",
        network=network,
        precision=build["precision"],
        target=target["target"],
        status="measured" if accuracy else "built",
        reason=target["cannot_run"],
        artifact=f"{path}/{build['file']}" if build["file"] else None,
        sha256=build["sha256"],
        size_bytes=build["size_bytes"],
        params=exported["params"],
        macs=exported["macs"],
        accuracy=accuracy,
        drop=drop,
        latency_ms=latency,
        throughput=[Throughput(**point) for point in folder.latency.get("throughput", {}).get(key, [])],
        speedup=reference.p50 / latency.p50 if reference and latency else None,
        int8_share=build["int8_share"],
        ships=key == CANDIDATE and "bundle" in target and not (drop and drop.verdict == "fail"),
    )


def answers(folder: Folder, key: str, gate: Gate) -> tuple[Accuracy | None, Drop | None]:
    """Accuracy of the engine, and its drop against the baseline's engine on the same target."""
    predictions = folder.target.get("predictions", {})
    if key not in predictions:
        return None, None
    rank = ranks(folder.out / predictions[key])
    correct = rank == 0
    accuracy = Accuracy(
        top1=100 * float(correct.mean()),
        top5=100 * float((rank < 5).mean()),
        correct=int(correct.sum()),
        n=len(rank),
    )
    if key == BASELINE or folder.baseline is None:
        return accuracy, None
    return accuracy, drop_of(folder.baseline == 0, correct, gate.max_drop)


def ranks(stage: Path) -> NDArray[np.int64]:
    """The rank of the right class among each image's five best answers, 0 the best; 5 where it is not among them."""
    with np.load(stage / "predictions.npz") as arrays:
        hits = arrays["top5"] == arrays["labels"][:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), 5)


def latency_of(latency: dict[str, Any], key: str) -> Latency | None:
    if key not in latency["timed"]:
        return None
    return Latency(batch=latency["batch"], threads=latency["threads"], **latency["timed"][key])


def gate_result(rows: list[Row], gate: Gate) -> GateResult:
    """Candidates are the INT8 engines; strict, one that ships unmeasured keeps the verdict from being a pass."""
    candidates = [row for row in rows if row.id.startswith(f"{CANDIDATE}/") and row.status != "unavailable"]
    verdicts: list[Verdict] = [row.drop.verdict for row in candidates if row.drop]
    if gate.strict and any(row.ships and row.drop is None for row in candidates):
        verdicts.append("inconclusive")
    return GateResult(
        max_drop=gate.max_drop,
        strict=gate.strict,
        verdict=worst(verdicts),
        rows=[GateRow(id=row.id, verdict=row.drop.verdict if row.drop else "unmeasured") for row in candidates],
    )


def stage_of(out: Path, path: str, cached: bool, name: str) -> Stage:
    manifest = json.loads((out / path / "manifest.json").read_text())
    return Stage(name=name, seconds=manifest["seconds"], cached=cached, artifact=path, metrics=manifest["metrics"])


def metrics(out: Path, stage: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((out / stage / "manifest.json").read_text())["metrics"])

"""OUT/devices/<name>.json: what a device measured over ssh. Each of its targets is one more result of the run.

The pipeline writes these files (pipeline/devices.py). They are read with run.json, so the rows of a device survive another
`make report` and another run that ends with the same engines.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.cache import Artifact
from core.engine_name import EngineName, engine_and_device
from measure.device.predict import INDICES
from measure.judge import Judge
from reports.device_seen import DeviceSeen
from reports.run_folder import RunRecord, TargetResult, read_record

FOLDER = "devices"


@dataclass(frozen=True)
class DeviceResult(TargetResult):
    """The results for a target on a device, such as "onnxruntime@pi5".

    unmeasured   why there is no latency
    indices      the file with the test images that its predictions are of
    """

    unmeasured: str | None = None
    indices: Path | None = None

    @cached_property
    def images(self) -> NDArray[np.int64]:
        assert self.indices is not None
        return np.asarray(np.load(self.indices), np.int64)

    @property
    def reason(self) -> str | None:
        return f"latency unmeasured: {self.unmeasured}" if self.unmeasured else None

    def image(self, i: int) -> int:
        return int(self.images[i])

    def judged_by(self, judge: Judge) -> Judge:
        if self.indices is None or judge.counted is None:
            return judge
        return replace(judge, counted=judge.counted[self.images])


@dataclass(frozen=True)
class OnDevice:
    """What was measured of one target. Stages are folders relative to OUT; engines are named by their keys.

    candidate     the engine that ships
    sha256        of the engine in the bundle that went to the device, as bundle.json says; None if it could not be measured
    unavailable   why it could not be measured
    engines       the builds of the baseline and of the candidate
    refused       {engine: why it does not run there}
    """

    target: str
    candidate: str
    sha256: str | None = None
    unavailable: str | None = None
    engines: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    latency: str | None = None

    def is_of(self, bundle: Path | None) -> bool:
        """Whether this is still about the engine in `bundle`, the one that ships; None: the target has no engine."""
        return bundle is not None and self.sha256 in (None, digest_of_engine(bundle))


@dataclass(frozen=True)
class DeviceRecord:
    """What a device measured. `found` is what it is and has, `predicted` the stage with the predictions of all targets."""

    device: str
    measured: str
    found: Mapping[str, Any] = field(default_factory=dict)
    predicted: str | None = None
    targets: Sequence[OnDevice] = ()

    @property
    def available(self) -> bool:
        return any(target.unavailable is None for target in self.targets)

    def write(self, out: Path) -> None:
        path = out / FOLDER / f"{self.device}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**vars(self), "targets": [vars(target) for target in self.targets]}, indent=1))


def read_devices(out: Path) -> list[DeviceRecord]:
    """The records of all devices, by name."""
    found = [json.loads(path.read_text()) for path in sorted((out / FOLDER).glob("*.json"))]
    return [DeviceRecord(**{**each, "targets": [OnDevice(**target) for target in each["targets"]]}) for each in found]


def forget_unavailable(out: Path) -> None:
    """Remove the records of devices that could not be had: a new run does not measure on them."""
    for record in read_devices(out):
        if not record.available:
            (out / FOLDER / f"{record.device}.json").unlink()


def read_run(out: Path) -> RunRecord:
    """The run in `out`, with the results of the devices that measured the engines which ship now.

    Raises ValueError if there is no run.
    """
    run = read_record(out)
    bundles = {result.target: result.bundle for result in run.targets if result.bundle}
    results: list[TargetResult] = list(run.targets)
    stages, notes = list(run.stages), list(run.notes)
    for record in read_devices(out):
        current = [each for each in record.targets if each.is_of(bundles[each.target].path if each.target in bundles else None)]
        results += [result_of(record, each, bundles[each.target], out) for each in current]
        paths = [record.predicted, *(each.latency for each in current)] if current else []
        stages += [stage(out, path) for path in paths if path]
        notes += [
            f"{record.device} measured an earlier engine of {each.target}, so its rows are left out: measure again, with "
            f"`make measure OUT={out} DEVICE={record.device}`."
            for each in record.targets
            if each not in current and each.sha256
        ]
    return replace(run, targets=results, stages=stages, notes=notes)


def result_of(record: DeviceRecord, measured: OnDevice, bundle: Artifact, out: Path) -> DeviceResult:
    """`bundle` has the engine that ships."""
    place = f"{engine_and_device(measured.target)[0]}@{record.device}"

    def named(key: str) -> EngineName:
        return EngineName.parse(f"{key}/{place}")

    if measured.unavailable:
        return DeviceResult(place, unavailable=measured.unavailable, candidate=named(measured.candidate))
    assert record.predicted and measured.latency
    latency = stage(out, measured.latency)
    runs = [key for key in measured.engines if key not in measured.refused]
    return DeviceResult(
        place,
        engines={named(key): stage(out, measured.engines[key]) for key in runs},
        refused={named(key): reason for key, reason in measured.refused.items()},
        predictions={named(key): Artifact(out / record.predicted / measured.target / key, {}) for key in runs},
        judged=(named(measured.candidate),) if measured.candidate in runs else (),
        latency=latency,
        alone={named(key): Artifact(latency.path, {"metrics": found}) for key, found in latency.metrics["alone"].items()},
        candidate=named(measured.candidate),
        bundle=bundle,
        unmeasured=latency.metrics["unmeasured"],
        indices=out / record.predicted / INDICES,
    )


def devices_seen(out: Path) -> list[DeviceSeen]:
    """What the report says about each device that was reached."""
    found = []
    for record in read_devices(out):
        if not record.found:
            continue
        predicted = stage(out, record.predicted).metrics if record.predicted else {}
        conditions = {each.target: stage(out, each.latency).metrics["conditions"] for each in record.targets if each.latency}
        found.append(
            DeviceSeen(
                name=record.device,
                measured=record.measured,
                found=dict(record.found),
                images=predicted.get("n"),
                of=predicted.get("of"),
                verified={engine: each["line"] for engine, each in predicted.get("verified", {}).items()},
                before={target: each["before"] for target, each in conditions.items()},
                after={target: each["after"] for target, each in conditions.items()},
            )
        )
    return found


def stage(out: Path, path: str) -> Artifact:
    return Artifact(out / path, json.loads((out / path / "manifest.json").read_text()))


def digest_of_engine(bundle: Path) -> str:
    """The SHA-256 of the engine in a bundle, as bundle.json says."""
    return str(json.loads((bundle / "bundle.json").read_text())["sha256"])

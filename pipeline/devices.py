"""Measures what ships in OUT on devices over ssh, and adds their rows to the report.

The results of a device are stages like all others: where nothing has changed, they come from the cache. What the device is (its
CPU, its versions) is part of their keys, so this is read first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.cache import Artifact, Stages, locked
from core.console import console
from core.cpu import cores_of, flags_of, kind_of
from core.engine_name import EngineName, engine_and_device
from core.environment import now
from core.hardware import cpu_name
from core.profile import profile_of
from export import targets
from export.bundle import DEVICE, BundleOf, bundle, device_code
from export.prepare_fp32 import PrepareFp32, prepare_fp32
from measure.device.build import BuildThere, build_on_device
from measure.device.devices import Device
from measure.device.latency import latency_on_device
from measure.device.link import Link
from measure.device.predict import DeviceImages, predict_on_device
from measure.device.ssh import DeviceError
from measure.engines import Measure
from reports.card import write_card
from reports.on_device import DeviceRecord, OnDevice, digest_of_engine
from reports.render import render
from reports.rows import collect
from reports.run_folder import RunRecord, TargetResult, read_record
from reports.schema import Report

Engines = Mapping[str, tuple[Artifact, Artifact]]  # {key: (the build, the bundle)} of one target


@dataclass(frozen=True)
class OnDevices:
    """How devices are used: on how many test images (None: all), whether the images stay there (~/.cache/respress), and which
    stages run again."""

    images: int | None = None
    keep: bool = False
    again: tuple[str, ...] = ()


def measure_on(devices: Sequence[Device], out: Path, how: OnDevices) -> Report:
    """Measure what ships in `out` on each of the devices; the report with their rows, which is written into `out`.

    A device that cannot be had gets rows with the reason. Raises ValueError if there is no run, or if nothing of it ships.
    """
    read_record(out)  # before the lock, which would make the folder
    with locked(out):
        run = read_record(out)
        shipped = shipped_in(run, out)
        for device in devices:
            link = Link(device, DEVICE, how.keep)
            try:
                record = OnOne(link, run, Stages(out / "stages", how.again), out, how).measured(shipped)
            except DeviceError as error:
                record = unavailable(device, shipped, str(error))
            finally:
                link.close()
            record.write(out)
        report = render(out)
        write_card(report, out)
    return report


def shipped_in(run: RunRecord, out: Path) -> list[TargetResult]:
    """The results of the targets that ship. Raises ValueError if there is none."""
    ships = {row.on for row in collect(out).rows if row.ships}
    found = [result for result in run.targets if result.target in ships and result.bundle]
    if not found:
        raise ValueError(f"nothing in {out} ships, so there is nothing to measure; expected a run with a bundle")
    return found


def unavailable(device: Device, shipped: Sequence[TargetResult], reason: str) -> DeviceRecord:
    found = [without(result, reason) for result in chosen_of(device, shipped)]
    return DeviceRecord(device.name, now(), targets=found)


def without(result: TargetResult, reason: str) -> OnDevice:
    return OnDevice(result.target, unavailable=reason, candidate=result.candidate_name.key)


def chosen_of(device: Device, shipped: Sequence[TargetResult], kind: str | None = None) -> list[TargetResult]:
    """Those of the targets that are to be measured on a device with this kind of CPU (core/cpu.py).

    Raises ValueError for one that does not ship.
    """
    known = {result.target: result for result in shipped}
    if missing := [name for name in device.targets if name not in known]:
        raise ValueError(f"{device.name} has target {missing[0]!r}, which does not ship; expected some of {', '.join(known)}")
    chosen = [known[name] for name in device.targets or known]
    return suited(chosen, kind)


def suited(chosen: Sequence[TargetResult], kind: str | None) -> list[TargetResult]:
    """One target of each engine: the one that is made for this `kind` of CPU, or for this machine. None: it is not known."""
    found: dict[str, TargetResult] = {}
    for result in sorted(chosen, key=lambda result: engine_and_device(result.target)[1] is not None):
        engine, made_for = engine_and_device(result.target)
        if engine not in found or (made_for and profile_of(made_for).cpu == kind):
            found[engine] = result
    return list(found.values())


@dataclass(frozen=True)
class OnOne:
    """The measurements on the device of `link`."""

    link: Link
    run: RunRecord
    step: Stages
    out: Path
    how: OnDevices

    @property
    def name(self) -> str:
        return self.link.device.name

    def measured(self, shipped: Sequence[TargetResult]) -> DeviceRecord:
        """Raises DeviceError if the device cannot be had, or if it has no runtime of any target."""
        found = self.link.probe()
        kind = kind_of(found["machine"], flags_of(found["cpuinfo"]))
        chosen = chosen_of(self.link.device, shipped, kind)
        refused = {result.target: reason for result in chosen if (reason := self.lacks(result, found))}
        if len(refused) == len(chosen):
            raise DeviceError("; ".join(refused.values()))
        platform = platform_of(self.link.device, found, self.link.threads)
        engines = {result.target: self.engines(result, platform) for result in chosen if result.target not in refused}
        predicted = self.predicted(engines, platform)
        targets = [
            without(result, refused[result.target])
            if result.target in refused
            else self.of_target(result, engines[result.target], predicted, platform)
            for result in chosen
        ]
        return DeviceRecord(self.name, now(), platform, self.path(predicted), targets)

    def lacks(self, result: TargetResult, found: Mapping[str, Any]) -> str | None:
        """What is missing on the device to run the target."""
        packages = ["numpy", *([] if result.unavailable else targets.get(result.target).REQUIRES)]
        missing = [package for package in packages if package.replace("-", "_") not in found["versions"]]
        if not missing:
            return None
        install = f"{found['executable']} -m pip install {' '.join(missing)}"
        return (
            f"{self.name} has no {' and no '.join(missing)} for {result.target}: run `{install}` there, or name another python"
        )

    def engines(self, result: TargetResult, platform: Mapping[str, Any]) -> Engines:
        """The baseline and what ships."""
        assert result.bundle is not None
        baseline, ships = result.baseline, result.candidate_name
        if result.unavailable:
            files = self.step(prepare_fp32, PrepareFp32(), label=result.target, model=self.run.baseline, bundle=result.bundle)
            packed = {baseline: self.packed(result, baseline, files), ships: result.bundle}
            built = {name.key: self.built(name, bundle, platform) for name, bundle in packed.items()}
            return {key: (each, each) for key, each in built.items()}
        return {
            baseline.key: (result.engines[baseline], self.packed(result, baseline, result.engines[baseline])),
            ships.key: (result.engines[ships], result.bundle),
        }

    def packed(self, result: TargetResult, name: EngineName, engine: Artifact) -> Artifact:
        """The bundle of an engine that does not ship."""
        target = targets.get(result.target)
        assert result.bundle is not None
        opened: Any = {} if result.cannot_run or result.unavailable else {"load": target.load}
        return self.step(bundle, BundleOf(**result.bundle.manifest["config"]), label=str(name), context=device_code(),
                         engine=engine, model=self.run.baseline, images=self.run.images, runner=target.runner,
                         **opened)  # fmt: skip

    def built(self, name: EngineName, bundle: Artifact, platform: Mapping[str, Any]) -> Artifact:
        """The bundle with the engine that the device has built from it."""
        config = BuildThere(precision="fp32" if name.network == "baseline" else "int8")
        return self.step(build_on_device, config, label=f"{name}@{self.name}", context=platform, reach=self.link.talk,
                         bundle=bundle)  # fmt: skip

    def predicted(self, engines: Mapping[str, Engines], platform: Mapping[str, Any]) -> Artifact:
        bundles = {f"{target}/{key}": packed for target, each in engines.items() for key, (_, packed) in each.items()}
        config = DeviceImages(device=self.name, images=self.how.images)
        return self.step(predict_on_device, config, label=self.name, context=platform, reach=self.link.talk, engines=bundles,
                         images=self.run.images)  # fmt: skip

    def of_target(
        self,
        result: TargetResult,
        engines: Mapping[str, tuple[Artifact, Artifact]],
        predicted: Artifact,
        platform: Mapping[str, Any],
    ) -> OnDevice:
        assert result.bundle is not None
        start = f"{result.target}/"
        refused = {
            name.removeprefix(start): why for name, why in predicted.metrics["refused"].items() if name.startswith(start)
        }
        latency = self.latency(result, {key: packed for key, (_, packed) in engines.items() if key not in refused}, platform)
        return OnDevice(
            target=result.target,
            sha256=digest_of_engine(result.bundle.path),
            candidate=result.candidate_name.key,
            engines={key: self.path(built) for key, (built, _) in engines.items()},
            refused={**refused, **latency.metrics["refused"]},
            latency=self.path(latency),
        )

    def latency(self, result: TargetResult, bundles: Mapping[str, Artifact], platform: Mapping[str, Any]) -> Artifact:
        """Measured again if there was no latency because the device was throttled or busy."""
        config = Measure(**result.latency.manifest["config"]) if result.latency else Measure()
        label = f"{engine_and_device(result.target)[0]}@{self.name}"
        given: dict[str, Any] = {"engines": bundles, "images": self.run.images, "reach": self.link.talk}
        found = self.step(latency_on_device, config, label=label, context=platform, **given)
        if found.manifest["cached"] and found.metrics["unmeasured"]:
            console.print(f"{label} was {found.metrics['unmeasured']}; its latency is measured again", markup=False)
            again = Stages(self.step.root, (latency_on_device.__name__,))
            found = again(latency_on_device, config, label=label, context=platform, **given)
        return found

    def path(self, stage: Artifact) -> str:
        return str(stage.path.relative_to(self.out))


def platform_of(device: Device, found: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """What of a device its results depend on: it is part of their cache keys, and of the report."""
    board, cpuinfo = found["model"], found["cpuinfo"]
    first = cores_of(cpuinfo)[0] if cpuinfo else {}
    return {
        "device": device.name,
        "cpu": cpu_name(cpuinfo, board) if cpuinfo else found["machine"],
        "flags": first.get("flags") or first.get("Features") or "",
        "threads": threads,
        **{key: found[key] for key in ("machine", "cores", "gpu", "l4t", "python", "versions")},
    }

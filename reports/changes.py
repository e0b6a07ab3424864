"""Two runs -> what differs between them besides their results: software, machine, data, recipe, code, weights."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from core.text import some
from reports.numbers import listed
from reports.run_folder import RunRecord


def changes(old: RunRecord, new: RunRecord) -> list[str]:
    """A line per difference, "what: earlier -> now"; none if the runs have the same of everything."""
    return [
        *differing("", {"model": old.model}, {"model": new.model}),
        *differing("version of ", old.environment.versions, new.environment.versions),
        *differing("", machine_of(old), machine_of(new)),
        *differing("data: ", data_of(old), data_of(new)),
        *differing("gate.", old.gate.model_dump(), new.gate.model_dump()),
        *recipe_changes(old, new),
        *code_changes(old, new),
        *differing("content of ", contents_of(old), contents_of(new)),
    ]


def differing(start: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            yield f"{start}{name}: {listed(before.get(name))} -> {listed(now.get(name))}"


def machine_of(run: RunRecord) -> dict[str, Any]:
    return run.environment.model_dump(exclude={"versions"})


def data_of(run: RunRecord) -> dict[str, Any]:
    dataset = run.dataset
    images = {f"{split} images": n for split, n in dataset.splits.items()}
    return {"name": dataset.name, "classes": len(dataset.classes), **images, "preprocess": dataset.preprocess}


def contents_of(run: RunRecord) -> dict[str, Any]:
    """The first digits of the digests of the index of images (names, labels) and of the networks in FP32 ONNX."""
    students = {f"student {name}".strip(): stage for name, stage in run.students.items()}
    stages = {"the index of images": run.images, "the baseline": run.baseline, **students}
    return {name: stage.manifest["content"][:12] for name, stage in stages.items()}


def recipe_changes(old: RunRecord, new: RunRecord) -> Iterator[str]:
    """Keys of stages that both runs have; a stage may have run several times, with different values."""
    before, now = settings_of(old), settings_of(new)
    for stages, which in ((before.keys() - now.keys(), "earlier"), (now.keys() - before.keys(), "new")):
        if stages:
            yield f"stages only in the {which} run: {some(sorted(map(short, stages)), 10)}"
    for stage in (stage for stage in before if stage in now):
        yield from differing(f"{short(stage)}.", before[stage], now[stage])


def settings_of(run: RunRecord) -> dict[str, dict[str, Any]]:
    """{stage function: {key: its value, or a list where there are several}}"""
    found: dict[str, dict[str, list[Any]]] = {}
    for stage in run.stages:
        keys = found.setdefault(stage.manifest["stage"], defaultdict(list))
        for key, value in stage.manifest["config"].items():
            if value not in keys[key]:
                keys[key].append(value)
    return {
        stage: {key: values[0] if len(values) == 1 else values for key, values in keys.items()} for stage, keys in found.items()
    }


def short(stage: str) -> str:
    """compress.prune.prune -> prune, export.targets.openvino.build -> openvino.build"""
    *_, module, function = f".{stage}".split(".")
    return function if function == module or not module else f"{module}.{function}"


def code_changes(old: RunRecord, new: RunRecord) -> Iterator[str]:
    """Stages of both runs that were executed by different code; manifests of earlier versions do not have its digest."""
    before, now = code_of(old), code_of(new)
    changed = [short(stage) for stage in before if stage in now and before[stage] != now[stage]]
    if changed:
        yield f"code of the stages {some(sorted(changed), 10)}"


def code_of(run: RunRecord) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for stage in run.stages:
        if "code" in stage.manifest:
            found[stage.manifest["stage"]].add(stage.manifest["code"])
    return found

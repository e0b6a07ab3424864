"""Several networks through the same pipeline, then all their engines timed in turns: which one for this device?"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.cache import Artifact, Stages, locked
from core.console import console
from core.environment import now
from core.text import one_line
from data.gated import gated
from export import targets
from measure.engines import Measure
from measure.latency import latency
from pipeline.baseline import images_of
from pipeline.failures import time_all
from pipeline.launch import Launch
from pipeline.recipe import Recipe
from pipeline.run import Run, run
from pipeline.students import Planned, launch_students
from reports.compare import Entrant, compared, render_comparison
from reports.comparison import Comparison


@dataclass(frozen=True)
class Requested:
    """One of the MODELS: `name` is what it is called here and its folder in OUT."""

    name: str
    model: str
    checkpoint: Path | None


def requested(text: str) -> list[Requested]:
    """ "resnet18,resnet50=mine.pth" -> what to compare; networks that come twice are called after their checkpoints.

    Raises ValueError for fewer than two, and for the same twice.
    """
    found = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    models = [model for model, _, _ in found]
    named = [
        Requested(
            model if models.count(model) == 1 else f"{model}-{Path(file).stem or 'trained'}",
            model,
            Path(file) if file else None,
        )
        for model, _, file in found
    ]
    folders = [folder_of(each.name) for each in named]
    if twice := [each.name for each in named if folders.count(folder_of(each.name)) > 1]:
        raise ValueError(f"MODELS {text!r} names {twice[0]} twice; expected networks or checkpoints of different names")
    if len(named) < 2:
        raise ValueError(f"MODELS {text!r}: expected at least two, comma-separated, such as resnet18,resnet50=checkpoint.pth")
    return named


def folder_of(name: str) -> str:
    return name.replace(":", ".")


@dataclass(frozen=True)
class Entry:
    """How a network is pressed; `sweep` as in pipeline/page.py `compress`."""

    model: str
    recipe: Recipe
    sweep: dict[str, Recipe]


def compare(entries: dict[str, Entry], wanted: list[str], out: Path, command: str, launch: Launch | None = None) -> Comparison:
    """Press every network of `entries` by name into OUT/<name>, time all that ships, write OUT/compare.*.

    With `launch`, jobs train the students of all networks first.

    What a network is refused for becomes its row, and the others go on. Raises ValueError when all are refused, and when they
    would not be judged on the same labelled test images.
    """
    started = time.perf_counter()
    entries = on_the_same_images(entries)
    failed: dict[str, str] = {}
    images: dict[str, Artifact] = {}
    runs: dict[str, Run] = {}
    folders = {name: out / folder_of(name) for name in entries}
    with locked(out):
        for name, entry in entries.items():
            with going_on(name, failed):
                images[name] = indexed(entry.recipe, folders[name])
        check_same(images)  # before hours are spent
        if launch:
            planned = [Planned(name, entries[name].recipe, entries[name].sweep, folders[name]) for name in images]
            launch_students(planned, launch, out / "jobs")
        for name in images:
            with going_on(name, failed):
                entry = entries[name]
                runs[name] = run(entry.model, entry.recipe, wanted, folders[name], entry.sweep, command=command)
        if not runs:
            raise ValueError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
        comparison = compared(
            {name: Entrant(folders[name], runs[name].report if name in runs else None, failed.get(name)) for name in entries},
            time_together({name: (entries[name].recipe, done) for name, done in runs.items()}, images, Stages(out / "stages")),
            out,
            created=now(),
            command=command,
            started=started,
        )
        render_comparison(comparison, out)
    return comparison


def on_the_same_images(entries: dict[str, Entry]) -> dict[str, Entry]:
    """`entries`; if one of them is a checkpoint, a part of the test images chooses for all, so that the same ones judge."""
    if not any(entry.recipe.checkpoint for entry in entries.values()):
        return entries

    def changed(recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"data": recipe.data.model_copy(update={"choose_from_test": True})})

    return {
        name: Entry(entry.model, changed(entry.recipe), {label: changed(recipe) for label, recipe in entry.sweep.items()})
        for name, entry in entries.items()
    }


@contextmanager
def going_on(name: str, failed: dict[str, str]) -> Iterator[None]:
    """What refuses the network `name` goes into `failed`, in one line."""
    console.rule(name)
    try:
        yield
    except ValueError as error:
        failed[name] = one_line(error)
        console.print(f"{name} is out: {failed[name]}", markup=False)


def indexed(recipe: Recipe, out: Path) -> Artifact:
    with locked(out):
        return images_of(recipe, Stages(out / "stages"))


def check_same(images: dict[str, Artifact]) -> None:
    """ValueError unless all networks are judged on the same images, whose classes are known."""
    if not images:
        return
    first = next(iter(images))
    theirs, judged = images[first].metrics, gated(images[first].path)
    for name, artifact in images.items():
        data = artifact.metrics
        if not data["labelled"]:
            raise ValueError(
                f"DATA {data['name']} has no labels, and agreement with different baselines cannot be compared; "
                "expected test images in one folder per class"
            )
        if gated(artifact.path) != judged:
            raise ValueError(
                f"MODELS are not judged on the same test images: {first} {theirs['splits']['test']:,} of {theirs['name']}, "
                f"{name} {data['splits']['test']:,} of {data['name']}; pass the same DATA and data.test_limit to all"
            )


def time_together(runs: dict[str, tuple[Recipe, Run]], images: dict[str, Artifact], step: Stages) -> dict[str, dict[str, Any]]:
    """By target the metrics of `latency` for the baselines and candidates of all runs; their keys are "name/engine".

    They are measured as the first run's recipe says. `notes` name the engines that cannot be timed.
    """
    config = next(iter(runs.values()))[0].measure
    found: dict[str, dict[str, Any]] = {}
    for target in dict.fromkeys(target for _, done in runs.values() for target in done.targets):
        engines: dict[str, Artifact] = {}
        inputs: dict[str, Artifact] = {}
        for name, (_, done) in runs.items():
            result = done.targets.get(target)
            if result is None or result.latency is None or result.candidate is None:
                continue
            for engine in (result.baseline, result.candidate):
                if engine in result.engines:
                    engines[f"{name}/{engine.key}"] = result.engines[engine]
                    inputs[f"{name}/{engine.key}"] = images[name]
        timed, failed = time_all(partial(time_turns, step, config, target, inputs), engines)
        notes = [f"{engine} cannot be timed beside the others: {reason}" for engine, reason in failed.items()]
        found[target] = {"timed": {}, **(timed.metrics if timed else {}), "notes": notes}
    return found


def time_turns(
    step: Stages, config: Measure, target: str, images: Mapping[str, Artifact], engines: Mapping[str, Artifact]
) -> Artifact:
    """The latencies of the `engines` of one target, which take turns; `images` has the input of each."""
    module = targets.get(target)
    inputs = {name: images[name] for name in engines}
    return step(latency, config, label=target, context=module.platform(), load=module.load, engines=engines, images=inputs)

"""Plain against residual networks, and shortcuts of option A against option B, at several depths (He et al. 2015).

    python -m benchmarks.ablate --set ablate.epochs=5

As in section 4.2 of the paper (arXiv:1512.03385): the same layers with and without shortcuts, trained on CIFAR-10 by the same
schedule. Nothing is chosen on the test images, so their error is recorded after every epoch. Every training is a cached stage:
an interrupted run continues.
"""

from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.at_once import at_once
from benchmarks.conditions import RESULTS, conditions, list_of, started_with
from benchmarks.depth import WHOLE, Ablate, ablated
from benchmarks.table import with_section
from compress.device import device_and_precision
from core.cache import Artifact, Stages, locked
from core.config import read
from core.console import console
from core.text import joined
from data.index import Data, fingerprint, index
from models.resnet import Shortcuts, family_spec
from pipeline.options import Set, changes_of
from reports.ablation import COLUMNS, Curves, Gradients, Trained, findings, render_ablation, rows

PACKAGES = ("torch", "numpy")
SHORT = 5  # epochs where there is no GPU: less than an hour on two cores (estimated)
NAMED: dict[str, Shortcuts] = {"plain": "none", "A": "padding", "B": "projection"}
BY_FLAG = {"seed": "--seeds", "arch": "--layers", "shortcut": "--shortcuts"}
UNEQUAL = ("minutes", "most_minutes")


def main(
    layers: Annotated[str, typer.Option(help="depths, comma-separated: 20, 32, 44, 56, 110; 18 and 34 with plain,B")] = "20,56",
    shortcuts: Annotated[str, typer.Option(help="plain (none), A (padding) and B (1x1 convolutions)")] = "plain,A,B",
    seeds: Annotated[str, typer.Option(help="of the trainings, comma-separated")] = "0",
    data: Annotated[str, typer.Option(help="a data set's name, or a folder of images")] = "cifar10",
    jobs: Annotated[int, typer.Option(min=1, help="trainings at the same time, each in a process")] = 1,
    changes: Set = [],  # noqa: B006 - typer reads it and never changes it
    out: Annotated[Path, typer.Option(help="folder of curves.json and ablation.html, and of the cache")] = Path("runs/ablate"),
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Train the networks and draw their errors and gradients; --set changes ablate.* and data.*."""
    settings = sections(changes_of(changes) | {"data.name": data})
    config = configured(settings["ablate"])
    images_config = read(Data, settings["data"], "--set data.")
    products = product(list_of("--seeds", seeds, int), list_of("--layers", layers, int), kinds(shortcuts))
    wanted = [
        config.model_copy(update={"arch": f"resnet{depth}", "shortcut": shortcut, "seed": seed})
        for seed, depth, shortcut in dict.fromkeys(products)
    ]
    for one in wanted:
        family_spec(one.arch, shortcut=one.shortcut)  # raises ValueError before anything is trained
    with locked(out):
        step = Stages(out / "stages")
        images = step(index, images_config, context=fingerprint(images_config))
        found: list[Trained] = []
        for artifact in at_once(jobs, in_cache, [(step.root, one, images) for one in wanted]):
            found.append(trained(artifact))
            curves = Curves(data=images.metrics["name"], about=about(config, images, found), trained=found)
            render_ablation(curves, out)
            text = results.read_text() if results.exists() else ""
            title = f"Plain and residual networks, {curves.data}, {config.epochs} epochs"
            results.write_text(with_section(text, title, markdown(curves)))
    table = Table(*COLUMNS)
    for texts in rows(curves):
        table.add_row(*texts)
    wide = Console(width=None if console.is_terminal else 160, highlight=False)
    wide.print(table, *findings(curves.networks), sep="\n")
    console.print(f"written to {out / 'ablation.html'}, {out / 'curves.json'} and {results}", markup=False)


def in_cache(root: Path, config: Ablate, images: Artifact) -> Artifact:
    """The training of `config`, in the cache in `root`."""
    return Stages(root)(ablated, config, label=config.name, images=images)


def trained(artifact: Artifact) -> Trained:
    """What a stage `ablated` has recorded."""
    metrics, config, machine = artifact.metrics, artifact.manifest["config"], artifact.manifest["machine"]
    history = metrics["history"]
    return Trained(
        layers=int(config["arch"].removeprefix("resnet")),
        shortcut=config["shortcut"],
        seed=config["seed"],
        params=metrics["params"],
        macs=metrics["macs"],
        minutes=artifact.manifest["seconds"] / 60,
        machine=f"{metrics['precision']} on {machine['gpu'] or machine['cpu']}",
        loss=[epoch["loss"] for epoch in history],
        train_error=[epoch["measured"]["train_error"] for epoch in history],
        test_error=[epoch["measured"]["test_error"] for epoch in history],
        gradients=Gradients.model_validate_json((artifact.path / "gradients.json").read_text()),
    )


def sections(changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{"ablate.epochs": 5} -> {"ablate": {"epochs": 5}, "data": {}}. Raises ValueError for another section."""
    found: dict[str, dict[str, Any]] = {"ablate": {}, "data": {}}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section not in found or not name:
            raise ValueError(f"--set {key}: expected a key of {' or '.join(f'{known}.…' for known in found)}")
        found[section][name] = value
    return found


def configured(settings: dict[str, Any]) -> Ablate:
    """The schedule of all trainings. Without `epochs` it is whole where there is a GPU, else short.

    Raises ValueError for an unknown key, and for one that a flag sets or that would make the trainings unequal.
    """
    for key in settings:
        if key in BY_FLAG:
            raise ValueError(f"--set ablate.{key}: expected {BY_FLAG[key]}")
        if key in UNEQUAL:
            raise ValueError(f"--set ablate.{key}: networks of different speed would be trained unequally; pass ablate.epochs")
    epochs = WHOLE if device_and_precision()[0].type == "cuda" else SHORT
    if "epochs" not in settings and epochs == SHORT:
        console.print(f"No GPU: {SHORT} epochs instead of {WHOLE}; --set ablate.epochs={WHOLE} trains as long as the paper.")
    return read(Ablate, {"epochs": epochs, **settings}, "--set ablate.")


def kinds(text: str) -> list[Shortcuts]:
    """ "plain,A" -> the kinds of shortcuts. Raises ValueError for one that is not in `NAMED`."""
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMED]:
        raise ValueError(f"--shortcuts {unknown[0]!r}: expected {', '.join(NAMED)}, comma-separated")
    return [NAMED[name] for name in names]


def about(config: Ablate, images: Artifact, found: list[Trained]) -> str:
    """The conditions, and how the table is to be read."""
    there, machines = images.metrics["splits"], joined(list(dict.fromkeys(one.machine for one in found)))
    length = f"{config.epochs} epochs" + ("" if config.epochs == WHOLE else f" (the paper: {WHOLE})")
    drops = " and ".join(f"{share:g}" for share in config.drops)
    course = f"a tenth of it after {drops} of the steps" if drops else "falling to zero as a cosine"
    return (
        f"{conditions('benchmarks.ablate', PACKAGES)}; {images.metrics['name']}, {there['train']:,} training images; {length}, "
        f"batch {config.batch_size}, rate {config.lr:g}, {course}; trained in {machines}. Errors are those after the last "
        f"epoch: of {min(config.train_images, there['train']):,} training images without augmentation, and of all "
        f"{there['test']:,} test images; of several seeds, mean (least … greatest)."
    )


def markdown(curves: Curves) -> list[str]:
    lines = [curves.about, "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(texts)} |" for texts in rows(curves)]
    return [*lines, "", *(f"- {text}" for text in findings(curves.networks))]


if __name__ == "__main__":
    started_with(main)

"""The folder of a run if the user names none: runs/<model>, with the checkpoint and the data set in its name.

runs/resnet18 · runs/resnet18+cifar10 · runs/resnet50-mine · runs/resnet50-mine+my-images
of a comparison: runs/compare-resnet18,resnet50 · runs/compare-resnet18,resnet50-mine+my-images

So a run does not overwrite the report of the same model with another checkpoint or on other images. Files and folders outside
of the current folder may have the same name: a hash of their path follows the name.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from core.digest import digest_of
from data.index import NAMED, Data
from pipeline.compare import Entry, folder_of
from pipeline.recipe import Recipe

RUNS = Path("runs")
LONGEST = 40  # characters of a name
LONGEST_LIST = 100  # characters of the names of all networks


def default_out(model: str, recipe: Recipe) -> Path:
    """The folder for a run of `model` by `recipe`."""
    return RUNS / f"{network(model, recipe)}{images(recipe)}"


def default_comparison(entries: Iterable[Entry]) -> Path:
    """The folder for a comparison of `entries`."""
    compared = list(entries)
    names = ",".join(network(entry.model, entry.recipe) for entry in compared)
    if len(names) > LONGEST_LIST:
        names = f"{names[:LONGEST_LIST]}-{digest_of(names)[:6]}"
    return RUNS / f"compare-{names}{images(compared[0].recipe)}"


def network(model: str, recipe: Recipe) -> str:
    name = folder_of(model)
    return name if recipe.checkpoint is None else f"{name}-{short(str(recipe.checkpoint).removesuffix('.pth'))}"


def images(recipe: Recipe) -> str:
    """The data set, after a plus; nothing for the default."""
    name = recipe.data.name
    return "" if name == Data().name else f"+{name if name in NAMED else short(name)}"


def short(path: str) -> str:
    """The name of a file or folder, in characters that every file system and shell takes as they are."""
    whole = Path(os.path.abspath(path))
    name = re.sub(r"[^\w.-]", "_", whole.name, flags=re.ASCII)[:LONGEST]
    unique = whole.parent == Path.cwd() and name == whole.name and name not in NAMED
    return name if unique else f"{name}-{digest_of(os.fsencode(whole).hex())[:6]}"

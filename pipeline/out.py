"""The folder of a run if the user names none: runs/<model>, with the checkpoint and the data set in its name.

runs/resnet18 · runs/resnet18+cifar10 · runs/resnet50-mine · runs/resnet50-mine+my-images

So a run does not overwrite the report of the same model with another checkpoint or on other images. Files and folders outside
of the current folder may have the same name: a hash of their path follows the name.
"""

import os
import re
from pathlib import Path

from core.digest import digest_of
from data.index import NAMED, Data
from pipeline.compare import folder_of
from pipeline.recipe import Recipe

RUNS = Path("runs")
LONGEST = 40  # characters of a name


def default_out(model: str, recipe: Recipe) -> Path:
    """The folder for a run of `model` by `recipe`."""
    name = folder_of(model)
    if recipe.checkpoint is not None:
        name += f"-{short(str(recipe.checkpoint).removesuffix('.pth'))}"
    if recipe.data.name != Data().name:
        name += f"+{recipe.data.name if recipe.data.name in NAMED else short(recipe.data.name)}"
    return RUNS / name


def short(path: str) -> str:
    """The name of a file or folder, in characters that every file system and shell takes as they are."""
    whole = Path(os.path.abspath(path))
    name = re.sub(r"[^\w.-]", "_", whole.name, flags=re.ASCII)[:LONGEST]
    unique = whole.parent == Path.cwd() and name == whole.name and name not in NAMED
    return name if unique else f"{name}-{digest_of(os.fsencode(whole).hex())[:6]}"

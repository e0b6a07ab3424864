"""Recipe: a TOML file with the changes of the command line -> frozen config objects.

Every section is the config class of one stage. For an unknown section or key, the error lists the known ones.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from calibration.observe import Calibrate
from calibration.rank_layers import RankLayers
from compress.budget import Budget
from compress.derive import Derive
from compress.distill import Distill
from compress.features import Features
from compress.plan import ROUND_TO
from compress.prune import Prune
from compress.prune_sensitivity import Sensitivity
from compress.quantize_aware import QuantizeAware
from compress.train import Train
from compress.transfer import Transfer
from core.config import Config, read
from core.engine_name import engine_and_device
from core.profile import Profile, profile_of
from data.duplicates import CheckImages
from data.index import Data
from export import targets
from export.bundle import Bundle
from export.half import Half
from export.onnx import Export
from export.targets._engine import EngineOptions
from export.triton import Triton
from measure.engines import Measure
from measure.expect import Expect
from measure.gate import Gate
from models.checkpoint import Load
from models.custom import is_custom, source_of
from models.resnet import FAMILY

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
OF_BASELINE = 0.5  # of MINUTES, at most, trains a baseline where there is no checkpoint
DEFAULT = "default.toml"  # for models without a recipe of their own


class Ladder(Config):
    """The rungs to try if an INT8 engine fails the gate, see pipeline/ladder.py; none if `rungs` is empty.

    `most` is the largest share of the layers that go back to floating point. `again`: climb it also if nothing but the gate has
    changed since the last run in OUT; without it, a changed gate only judges what that run has built.
    """

    rungs: tuple[Literal["mixed", "quantize_aware"], ...] = ("mixed", "quantize_aware")
    most: float = Field(default=0.5, gt=0, le=1)
    again: bool = False


class Levels(Config):
    """The search for the hardest pruning within the gate's limit, see pipeline/levels.py.

    on           None: where neither the recipe nor the user says how much to prune
    shares       of the baseline's MACs that the levels have, from mild to hard
    first        what goes first: "channels", or "blocks" until no more can go, then channels. "quicker": blocks if fewer blocks
                 make INT8 of the first target clearly quicker than fewer channels do (see compress/fewer.py)
    allocations  ways to divide the pruning among the layers. The best of them by top-1 before training is taken at every level
    epochs       of the short training at every level at least, or a tenth of `distill.epochs`; the level that is taken is
                 trained for `distill.epochs` more
    slack        how many times the limit a level may lose after its short training: longer training repairs some. A
                 resnet56 with half its MACs lost 1.89 points after one epoch and 0.84 after ten more (n = 3,333, one seed)
    halvings     how often the interval is halved between the last level that is left and the first that is lost
    """

    on: bool | None = None
    shares: tuple[float, ...] = (0.75, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08)
    first: Literal["quicker", "blocks", "channels"] = "quicker"
    allocations: tuple[Literal["importance", "local", "isomorphic", "global"], ...] = Field(
        default=("importance", "isomorphic", "global"), min_length=1
    )
    epochs: int = Field(default=1, ge=1)
    slack: float = Field(default=2.0, ge=1)
    halvings: int = Field(default=1, ge=0)


class Recipe(Config):
    """One run. `targets` maps the engines to build, here or on a device ("onnxruntime@arm64"), to their options.

    minutes         the time of the whole run; None: no limit
    latency_limit   milliseconds that one call may take; the report names the largest batch within it
    prefer          of the engines that pass: the quickest one, or the smallest file
    flip            False: no training exchanges left and right (digits, text)

    What is not set in `train`, `transfer`, `distill` and `quantize_aware` follows the images: see compress/follow.py.
    """

    checkpoint: Path | None = None
    finetune: bool = True
    flip: bool = True
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    latency_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    prefer: Literal["latency", "size"] = "latency"
    data: Data = Data()
    check_images: CheckImages = CheckImages()
    load: Load
    expect: Expect = Expect()
    train: Train
    transfer: Transfer = Transfer()
    features: Features = Features()
    student: Derive = Derive()
    sensitivity: Sensitivity = Sensitivity()
    budget: Budget = Budget()
    prune: Prune = Prune()
    distill: Distill = Distill()
    quantize_aware: QuantizeAware = QuantizeAware()
    export: Export = Export()
    half: Half = Half()
    calibrate: Calibrate = Calibrate()
    rank_layers: RankLayers = RankLayers()
    ladder: Ladder = Ladder()
    levels: Levels = Levels()
    measure: Measure = Measure()
    bundle: Bundle = Bundle()
    triton: Triton = Triton()
    gate: Gate = Gate()
    targets: dict[str, EngineOptions] = Field(default_factory=dict)


def load_recipe(model: str, file: Path | None, changes: dict[str, Any], wanted: list[str]) -> Recipe:
    """The recipe `file`, or the default recipe of `model`, with `changes` ({"prune.pruning_ratio": …}).

    `wanted` are the targets to build; empty: all that work here. Raises ValueError for unknown models, keys and targets.
    """
    if model not in FAMILY and not is_custom(model):
        raise ValueError(
            f"unknown model {model!r}; known models: {', '.join(FAMILY)}; or package.module:factory for a network of your own"
        )
    own = {f"{section}.arch": model for section in ("load", "train")}
    if is_custom(model):
        own |= {f"{section}.source": source_of(model) for section in ("load", "train")}
    path = file or recipe_of(model, changes.get("data.name", Data().name))
    if not path.is_file():
        raise ValueError(f"recipe {path} does not exist; recipes that come with respress: {', '.join(known_recipes())}")
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"recipe {path} is not TOML ({error}); see recipes/ for examples") from error
    for key, value in {**changes, **own}.items():
        *parents, last = key.split(".")
        section_of(content, parents, path.name)[last] = value
    section_of(content, ["targets"], path.name)
    options = content.pop("targets")
    for name in (*options, *wanted):
        targets.get(name)
    for name in options:
        section_of(options, [name], f"{path.name}: targets")
    if targets.REFERENCE in wanted:
        known = ", ".join(name for name in targets.names() if name != targets.REFERENCE)
        raise ValueError(f"target {targets.REFERENCE!r} is the reference, which is always measured; expected engines: {known}")
    chosen = dict.fromkeys([targets.REFERENCE, *(wanted or targets.names())])
    built = {name: options_of(name, options, f"{path.name}: targets.{name}: ") for name in chosen}
    recipe = for_targets(read(Recipe, {**content, "targets": built}, f"{path.name}: "))
    check_sense(recipe)
    if recipe.levels.on is None:
        searches = recipe.finetune and not recipe.budget.limited and "pruning_ratio" not in content.get("prune", {})
        recipe = recipe.model_copy(update={"levels": recipe.levels.model_copy(update={"on": searches})})
    if recipe.minutes and recipe.checkpoint is None and not (recipe.train.minutes or recipe.train.most_minutes):
        most = round(OF_BASELINE * recipe.minutes, 3)
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"most_minutes": most})})
    if not recipe.finetune and recipe.data.train_limit is None:  # there is no need to check a million images
        enough = 4 * recipe.calibrate.images  # some of every class are held out
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train_limit": enough})})
    return recipe


def options_of(name: str, sections: dict[str, Any], where: str) -> EngineOptions:
    """The options of the target `name`. An engine on a device has those of the engine, and what its own section changes; a
    `profile` there changes single fields of the device's profile."""
    engine, device = engine_and_device(name)
    inherited = {key: value for key, value in sections.get(engine, {}).items() if key != "profile"} if device else {}
    given = {**inherited, **sections.get(name, {})}
    profile = read(Profile, {**profile_of(device).model_dump(), **section_of(given, ["profile"], where)}, f"{where}profile: ")
    return read(targets.get(name).Options, {**given, "profile": profile}, where)


def for_targets(recipe: Recipe) -> Recipe:
    """`recipe` with what calibration and pruning have to know of the devices."""
    chosen = [(targets.get(name), options.profile) for name, options in recipe.targets.items()]
    placements = [target.placement(profile) for target, profile in chosen]
    bits = {placement.reduce_range for placement in placements if placement and not placement.symmetric}
    changes: dict[str, Config] = {}
    if bits:
        changes["calibrate"] = recipe.calibrate.model_copy(update={"reduce_range": tuple(sorted(bits))})
    round_to = max(profile.round_to for _, profile in chosen)
    if recipe.prune.round_to is None and round_to != ROUND_TO:
        changes["prune"] = recipe.prune.model_copy(update={"round_to": round_to})
    return recipe.model_copy(update=changes)


def recipe_of(model: str, data: str) -> Path:
    """The recipe of the model on that data set, of the model, or of all models: the first that there is."""
    files = [FOLDER / f"{name}.toml" for name in (f"{model}-{data}", model) if "/" not in name]
    return next((file for file in files if file.is_file()), FOLDER / DEFAULT)


def check_sense(recipe: Recipe) -> None:
    """ValueError for settings that contradict each other."""
    if is_custom(recipe.load.arch) and (recipe.load.stem or recipe.train.stem or recipe.train.shortcut):
        raise ValueError(f"MODEL {recipe.load.arch} has a stem and shortcuts of its own; leave out --stem and train.shortcut")
    if not recipe.finetune and recipe.budget.limited:
        raise ValueError("BUDGET needs pruning, but --no-finetune skips it; remove one of them")
    if recipe.levels.on and (recipe.budget.limited or not recipe.finetune):
        raise ValueError("levels.on=true searches how much to prune, and BUDGET or --no-finetune says it; pass one of them")
    if recipe.checkpoint is None and not recipe.finetune:
        raise ValueError("--no-finetune quantizes a trained network as it is; pass CHECKPOINT=file")


def check_trainable(recipe: Recipe, images: dict[str, Any], sweep: bool) -> None:
    """ValueError for a budget or a `sweep` without training images: `images` are the metrics of `index`."""
    needs = "SWEEP" if sweep else "BUDGET" if recipe.budget.limited else ""
    if sweep and not recipe.finetune:
        raise ValueError("SWEEP needs pruning, but --no-finetune skips it; remove one of them")
    if needs and not images["trainable"]:
        raise ValueError(f"{needs} needs training images, DATA {images['name']} has none; pass train/<class>/*, or no {needs}")


def section_of(content: dict[str, Any], names: list[str], file: str) -> dict[str, Any]:
    """The table at `names` in `content`; an empty one is added if there is none."""
    for i, name in enumerate(names, start=1):
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise ValueError(f"{file}: {'.'.join(names[:i])} = {content!r}: expected a section with keys of its own")
    return content


def known_recipes() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))

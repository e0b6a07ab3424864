"""The search for the hardest pruning within the gate's limit: levels of one family of networks, from mild to hard.

Every level has fewer MACs than the one before. It is pruned from the recovered network of the level before, trained for a
short time, and compared with the baseline on the images that choose. The first level that certainly loses too much
ends the search; between it and the last level that is left, the search tries the middle. The hardest level that is left gets
the whole training; if it does not pass then, the level below gets it. Nothing here reads the images that judge.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from compress.budget import Budget, OutOfReach
from compress.derive import derive_student
from compress.distill import Distill, distill
from compress.prune import prune
from compress.search import Search, search
from core.cache import Artifact, Stages
from core.console import console
from core.engine_name import EngineName
from export import targets
from measure.gate import too_few
from measure.judge import judge_of
from measure.statistics import tango_lower, tango_upper
from models.checkpoint import load
from models.cost import cost
from pipeline.builder import EngineBuilder
from pipeline.choose import drop
from pipeline.recipe import Recipe
from pipeline.student import Base
from reports.run_folder import Level

UNPRUNED = "unpruned"


@dataclass(frozen=True)
class Found:
    """The checkpoints to build engines of, by variant from the mildest to the hardest; all levels that were tried."""

    networks: dict[str, Artifact]
    levels: tuple[Level, ...]


def hardest(recipe: Recipe, step: Stages, base: Base) -> Found:
    """The baseline's own network, and where there are any, the hardest level that the gate allows and the level below it."""
    levels = Levels(recipe, step, base)
    left = list(levels.left())
    networks = {UNPRUNED: base.teacher}
    while left:
        hard = left.pop()
        trained = levels.trained(hard)
        blind = trained.verdict == "inconclusive" and too_few(trained.drop, recipe.gate.max_drop)
        if trained.verdict == "pass" or blind:
            milder = [level for level in left if levels.tried[level].verdict != "fail"][-1:]
            networks |= {name: levels.networks[name] for name in (*milder, hard)}
            break
    return Found(networks, tuple(levels.tried.values()))


class Levels:
    """The levels that were tried, by name, and their checkpoints."""

    def __init__(self, recipe: Recipe, step: Stages, base: Base) -> None:
        self.recipe, self.step, self.base = recipe, step, base
        self.judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
        self.reference = EngineBuilder.of(recipe, step, targets.REFERENCE, base.images)
        network, _ = load(base.teacher.path)
        self.whole = cost(network, base.images.metrics["input_shape"])["macs"]
        self.tried: dict[str, Level] = {}
        self.networks: dict[str, Artifact] = {}
        self.short: Distill = recipe.distill.model_copy(update={"epochs": recipe.levels.epochs, "minutes": None})

    def left(self) -> Iterator[str]:
        """Try levels; the names of those that do not certainly lose too much, from mild to hard."""
        network = self.step(derive_student, self.recipe.student, teacher=self.base.teacher)
        mild, lost = 1.0, 0.0  # shares of the baseline's MACs: of the last level that is left, of one that is lost
        shares = list(self.recipe.levels.shares)
        halvings = self.recipe.levels.halvings
        while shares or (lost and halvings):
            if lost:
                halvings -= 1
            share = (mild * lost) ** 0.5 if lost else shares.pop(0)
            try:
                name = self.level(share, network)
            except OutOfReach as reason:
                console.print(f"· {reason}", markup=False)
                return
            if self.is_lost(name):
                lost, shares = share, []
                continue
            mild, network = share, self.networks[name]
            yield name

    def level(self, share: float, start: Artifact) -> str:
        """Prune `start` to a `share` of the baseline's MACs and train it for a short time; the name of the level."""
        name = f"{100 * share:.0f}% of MACs"
        images, teacher = self.base.images, self.base.teacher
        config = Search(budget=Budget(max_macs=share * self.whole), prune=self.recipe.prune, notes=False)
        plan = self.step(search, config, label=name, model=start, images=images, baseline=self.base.baseline, trial=no_trial)
        pruned = self.step(prune, self.recipe.prune, label=name, model=start, images=images, plan=plan)
        network = self.step(distill, self.short, label=name, student=pruned, teacher=teacher, images=images)
        self.note(name, pruned.metrics["after"]["macs"], network)
        return name

    def trained(self, name: str) -> Level:
        """The level `name` after the whole training."""
        network = self.step(
            distill, self.recipe.distill, label=name, student=self.networks[name], teacher=self.base.teacher,
            images=self.base.images,
        )  # fmt: skip
        return self.note(name, self.tried[name].macs, network)

    def note(self, name: str, macs: float, network: Artifact) -> Level:
        """Compare `network` with the baseline on the images that choose, and keep both under `name`."""
        baseline = self.reference.baseline
        candidate = EngineName("student", "fp32", name, targets.REFERENCE)
        checkpoints = {baseline: self.base.teacher, candidate: network}
        predictions = {
            key: self.reference.predict(key, self.reference.build(key, model), "val") for key, model in checkpoints.items()
        }
        found = drop(predictions, candidate, self.judge)
        assert found is not None
        epochs = network.metrics["epochs"] + (self.tried[name].epochs if name in self.tried else 0)
        self.networks[name] = network
        self.tried[name] = Level(name, macs / self.whole, macs, epochs, found)
        console.print(f"  {name}: {found.points:+.2f} points after {epochs} epochs, n = {found.n:,}", markup=False)
        return self.tried[name]

    def is_lost(self, name: str) -> bool:
        """Whether the level certainly loses more than the whole training can repair. On images so few that no network could
        pass, what it seems to lose counts: else the search would go on until nothing is left of the network.
        """
        found, limit = self.tried[name].drop, self.recipe.levels.slack * self.recipe.gate.max_drop
        blind = tango_upper(0, 0, found.n) >= self.recipe.gate.max_drop
        return found.points >= limit if blind else tango_lower(found.lost, found.gained, found.n) > limit


def no_trial(*_: object, **__: object) -> list[dict[str, float]]:
    raise AssertionError("a limit on MACs needs no engines")

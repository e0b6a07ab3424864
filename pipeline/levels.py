"""The search for the hardest pruning within the gate's limit: levels of one family of networks, from mild to hard.

Every level has fewer MACs than the one before. It is pruned from the recovered network of the level before, trained for a
short time, and compared with the baseline on the images that choose. The first level that certainly loses too much
ends the search; between it and the last level that is left, the search tries the middle. The whole training goes to the hardest
level that it can be expected to bring within the limit; if that does not pass then, the level below gets it. Nothing here reads
the images that judge.

Levels are shares of MACs, not of a measured latency: INT8 engines of small networks hardly get faster with fewer channels,
only smaller, and levels of latency would then end the search at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from compress.budget import Budget, OutOfReach
from compress.derive import derive_student
from compress.distill import Distill, distill
from compress.pace import pace
from compress.prune import Prune, prune
from compress.ratio import Ratio, find_ratio
from compress.search import Search, search
from core.cache import Artifact, Stages
from core.console import console
from core.engine_name import EngineName
from core.text import joined
from export import targets
from measure.judge import judge_of
from measure.limits import can_pass, surely_above, too_few
from models.checkpoint import load
from models.cost import cost
from pipeline.builder import EngineBuilder
from pipeline.choose import drop
from pipeline.minutes import Plan
from pipeline.recipe import Recipe
from pipeline.student import Base
from reports.run_folder import Level

# of the drop after the short training is left after the whole one. Seen: 0.84 of 1.89 points (resnet56, n = 3,333)
REMAINS = 0.5
LESS = 0.9  # a level has at most this share of the MACs of the level before


@dataclass(frozen=True)
class Found:
    """The checkpoints to build engines of, by variant from the mildest to the hardest; all levels that were tried; notes."""

    networks: dict[str, Artifact]
    levels: tuple[Level, ...]
    notes: tuple[str, ...] = ()


def hardest(recipe: Recipe, step: Stages, base: Base, plan: Plan) -> Found:
    """Where there are any, the hardest level that the gate allows and the level below it."""
    levels = Levels(recipe, step, base, plan)
    levels.tell()
    left = levels.promising(list(levels.left()))
    networks: dict[str, Artifact] = {}
    while left:
        hard = left.pop()
        trained = levels.trained(hard, others=bool(left))
        blind = trained.verdict == "inconclusive" and too_few(trained.drop)
        if trained.verdict == "pass" or blind:
            milder = [level for level in left if levels.tried[level].verdict != "fail"][-1:]
            networks = {name: levels.networks[name] for name in (*milder, hard)}
            break
    return Found(networks, tuple(levels.tried.values()), tuple(levels.notes))


class Levels:
    """The levels that were tried, by name, and their checkpoints."""

    def __init__(self, recipe: Recipe, step: Stages, base: Base, plan: Plan) -> None:
        self.recipe, self.step, self.base, self.plan = recipe, step, base, plan
        self.judge = judge_of(recipe.gate, base.images.path, base.checked.path, "val")
        self.reference = EngineBuilder.of(recipe, step, targets.REFERENCE, base.images)
        self.whole = self.macs(base.teacher)
        self.tried: dict[str, Level] = {}
        self.networks: dict[str, Artifact] = {}
        self.notes: list[str] = []

    def tell(self) -> None:
        """Say what will be trained, and how long it takes here."""
        images, teacher = self.base.images, self.base.teacher
        pace_here = self.step(pace, self.recipe.distill, student=teacher, teacher=teacher, images=images).metrics
        console.print(self.plan.text(self.recipe, pace_here), markup=False)

    def left(self) -> Iterator[str]:
        """Try levels; the names of those that do not certainly lose too much, from mild to hard."""
        teacher = self.base.teacher
        student = self.step(derive_student, self.recipe.student, teacher=teacher)
        own = self.macs(student) / self.whole
        if own < LESS:  # the student has fewer blocks: it is a level itself
            name = self.level(own, student, whole=True)
            if self.is_lost(name):
                self.notes.append(f"The student with fewer blocks ({name}) lost too much; the search kept all blocks.")
            else:
                yield name
                yield from self.levels_of(self.networks[name], own)
                return
        yield from self.levels_of(teacher, 1.0)

    def promising(self, left: list[str]) -> list[str]:
        """Those of the levels `left` that can be expected to pass after the whole training; else the mildest one."""
        found = [name for name in left if can_pass(self.tried[name].drop, REMAINS)]
        if harder := [name for name in left if name not in found]:
            self.notes.append(
                f"{joined(harder)}: the drop after the short training is too large to expect a pass after the whole one. "
                "More epochs (--set distill.epochs=…) may repair it."
            )
        return found or left[:1]

    def levels_of(self, network: Artifact, mild: float) -> Iterator[str]:
        """The levels that are left of those below `network`, which has the share `mild` of the baseline's MACs."""
        lost = 0.0  # share of the baseline's MACs of a level that is lost
        shares, halvings = list(self.recipe.levels.shares), self.recipe.levels.halvings
        while shares or (lost and halvings):
            if lost:
                halvings -= 1
            share = (mild * lost) ** 0.5 if lost else shares.pop(0)
            if share >= LESS * mild:  # channels go in multiples: a level may have fewer MACs than it should
                continue
            if self.plan.is_over(len(self.tried)):
                self.notes.append(
                    f"{self.plan.limit} ended the search; with more time it would try {100 * share:.0f}% of MACs."
                )
                return
            try:
                name = self.level(share, network)
            except OutOfReach as reason:
                self.notes.append(f"The search ends before {100 * share:.0f}% of MACs: {reason}.")
                return
            if self.is_lost(name):
                lost, shares = self.tried[name].share, []
                continue
            mild, network = self.tried[name].share, self.networks[name]
            yield name

    def level(self, share: float, start: Artifact, whole: bool = False) -> str:
        """Prune `start` to a `share` of the baseline's MACs, or keep it `whole`, and train it; the name of the level."""
        name = f"{100 * share:.0f}% of MACs"
        pruned = start if whole else self.pruned(name, share, start)
        config = self.plan.short(self.recipe, len(self.tried))
        network = self.distilled(name, config, pruned)
        self.note(name, self.macs(pruned), network, network.metrics["epochs"])
        return name

    def pruned(self, name: str, share: float, start: Artifact) -> Artifact:
        """`start` with a `share` of the baseline's MACs: of several ways to divide the pruning among the layers, the one with
        the best top-1 on the images that choose, after batch norm is re-estimated (Li et al. 2020, arXiv:2007.02491). This is a
        ranking and says little about the drop after training.
        """
        found: dict[str, Artifact] = {}
        refused: OutOfReach | None = None
        for allocation in self.recipe.levels.allocations:
            try:
                found[allocation] = self.allocated(allocation, f"{name}, {allocation}", share, start)
            except OutOfReach as reason:
                refused = reason
        if not found:
            assert refused is not None
            raise refused

        def kept(allocation: str) -> float:
            return float(found[allocation].metrics["val_top1"]["norm_reestimated"] or 0.0)

        best = max(found, key=kept)
        texts = ", ".join(f"{allocation} {kept(allocation):.1f} %" for allocation in found)
        console.print(f"  {name}: top-1 before training {texts}", markup=False)
        return found[best]

    def allocated(self, allocation: str, label: str, share: float, start: Artifact) -> Artifact:
        """`start` pruned to a `share` of the baseline's MACs. `allocation`: "importance" prices MACs by importance, as BUDGET
        does; the others are scopes of one ratio."""
        images, config = self.base.images, self.recipe.prune
        if allocation == "importance":
            limit = Search(budget=Budget(max_macs=share * self.whole), prune=config, notes=False)
            plan = self.step(
                search, limit, label=label, model=start, images=images, baseline=self.base.baseline, trial=no_trial
            )
            return self.step(prune, config, label=label, model=start, images=images, plan=plan)
        scoped = config.model_copy(update={"scope": allocation})
        removed = 1 - share * self.whole / self.macs(start)
        ratio = self.step(find_ratio, Ratio(**scoped.model_dump(), removed=removed), label=label, model=start, images=images)
        scoped = Prune(**scoped.model_dump() | {"pruning_ratio": ratio.metrics["pruning_ratio"]})
        return self.step(prune, scoped, label=label, model=start, images=images)

    def trained(self, name: str, others: bool) -> Level:
        """The level `name` after the whole training. `others`: milder levels are left that may need time, too."""
        config = self.plan.long(self.recipe, others)
        if config is None:
            self.notes.append(f"{self.plan.limit} left no time to train {name} for longer.")
            return self.tried[name]
        network = self.distilled(name, config, self.networks[name])
        epochs = network.metrics["epochs"]
        if config.minutes and epochs < self.recipe.distill.epochs:
            self.notes.append(
                f"{self.plan.limit}: {name} was trained for {epochs:g} more epochs; with more time it would be "
                f"{self.recipe.distill.epochs}."
            )
        return self.note(name, self.tried[name].macs, network, self.tried[name].epochs + epochs)

    def distilled(self, name: str, config: Distill, student: Artifact) -> Artifact:
        return self.step(distill, config, label=name, student=student, teacher=self.base.teacher, images=self.base.images)

    def note(self, name: str, macs: float, network: Artifact, epochs: float) -> Level:
        """Compare `network` with the baseline on the images that choose, and keep both under `name`."""
        baseline = self.reference.baseline
        candidate = EngineName("student", "fp32", name, targets.REFERENCE)
        checkpoints = {baseline: self.base.teacher, candidate: network}
        predictions = {
            key: self.reference.predict(key, self.reference.build(key, model), "val") for key, model in checkpoints.items()
        }
        found = drop(predictions, candidate, self.judge)
        assert found is not None
        self.networks[name] = network
        self.tried[name] = Level(name, macs / self.whole, macs, round(epochs, 2), found)
        console.print(f"  {name}: {found.points:+.2f} points after {epochs:g} epochs, n = {found.n:,}", markup=False)
        return self.tried[name]

    def is_lost(self, name: str) -> bool:
        """Whether the level certainly loses more than the whole training can repair. On images so few that no network could
        pass, what it seems to lose counts: else the search would go on until nothing is left of the network.
        """
        return surely_above(self.tried[name].drop, self.recipe.levels.slack)

    def macs(self, model: Artifact) -> float:
        return float(cost(load(model.path)[0], self.base.images.metrics["input_shape"])["macs"])


def no_trial(*_: object, **__: object) -> list[dict[str, float]]:
    raise AssertionError("a limit on MACs needs no engines")

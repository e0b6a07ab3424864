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

from compress.budget import OutOfReach
from compress.derive import derive_student
from compress.distill import Distill, distill
from compress.pace import pace
from core.cache import Artifact, Stages
from core.console import console
from core.engine_name import EngineName
from core.text import joined
from export import targets
from measure.judge import judge_of
from measure.limits import can_pass, surely_above, too_few
from pipeline.builder import EngineBuilder
from pipeline.choose import drop
from pipeline.minutes import Plan
from pipeline.recipe import Recipe
from pipeline.smaller import Smaller
from pipeline.student import Base
from reports.level import Level

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
        self.smaller = Smaller(recipe, step, base)
        self.whole = self.smaller.whole
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
        if note := self.smaller.choose_first(student):
            self.notes.append(note)
        own = self.smaller.macs(student) / self.whole
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
        pruned, by = (start, "student") if whole else self.smaller.made(name, share, start)
        config = self.plan.short(self.recipe, len(self.tried))
        network = self.distilled(name, config, pruned)
        self.note(name, by, self.smaller.macs(pruned), network, network.metrics["epochs"])
        return name

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
        short = self.tried[name]
        return self.note(name, short.by, short.macs, network, short.epochs + epochs)

    def distilled(self, name: str, config: Distill, student: Artifact) -> Artifact:
        return self.step(distill, config, label=name, student=student, teacher=self.base.teacher, images=self.base.images)

    def note(self, name: str, by: str, macs: float, network: Artifact, epochs: float) -> Level:
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
        self.tried[name] = Level(name=name, share=macs / self.whole, macs=macs, epochs=round(epochs, 2), drop=found, by=by)
        console.print(f"  {name}: {found.points:+.2f} points after {epochs:g} epochs, n = {found.n:,}", markup=False)
        return self.tried[name]

    def is_lost(self, name: str) -> bool:
        """Whether the level certainly loses more than the whole training can repair. On images so few that no network could
        pass, what it seems to lose counts: else the search would go on until nothing is left of the network.
        """
        return surely_above(self.tried[name].drop, self.recipe.levels.slack)

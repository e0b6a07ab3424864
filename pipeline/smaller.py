"""A network -> the same network with a share of the baseline's MACs: how a level of the search is made before its training."""

from typing import Literal

from compress.budget import Budget, OutOfReach
from compress.drop_blocks import DropBlocks, drop_blocks
from compress.fewer import Fewer, fewer
from compress.prune import Prune, prune
from compress.ratio import Ratio, find_ratio
from compress.search import Search, search
from core.cache import Artifact, Stages
from core.console import console
from models.checkpoint import load
from models.cost import cost
from pipeline.builder import EngineBuilder
from pipeline.plan import machines
from pipeline.recipe import Recipe
from pipeline.student import Base
from pipeline.trial import trial


class Smaller:
    """Makes smaller networks, each from the one of the level before.

    `first`: what goes first, "blocks" or "channels". Where blocks go first, channels go when no more blocks can.
    """

    def __init__(self, recipe: Recipe, step: Stages, base: Base) -> None:
        self.recipe, self.step, self.base = recipe, step, base
        self.whole = self.macs(base.teacher)
        self.first: Literal["blocks", "channels"] = "channels"

    def choose_first(self, start: Artifact) -> str | None:
        """Find out what goes `first` from the network `start`; a note for the report where that is blocks."""
        recipe, first = self.recipe, self.recipe.levels.first
        if first != "quicker":
            self.first = first
            return None
        builders = [EngineBuilder.of(recipe, self.step, name, self.base.images) for name in recipe.targets]
        target = next((builder.name for builder in builders if builder.placement and builder.runs), None)
        if recipe.prefer == "size" or target is None:
            return None
        options = recipe.targets[target].model_dump(mode="json")
        config = Fewer(target=target, options=options, threads=recipe.measure.threads, prune=recipe.prune)
        context = machines(recipe, [target])
        found = self.step(
            fewer, config, context=context, model=start, images=self.base.images, baseline=self.base.baseline, trial=trial
        ).metrics
        if found["fewer"] == "channels":
            return None
        self.first = "blocks"
        if "p50" not in found:
            return None
        p50 = found["p50"]
        return (
            f"The search drops blocks first: without {found['removed']:.0%} of the MACs, INT8 on {target} takes "
            f"{p50['blocks']:.2f} ms with fewer blocks, {p50['channels']:.2f} ms with fewer channels, and {p50['all']:.2f} ms "
            "with all of them."
        )

    def made(self, name: str, share: float, start: Artifact) -> tuple[Artifact, str]:
        """`start` with a `share` of the baseline's MACs, and how it was made: the allocation of the pruning, or "blocks".

        Raises OutOfReach where it cannot be made so small.
        """
        if self.first == "blocks":
            try:
                return self.shallower(name, share, start), "blocks"
            except OutOfReach:
                pass  # from here on channels go
        return self.narrower(name, share, start)

    def shallower(self, name: str, share: float, start: Artifact) -> Artifact:
        config = DropBlocks(removed=self.removed(share, start), norm_images=self.recipe.prune.norm_images)
        found = self.step(drop_blocks, config, label=name, model=start, images=self.base.images)
        kept = ", ".join(str(len(stage)) for stage in found.metrics["kept_blocks"])
        console.print(f"  {name}: {kept} blocks stay in the stages", markup=False)
        return found

    def narrower(self, name: str, share: float, start: Artifact) -> tuple[Artifact, str]:
        """Of several ways to divide the pruning among the layers, the one with the best top-1 on the images that choose, after
        batch norm is re-estimated (Li et al. 2020, arXiv:2007.02491). This is a ranking and says little about the drop after
        training.
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
        return found[best], best

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
        removed = self.removed(share, start)
        ratio = self.step(find_ratio, Ratio(**scoped.model_dump(), removed=removed), label=label, model=start, images=images)
        scoped = Prune(**scoped.model_dump() | {"pruning_ratio": ratio.metrics["pruning_ratio"]})
        return self.step(prune, scoped, label=label, model=start, images=images)

    def removed(self, share: float, start: Artifact) -> float:
        """The share of the MACs of `start` that go, so that a `share` of the baseline's is left."""
        return 1 - share * self.whole / self.macs(start)

    def macs(self, model: Artifact) -> float:
        return float(cost(load(model.path)[0], self.base.images.metrics["input_shape"])["macs"])


def no_trial(*_: object, **__: object) -> list[dict[str, float]]:
    raise AssertionError("a limit on MACs needs no engines")

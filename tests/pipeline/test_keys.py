"""What the result of a stage depends on besides its config and inputs is part of its cache key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.rank_layers import RankLayers
from core import hardware
from core.cache import Artifact
from core.config import Config
from core.digest import digest_of
from export import targets
from pipeline.builder import EngineBuilder
from pipeline.ladder import rungs
from pipeline.page import exported, train_quantized
from pipeline.plan import plan
from pipeline.recipe import Ladder, Recipe, load_recipe
from pipeline.student import Base, Student
from tests.placements import ORT

CPUINFO = Path(__file__).parents[1] / "core/cpuinfo"
NOTHING = Artifact(Path("nowhere"), {"metrics": {}})
BASE = Base(NOTHING, NOTHING, NOTHING, NOTHING)


class Recorder:
    """Takes the place of `Stages`: runs nothing and keeps the context that each stage was called with."""

    def __init__(self) -> None:
        self.contexts: dict[str, object] = {}

    def __call__(self, stage: Callable[..., Any], config: Config, context: object = None, **inputs: Any) -> Artifact:
        self.contexts[stage.__name__] = context
        return NOTHING


def calibrate(recipe: Recipe, step: Any) -> None:
    exported("", recipe, step, BASE, NOTHING)


def calibrate_after_training(recipe: Recipe, step: Any) -> None:
    train_quantized("", recipe, step, BASE, NOTHING)


def rank(recipe: Recipe, step: Any) -> None:
    builder = EngineBuilder.of(recipe, step, "onnxruntime", NOTHING)
    # There is no ranking in the folder of NOTHING.
    assert not list(rungs(builder, Student("", NOTHING, NOTHING, NOTHING), Ladder(), RankLayers(), {}))


def search_widths(recipe: Recipe, step: Any) -> None:
    plan("", recipe, step, BASE)


@pytest.fixture
def recipe() -> Recipe:
    limits = {"budget.max_latency": {"onnxruntime": 4.0}}
    return load_recipe("resnet18", None, limits, ["onnxruntime"])


@pytest.mark.parametrize(
    ("call", "stage"),
    [(calibrate, "observe"), (calibrate_after_training, "observe"), (rank, "rank_layers"), (search_widths, "search")],
)
def test_another_instruction_set_is_another_key(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, call: Callable[[Recipe, Any], None], stage: str
) -> None:
    keys = []
    for machine in ("x86", "pi4", "pi5"):
        monkeypatch.setattr(hardware, "cpuinfo", (CPUINFO / machine).read_text)
        step = Recorder()
        call(recipe, step)
        keys.append(digest_of(step.contexts[stage]))
    assert len(set(keys)) == 3


def test_another_placement_is_another_key_of_the_search(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    target = targets.get("onnxruntime")
    keys = []
    for pool in (True, False):
        changed = ORT.model_copy(update={"pool": pool})
        monkeypatch.setattr(target, "placement", lambda profile, changed=changed: changed)
        step = Recorder()
        search_widths(recipe, step)
        keys.append(digest_of(step.contexts["search"]))
    assert keys[0] != keys[1]

"""What a student is taught, and what is said about it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import compress.distill
from compress.distill import Distill, compared, distill, gain_note
from compress.losses import attention_loss, dist, kl, squared, standardized, with_stages
from compress.teach import Teaching, teaching_loss
from data.augment import Augment
from data.loader import Split
from models.checkpoint import load, save
from models.custom import describe
from tests.compress.parts import TINY, own_network, tiny
from tests.conftest import Small

FIXED = Augment(flip=False, shift=0)
WIDER = TINY.model_copy(update={"stem_width": 16, "widths": (((24, 16),), ((16, 24),))})
LOSSES = {
    "mse": squared,
    "kl": lambda s, t: kl(s, t, 3.0),
    "dist": lambda s, t: dist(s, t, 3.0),
    "standardized": lambda s, t: kl(standardized(s), standardized(t), 3.0),
}


@pytest.mark.parametrize("feature", [0.0, 0.5])
@pytest.mark.parametrize("augment", [FIXED, None, Augment()])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_taught_is_the_sum_of_its_parts(
    small: Small, tmp_path: Path, name: str, augment: Augment | None, feature: float
) -> None:
    """A student of other widths; where the crop is fixed the teacher predicts once, in bf16 where training is."""
    student, teacher = load(tiny(tmp_path / "student"))[0], load(tiny(tmp_path / "teacher", WIDER))[0]
    config = Teaching(
        loss="kl" if name == "standardized" else name, standardize=name == "standardized", temperature=3.0, alpha=0.3,  # type: ignore[arg-type]
        feature=feature, augment=augment,
    )  # fmt: skip
    loss = teaching_loss(teacher, config, tmp_path, small.images)
    once = augment in (FIXED, None)
    assert (tmp_path / "teacher.npy").exists() == (once and not feature)
    where = [5, 3, 200, 17, 80, 9, 41, 100]
    x, y = Split(small.images, "train").__getitems__(where)
    with torch.no_grad():
        found = float(loss(student, x, torch.tensor(where) if once and not feature else y))
        (mine, my_stages), (its, its_stages) = with_stages(student, x), with_stages(teacher, x)
        expected = 0.7 * cross_entropy(mine, y) + 0.3 * LOSSES[name](mine, its)
        parts = float(feature * attention_loss(my_stages, its_stages))
    assert found == pytest.approx(float(expected) + parts, rel=2e-3 if once else 1e-4)
    assert parts > 1e-2 or not feature


@pytest.mark.slow
def test_features_are_matched_with_what_the_training_changed(small: Small, tmp_path: Path) -> None:
    """Attention alone, alpha = 0 and no say of the labels worth speaking of: the student learns where to look."""
    student, teacher = tiny(tmp_path / "student"), tiny(tmp_path / "teacher", WIDER)
    out = tmp_path / "out"
    out.mkdir()

    def apart(folder: Path) -> float:
        x, _ = Split(small.images, "test").__getitems__(list(range(64)))
        with torch.no_grad():
            mine, its = with_stages(load(folder)[0].train(), x)[1], with_stages(load(teacher)[0].eval(), x)[1]
            return float(attention_loss(mine, its))

    distill(
        Distill(epochs=3, batch_size=64, alpha=0, feature=100, lr=0.02),
        out,
        student=student,
        teacher=teacher,
        images=small.images,
    )
    assert apart(out) < 0.8 * apart(student)
    assert sorted(path.name for path in out.iterdir()) == ["gradients.json", "model.json", "model.safetensors"]


def test_features_of_a_users_own_network_are_refused(small: Small, tmp_path: Path) -> None:
    network = own_network()
    save(network, describe("tests.compress.parts:own_network", network), tmp_path)
    wish = Distill(epochs=1, feature=1)
    with pytest.raises(ValueError, match=r"feature = 1: Sequential is not of the ResNet family.*; expected feature = 0$"):
        distill(wish, tmp_path, student=tmp_path, teacher=tmp_path, images=small.images)


@pytest.mark.slow
def test_the_control_is_the_same_training_without_a_teacher(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before the control, the whole ends the same."""
    student, teacher = tiny(tmp_path / "student"), tiny(tmp_path / "teacher", WIDER)
    inputs = {"student": student, "teacher": teacher, "images": small.images}
    common: dict[str, Any] = {"epochs": 1, "min_steps": 18, "batch_size": 64, "lr": 0.05, "augment": FIXED}
    taught = Distill(**common, alpha=0.9, feature=1, control=True)
    out, plain, again = tmp_path / "out", tmp_path / "plain", tmp_path / "again"
    for folder in (out, plain, again):
        folder.mkdir()
    metrics = distill(taught, out, **inputs)
    alone = distill(Distill(**common, alpha=0, control=True), plain, **inputs)
    assert metrics["epochs"] == alone["epochs"] == 2
    assert metrics["control_val_top1"] == pytest.approx(alone["val_top1"], abs=101 / metrics["control"]["held_out"])
    counts = metrics["control"]
    assert counts["held_out"] == len(Split(small.images, "val"))
    points = 100 * (counts["gained"] - counts["lost"]) / counts["held_out"]
    assert metrics["val_top1"] - metrics["control_val_top1"] == pytest.approx(points)
    assert "control" not in alone and alone["notes"] == []  # without a teacher there is nothing to compare
    assert sorted(path.name for path in out.iterdir()) == ["gradients.json", "model.json", "model.safetensors"]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compress.distill, "without_teacher", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        distill(taught, again, **inputs)
    assert (again / "epoch.pt").exists()
    resumed = distill(taught, again, **inputs)
    assert [e["loss"] for e in resumed["history"]] == pytest.approx([e["loss"] for e in metrics["history"]], rel=1e-3)
    one_image = 100 / counts["held_out"]
    for accuracy in ("val_top1", "control_val_top1"):
        assert resumed[accuracy] == pytest.approx(metrics[accuracy], abs=1.01 * one_image)
    assert sorted(path.name for path in again.iterdir()) == ["gradients.json", "model.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("only_taught", "only_alone", "said"),
    [
        (30, 10, "Distillation gained 2.00 points of held-out top-1 compared with"),
        (10, 30, "Distillation lost 2.00 points of held-out top-1 compared with"),
        (30, 28, "Distillation made no difference that these images can show compared with"),
        (0, 0, "Distillation made no difference that these images can show compared with"),
    ],
)
def test_what_distillation_gained_is_said(only_taught: int, only_alone: int, said: str) -> None:
    mine, alone = np.zeros(1000, bool), np.zeros(1000, bool)
    mine[:500] = alone[:500] = True
    mine[500 : 500 + only_taught] = True
    alone[600 : 600 + only_alone] = True
    metrics = {"val_top1": 100 * float(mine.mean())} | compared(mine, alone)
    assert metrics["control"] == {"held_out": 1000, "gained": only_taught, "lost": only_alone}
    note = gain_note(metrics)
    assert note.startswith(said)
    assert f"(n = 1,000; {only_taught} correct only with the teacher, {only_alone} only without it; one seed)" in note


@pytest.mark.slow
def test_a_teacher_that_is_no_better_is_told(small: Small, tmp_path: Path) -> None:
    student = tiny(tmp_path / "student")
    for alpha, notes in ((0.5, 1), (0.0, 0)):
        out = tmp_path / str(alpha)
        out.mkdir()
        config = Distill(epochs=2, batch_size=64, alpha=alpha)
        metrics = distill(config, out, student=student, teacher=student, images=small.images)  # an untrained teacher
        assert metrics["teacher_val_top1"] <= metrics["val_top1"]
        assert len(metrics["notes"]) == notes
        assert all("is no better than the student" in note and "distill.alpha=0" in note for note in metrics["notes"])


def test_the_teacher_is_not_changed_by_teaching(small: Small, tmp_path: Path) -> None:
    teacher, _ = load(tiny(tmp_path / "teacher", WIDER))
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student, _ = load(tiny(tmp_path / "student"))
    loss = teaching_loss(teacher, Teaching(feature=1.0, alpha=0.5), tmp_path, small.images)
    x, _ = Split(small.images, "train").__getitems__([0, 1, 2, 3])
    loss(student.train(), x, torch.arange(4)).backward()
    assert student.conv1.weight.grad is not None and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())

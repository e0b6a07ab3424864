"""Which blocks of the teacher the student keeps, and that it keeps their weights."""

from pathlib import Path

import pytest
import torch

from compress.derive import Derive, derive_student, spread
from models.checkpoint import load, save
from models.resnet import ResNet, blocks_of, family_spec


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = family_spec("resnet34", num_classes=7, in_channels=1)
    narrow = spec.model_copy(update={"widths": tuple(tuple((w // 16, w // 16) for w, _ in stage) for stage in spec.widths)})
    narrow = narrow.model_copy(update={"stem_width": 4})
    (tmp_path / "teacher").mkdir()
    save(ResNet(narrow).eval(), narrow, tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (Derive(), [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [0, 1, 2]]),
        (Derive(arch="resnet18"), [[0, 2], [0, 3], [0, 5], [0, 2]]),
        (Derive(depths=(1, 2, 3, 1)), [[0], [0, 3], [0, 2, 5], [0]]),
        (Derive(arch="resnet18", depths=(1, 1, 2, 1)), [[0], [0], [0, 5], [0]]),
    ],
)
def test_the_blocks_that_stay_are_the_teachers(teacher: Path, tmp_path: Path, config: Derive, kept: list[list[int]]) -> None:
    assert derive_student(config, tmp_path, teacher=teacher)["kept_blocks"] == kept
    (student, spec), (whole, _) = load(tmp_path), load(teacher)
    assert isinstance(student, ResNet) and isinstance(whole, ResNet)
    assert spec.arch == (config.arch or "resnet34")
    for mine, theirs, keep in zip(blocks_of(student), blocks_of(whole), kept, strict=True):
        assert len(mine) == len(keep)
        for block, i in zip(mine, keep, strict=True):
            assert torch.equal(block.conv1.weight, theirs[i].conv1.weight)


def test_a_network_for_cifar_holds_the_shallower_ones(tmp_path: Path) -> None:
    spec = family_spec("resnet32", num_classes=7)
    spec = spec.model_copy(update={"stem_width": 2, "widths": tuple(tuple((w // 8,) * 2 for w, _ in s) for s in spec.widths)})
    teacher, out = tmp_path / "teacher", tmp_path / "out"
    teacher.mkdir()
    out.mkdir()
    save(ResNet(spec).eval(), spec, teacher)
    assert derive_student(Derive(arch="resnet20"), out, teacher=teacher)["kept_blocks"] == [[0, 2, 4]] * 3
    student, found = load(out)
    assert (found.arch, getattr(found, "shortcut", "")) == ("resnet20", "padding")
    assert student(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    for config in (Derive(depths=(1, 1, 1, 1)), Derive(arch="resnet18")):
        with pytest.raises(ValueError, match=r"is not contained in resnet32 \(blocks \[5, 5, 5\]\)"):
            derive_student(config, out, teacher=teacher)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (Derive(depths=(3, 4, 7, 3)), r"blocks \[3, 4, 7, 3\]\) is not contained in resnet34 \(blocks \[3, 4, 6, 3\]"),
        (Derive(arch="resnet50"), "student resnet50 .* is not contained in resnet34"),
        (Derive(arch="resnet19"), "unknown student 'resnet19'; known models: resnet18"),
    ],
)
def test_what_the_teacher_does_not_have_is_refused(teacher: Path, tmp_path: Path, config: Derive, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        derive_student(config, tmp_path, teacher=teacher)


def test_kept_blocks_include_the_first_and_the_last() -> None:
    assert spread(6, 23) == [0, 4, 9, 13, 18, 22]

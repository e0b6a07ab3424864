"""teacher -> the student's architecture with the teacher's own weights (model.json, model.safetensors).

A deeper ResNet holds a shallower one: dropping residual blocks leaves the family member with fewer of them
(Veit et al. 2016, arXiv:1605.06431: residual networks behave like ensembles of paths).
"""

from pathlib import Path
from typing import Any

from torch import nn

from models.checkpoint import AnySpec, load, save
from models.resnet import FAMILY, ResNet, Spec, blocks_of
from pipeline.config import Config


class Student(Config):
    """`arch` is the family member to derive; None keeps the teacher's own."""

    arch: str | None = None


def derive_student(config: Student, out: Path, *, teacher: Path) -> dict[str, Any]:
    """Keep evenly spread blocks of every stage, always the first (it changes shape) and the last.

    Raises ValueError when `config.arch` is unknown or is not contained in the teacher.
    """
    model, spec = load(teacher)
    if not (isinstance(model, ResNet) and isinstance(spec, Spec)):
        return itself(config, out, model, spec)
    kept = [list(range(len(stage))) for stage in spec.widths]
    if config.arch is not None and config.arch != spec.arch:
        kept = kept_blocks(spec, config.arch)
        spec = spec.model_copy(
            update={
                "arch": config.arch,
                "widths": tuple(tuple(stage[i] for i in keep) for stage, keep in zip(spec.widths, kept, strict=True)),
            }
        )
        student = ResNet(spec)
        copy_weights(model, student, kept)
        model = student
    save(model, spec, out)
    return {"arch": spec.arch, "kept_blocks": kept}


def itself(config: Student, out: Path, model: nn.Module, spec: AnySpec) -> dict[str, Any]:
    """A user's own network has no shallower relative."""
    if config.arch is not None:
        raise ValueError(f"student {config.arch!r}: {spec.arch} has no shallower relative; expected no student arch")
    save(model, spec, out)
    return {
        "arch": spec.arch,
        "notes": [f"There is no student rule for {spec.arch}: its student is itself (self-distillation)."],
    }


def kept_blocks(spec: Spec, arch: str) -> list[list[int]]:
    """Per stage, the teacher's blocks that the student keeps."""
    if arch not in FAMILY:
        raise ValueError(f"unknown student {arch!r}; known models: {', '.join(FAMILY)}")
    member, own = FAMILY[arch], FAMILY.get(spec.arch)
    have = [len(stage) for stage in spec.widths]
    alike = own is not None and member._replace(depths=own.depths) == own
    if not alike or any(want > there for want, there in zip(member.depths, have, strict=True)):
        raise ValueError(
            f"student {arch} (blocks {list(member.depths)}) is not contained in {spec.arch} (blocks {have}); expected a "
            f"shallower network with the same kind of blocks, or no student arch for the teacher's own"
        )
    return [spread(want, there) for want, there in zip(member.depths, have, strict=True)]


def spread(want: int, there: int) -> list[int]:
    """`want` of the indices 0 … there-1, the first and the last among them, the rest evenly between."""
    if want == 1:
        return [0]
    return [round(i * (there - 1) / (want - 1)) for i in range(want)]


def copy_weights(teacher: ResNet, student: ResNet, kept: list[list[int]]) -> None:
    for name, module in student.named_children():
        if not name.startswith("layer"):
            module.load_state_dict(getattr(teacher, name).state_dict())
    for mine, theirs, keep in zip(blocks_of(student), blocks_of(teacher), kept, strict=True):
        for block, i in zip(mine, keep, strict=True):
            block.load_state_dict(theirs[i].state_dict())

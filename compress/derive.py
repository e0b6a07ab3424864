"""teacher -> the student's architecture with the teacher's own weights (model.json, model.safetensors).

A deeper ResNet holds a shallower one: dropping residual blocks leaves the family member with fewer of them
(Veit et al. 2016, arXiv:1605.06431: residual networks behave like ensembles of paths).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch import nn

from core.config import Config
from models.checkpoint import AnySpec, load, save
from models.resnet import FAMILY, ResNet, Spec, blocks_of


class Derive(Config):
    """`arch` is the family member to derive; None keeps the teacher's own.

    `depths` is the number of blocks that each stage keeps; None for as many as `arch` has. Fewer blocks reduce the latency more
    than narrower ones do: each convolution costs a call, however few channels it has.
    """

    arch: str | None = None
    depths: tuple[PositiveInt, ...] | None = None


def derive_student(config: Derive, out: Path, *, teacher: Path) -> dict[str, Any]:
    """Keep evenly spread blocks of every stage, always the first (it changes the shape) and the last.

    Raises ValueError when `config.arch` is unknown, or has blocks that the teacher does not have.
    """
    student, spec, kept = shallower(config, *load(teacher))
    save(student, spec, out)
    if isinstance(spec, Spec):
        return {"arch": spec.arch, "kept_blocks": kept}
    return {
        "arch": spec.arch,
        "notes": [f"{spec.arch} has no shallower version: the student starts as a copy of it (self-distillation)."],
    }


def shallower(config: Derive, model: nn.Module, spec: AnySpec) -> tuple[nn.Module, AnySpec, list[list[int]]]:
    """The student of `model`, its spec, and the blocks that each stage keeps; a user's own network is its own student.

    Raises ValueError like `derive_student`.
    """
    if not (isinstance(model, ResNet) and isinstance(spec, Spec)):
        if config.arch is not None or config.depths is not None:
            wanted = config.arch or f"depths {list(config.depths or ())}"
            raise ValueError(f"student {wanted}: {spec.arch} has no shallower version; leave out the student's arch and depths")
        return model, spec, []
    kept = [list(range(len(stage))) for stage in spec.widths]
    arch = config.arch or spec.arch
    if arch != spec.arch or config.depths:
        kept = kept_blocks(spec, arch, config.depths)
        return *with_blocks(model, spec.model_copy(update={"arch": arch}), kept), kept
    return model, spec, kept


def with_blocks(model: ResNet, spec: Spec, kept: Sequence[Sequence[int]]) -> tuple[ResNet, Spec]:
    """A copy of `model`, of which each stage has only the blocks `kept`, and its spec."""
    widths = tuple(tuple(stage[i] for i in keep) for stage, keep in zip(spec.widths, kept, strict=True))
    spec = spec.model_copy(update={"widths": widths})
    student = ResNet(spec)
    copy_weights(model, student, kept)
    return student, spec


def kept_blocks(spec: Spec, arch: str, depths: Sequence[int] | None) -> list[list[int]]:
    """Per stage, the teacher's blocks that the student keeps: as many as `depths` says, or as many as `arch` has."""
    if arch not in FAMILY:
        raise ValueError(f"unknown student {arch!r}; known models: {', '.join(FAMILY)}")
    member, own = FAMILY[arch], FAMILY.get(spec.arch)
    have = [len(stage) for stage in spec.widths]
    wanted = list(depths or member.depths)
    alike = own is not None and member._replace(depths=own.depths) == own
    contained = len(wanted) == len(have) and all(want <= there for want, there in zip(wanted, have, strict=True))
    if not (alike and contained):
        raise ValueError(
            f"student {arch} (blocks {wanted}) is not contained in {spec.arch} (blocks {have}); expected a "
            f"shallower network with the same kind of blocks; leave out the student's arch to keep that of the teacher"
        )
    return [spread(want, there) for want, there in zip(wanted, have, strict=True)]


def spread(want: int, there: int) -> list[int]:
    """`want` of the indices 0 … there-1: the first, the last, and the others evenly between them."""
    if want == 1:
        return [0]
    return [round(i * (there - 1) / (want - 1)) for i in range(want)]


def copy_weights(teacher: ResNet, student: ResNet, kept: Sequence[Sequence[int]]) -> None:
    for name, module in student.named_children():
        if not name.startswith("layer"):
            module.load_state_dict(getattr(teacher, name).state_dict())
    for mine, theirs, keep in zip(blocks_of(student), blocks_of(teacher), kept, strict=True):
        for block, i in zip(mine, keep, strict=True):
            block.load_state_dict(theirs[i].state_dict())

"""What the page makes: the base of all students, the students, and what each target makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.cache import Artifact
from reports.run_folder import TargetResult


@dataclass(frozen=True)
class Base:
    """What every student starts from.

    images     the splits
    checked    which of the test images count in a verdict
    teacher    the checkpoint
    baseline   its FP32 ONNX export
    """

    images: Artifact
    checked: Artifact
    teacher: Artifact
    baseline: Artifact


@dataclass(frozen=True)
class Student:
    """`variant` tells the students of a sweep apart and is "" where there is only one.

    checkpoint    of the trained network
    onnx          its FP32 export
    ranges        of `onnx`
    trained_on    makes the student after quantization-aware training; None where nothing can be trained
    """

    variant: str
    checkpoint: Artifact
    onnx: Artifact
    ranges: Artifact
    trained_on: Callable[[], "Student"] | None = None


@dataclass(frozen=True)
class Pressed:
    """What a run made: its base, a student per variant, and the engines of every target."""

    base: Base
    students: Sequence[Student]
    targets: Sequence[TargetResult]

"""The results of the page: the base of all students, the students, and the engines of each target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.cache import Artifact
from reports.level import Level
from reports.run_folder import TargetResult


@dataclass(frozen=True)
class Base:
    """The common base of all students.

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
    """A trained network. `variant` distinguishes the students of a sweep; "" if there is only one.

    checkpoint    of the trained network
    onnx          its FP32 export
    ranges        of `onnx`
    trained_on    returns the student after quantization-aware training; None if it cannot be trained
    milder        the variant that the search found before it: its engines are judged first
    """

    variant: str
    checkpoint: Artifact
    onnx: Artifact
    ranges: Artifact
    trained_on: Callable[[], "Student"] | None = None
    milder: str | None = None


@dataclass(frozen=True)
class Pressed:
    """The results of a run: its base, a student per variant, the engines of every target, the levels that were tried, notes."""

    base: Base
    students: Sequence[Student]
    targets: Sequence[TargetResult]
    levels: Sequence[Level] = ()
    notes: Sequence[str] = ()

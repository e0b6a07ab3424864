"""A pressed network: what the page makes, and what a target builds its engines of."""

from collections.abc import Callable
from dataclasses import dataclass

from core.cache import Artifact


@dataclass(frozen=True)
class Student:
    """`label` tells the students of a sweep apart and is "" where there is only one.

    checkpoint    of the trained network
    onnx          its FP32 export
    ranges        of `onnx`
    trained_on    makes the student after quantization-aware training; None where nothing can be trained
    """

    label: str
    checkpoint: Artifact
    onnx: Artifact
    ranges: Artifact
    trained_on: Callable[[], "Student"] | None = None

    def row(self, kind: str) -> str:
        """The name of its engine of that kind: "student-int8", in a sweep "student-int8[0.5]"."""
        return f"student-{kind}[{self.label}]" if self.label else f"student-{kind}"

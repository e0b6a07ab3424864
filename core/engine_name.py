"""The name of an engine, which is the id of its row in the report: "student-int8[0.5]/onnxruntime"."""

import re
from dataclasses import dataclass
from typing import Literal, cast

PATTERN = re.compile(r"(?P<network>baseline|student)-(?P<form>\w+)(\[(?P<variant>.*)\])?/(?P<target>\w*(@.+)?)")


def engine_and_device(target: str) -> tuple[str, str | None]:
    """ "onnxruntime@arm64" -> ("onnxruntime", "arm64"); without a device ("onnxruntime", None)."""
    engine, at, device = target.partition("@")
    return engine, device if at else None


@dataclass(frozen=True)
class EngineName:
    """`str()` and `parse()` are inverse.

    network    the FP32 baseline, or a student
    form       "fp32", "fp16", "bf16" or "int8"; "mixed3" or "qat" if the recovery ladder built it
    variant    distinguishes the students of a sweep; "" if there is only one
    target     the target that it was built for: an engine here, or an engine on a device ("onnxruntime@arm64")
    """

    network: Literal["baseline", "student"]
    form: str
    variant: str
    target: str

    def __str__(self) -> str:
        return f"{self.key}/{self.target}"

    @property
    def key(self) -> str:
        """The name without the target; it is unique among the engines of one target."""
        return f"{self.network}-{self.form}[{self.variant}]" if self.variant else f"{self.network}-{self.form}"

    @property
    def engine(self) -> str:
        """The target without its device."""
        return engine_and_device(self.target)[0]

    @property
    def device(self) -> str | None:
        """The device that it is made for; None: this machine."""
        return engine_and_device(self.target)[1]

    @property
    def could_ship(self) -> bool:
        """A student in FP32 is built only for comparison."""
        return self.network == "student" and self.form != "fp32"

    @classmethod
    def parse(cls, text: str) -> "EngineName":
        match = PATTERN.fullmatch(text)
        assert match, text
        network = cast(Literal["baseline", "student"], match["network"])
        return cls(network, match["form"], match["variant"] or "", match["target"])

    @classmethod
    def baseline(cls, target: str) -> "EngineName":
        return cls("baseline", "fp32", "", target)

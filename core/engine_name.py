"""The name of an engine, which is the id of its row in the report: "student-int8[0.5]/onnxruntime"."""

import re
from dataclasses import dataclass, replace
from typing import Literal, cast

PATTERN = re.compile(r"(?P<network>baseline|student)-(?P<form>\w+)(\[(?P<variant>.*)\])?/(?P<target>\w*)")


@dataclass(frozen=True)
class EngineName:
    """`str()` and `parse()` are inverse.

    network    the FP32 baseline's, or a pressed student's
    form       "fp32", "fp16", "bf16" or "int8"; "mixed3" or "qat" where the recovery ladder made it
    variant    tells the students of a sweep apart; "" where there is only one
    target     for which it was built
    """

    network: Literal["baseline", "student"]
    form: str
    variant: str
    target: str

    def __str__(self) -> str:
        return f"{self.key}/{self.target}"

    @property
    def key(self) -> str:
        """The name without the target: what tells the engines of one target apart."""
        return f"{self.network}-{self.form}[{self.variant}]" if self.variant else f"{self.network}-{self.form}"

    @property
    def could_ship(self) -> bool:
        """FP32 of a student is only there to compare with."""
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

    def of_form(self, form: str) -> "EngineName":
        """The same network's engine of another form."""
        return replace(self, form=form)

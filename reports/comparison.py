"""compare.json, schema "respress.compare/1": several models' engines on the same targets and images, and which to choose."""

from typing import Literal

from pydantic import Field

from measure.verdict import Part
from reports.schema import Dataset, Environment, Row, Throughput


class Engine(Row):
    """A row of the model's own report, but its latency, throughput and speedup were measured in turns with the other models.

    minutes    the time of the model's stages when they were executed, without training its baseline
    best       the batch with the most images per second
    ships      whether the gate lets it ship; with STRICT, an inconclusive engine does not ship
    why_not    the reason if it does not ship
    front      no engine that ships is both quicker and more accurate
    """

    model: str
    minutes: float | None = None
    best: Throughput | None = None
    why_not: str | None = None

    @property
    def shipping(self) -> str:
        """Whether it ships, in words."""
        if not self.ships:
            return f"no: {self.why_not}"
        if self.status == "prepared":
            return "yes, after build.sh of its bundle has built it on the device"
        return f"yes, unmeasured: {self.reason}" if self.reason else "yes"

    @property
    def label(self) -> str:
        return f"{self.model} {self.precision if self.status in ('measured', 'built') else '(no engine)'}"


class Choice(Part):
    """The engine to choose, in words; `engine` is the id of its row, `note` names the engines that do not differ significantly
    in accuracy."""

    what: Literal["quickest", "most accurate", "smallest"]
    engine: str
    text: str
    note: str | None


class Table(Part):
    """One target: every model's engine and its FP32 baseline. If there are no `choices`, the `notes` say why."""

    target: str
    engines: list[Engine]
    choices: list[Choice]
    notes: list[str]


class Contestant(Part):
    """One of the MODELS; `report` is the folder of its own report, relative to OUT; None if it has none: `reason` says why."""

    name: str
    report: str | None
    reason: str | None = None
    input_shape: list[int] | None = None
    minutes: float | None = None


class Comparison(Part):
    """The whole comparison; `dataset` and `environment` are those of the first model that has a report. `gate` are the
    limits as in GATE; "" in earlier versions, which had only `max_drop`."""

    schema_: Literal["respress.compare/1"] = Field(default="respress.compare/1", alias="schema")
    created: str
    command: str
    seconds: float
    environment: Environment
    dataset: Dataset
    max_drop: float | None
    gate: str = ""
    strict: bool
    requested: list[str]
    models: list[Contestant]
    targets: list[Table]

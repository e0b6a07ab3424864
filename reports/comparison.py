"""compare.json, schema "respress.compare/1": several models' engines on the same targets and images, and which to take."""

from typing import Literal

from pydantic import Field

from measure.verdict import Part
from reports.schema import Dataset, Environment, Row, Throughput


class Engine(Row):
    """A row of a model's own report, except that latency, throughput and speedup were timed in turns with the other models'.

    `minutes`: what the model's stages took when they ran, without training its baseline. `best`: the batch with the most images
    per second. `ships`: whether the gate lets it, with STRICT an inconclusive one does not; `why_not` says why it does not.
    `front`: no engine that ships is both quicker and more accurate.
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
        if self.status == "unavailable":
            return "yes, as what build.sh of its bundle builds on the device"
        return f"yes, unmeasured: {self.reason}" if self.reason else "yes"

    @property
    def label(self) -> str:
        return f"{self.model} {self.precision if self.status != 'unavailable' else '(no engine)'}"


class Choice(Part):
    """An answer in words; `engine` is the id of its row, `note` names the engines whose accuracy cannot be told from its."""

    what: Literal["quickest", "most accurate", "smallest"]
    engine: str
    text: str
    note: str | None


class Table(Part):
    """One target: every model's engine and its FP32 baseline. Without `choices` the `notes` say why there are none."""

    target: str
    engines: list[Engine]
    choices: list[Choice]
    notes: list[str]


class Contestant(Part):
    """One of the MODELS; `report` is its own report's folder, relative to OUT, None where it has none for the `reason`."""

    name: str
    report: str | None
    reason: str | None = None
    input_shape: list[int] | None = None
    minutes: float | None = None


class Comparison(Part):
    """The whole comparison; `dataset` and `environment` are those of the first model that has a report."""

    schema_: Literal["respress.compare/1"] = Field(default="respress.compare/1", alias="schema")
    created: str
    command: str
    seconds: float
    environment: Environment
    dataset: Dataset
    max_drop: float
    strict: bool
    requested: list[str]
    models: list[Contestant]
    targets: list[Table]

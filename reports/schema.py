"""report.json, schema "respress.report/1": what users' scripts may rely on. The fields are the contract's, and more."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "inconclusive"]


class Part(BaseModel):
    """Base of all parts of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Environment(Part):
    """The machine and the software the numbers come from."""

    model_config = ConfigDict(extra="allow")

    cpu: str
    cores: int
    threads: int
    isa: str | list[str] | None
    gpu: str | None
    os: str
    versions: dict[str, str]


class Dataset(Part):
    """The images everything was measured on; `splits` counts them."""

    name: str
    classes: list[str]
    input_shape: list[int]
    splits: dict[str, int | None]


class Stage(Part):
    """A step of the run. `artifact` is its folder, relative to OUT; `seconds` what it took when it really ran."""

    name: str
    seconds: float
    cached: bool
    artifact: str
    metrics: dict[str, Any]


class Accuracy(Part):
    """Of the engine itself, in percent."""

    top1: float
    top5: float
    correct: int
    n: int


class Drop(Part):
    """Against the baseline on the same images; `points` are percentage points of top-1, positive when worse.

    `relative_percent` is None when the baseline gets nothing right; `needed` is the number of images that would settle
    an inconclusive verdict at the same rates, where there is one.
    """

    points: float
    relative_percent: float | None
    upper_95: float
    lost: int
    gained: int
    n: int
    verdict: Verdict
    needed: int | None = None


class Latency(Part):
    """Milliseconds over `n` timed calls."""

    batch: int
    threads: int | None
    n: int
    p50: float
    p90: float
    p99: float
    mean: float


class Throughput(Part):
    batch: int
    images_per_s: float


class Row(Part):
    """One engine, or the reason why there is none. What was not measured is None."""

    id: str
    network: Literal["baseline", "student"]
    precision: Literal["fp32", "fp16", "int8", "mixed"]
    target: str
    status: Literal["measured", "built", "unavailable"]
    reason: str | None = None
    artifact: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    params: int | None = None
    macs: int | None = None
    accuracy: Accuracy | None = None
    drop: Drop | None = None
    latency_ms: Latency | None = None
    throughput: list[Throughput] = []
    speedup: float | None = None
    int8_share: float | None = None
    ships: bool = False


class GateRow(Part):
    id: str
    verdict: Literal["pass", "fail", "inconclusive", "unmeasured"]


class GateResult(Part):
    """`verdict` is the worst of the measured candidates, "inconclusive" where none could be measured."""

    metric: Literal["top1"] = "top1"
    max_drop: float
    strict: bool
    verdict: Verdict
    rows: list[GateRow]


class Report(Part):
    """The whole report. `requested` are the targets the user named; `notes` the findings in plain words."""

    schema_: Literal["respress.report/1"] = Field(default="respress.report/1", alias="schema")
    created: str
    command: str
    seconds: float
    environment: Environment
    model: str
    dataset: Dataset
    stages: list[Stage]
    rows: list[Row]
    gate: GateResult
    requested: list[str]
    notes: list[str]

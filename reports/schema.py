"""report.json, schema "respress.report/1". Users' scripts rely on it. It has all fields of the contract, and more."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, computed_field

from core.engine_name import EngineName
from measure.gate import Gate
from measure.verdict import Accuracy, Agreement, Drop, Part, Verdict
from reports.changed import ClassDrop, Confusion, LostImage
from reports.device_seen import DeviceSeen
from reports.level import Level

Metric = Literal["top1", "agreement"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "mixed"]


class Environment(Part):
    """The machine and the software of the run."""

    model_config = ConfigDict(extra="allow")

    cpu: str
    cores: int
    threads: int
    isa: str | list[str] | None
    gpu: str | None
    os: str
    versions: dict[str, str]


SOURCES = {"val": "images of val/", "train": "images held out of training", "test": "of the test images"}


class ImagesOf(Part):
    """The images of a purpose: their source (`data/index.py`) and their number."""

    source: Literal["val", "train", "test"]
    n: int


class Dataset(Part):
    """The images of all measurements; `splits` has their numbers, `preprocess` is the spec of data/preprocess.py.

    `chosen_on` are the images that all choices were made on, `judged_on` those of the verdicts; None in earlier versions.
    """

    name: str
    classes: list[str]
    input_shape: list[int]
    splits: dict[str, int | None]
    chosen_on: ImagesOf | None = None
    judged_on: ImagesOf | None = None
    labelled: bool = True
    preprocess: dict[str, Any]

    @property
    def divided(self) -> str | None:
        """The images that choose and those that judge, in words; None in earlier versions."""
        if self.chosen_on is None or self.judged_on is None:
            return None
        return (
            f"chosen on {self.chosen_on.n:,} {SOURCES[self.chosen_on.source]}, judged on {self.judged_on.n:,} "
            f"{'others' if self.chosen_on.source == 'test' else 'test images'}"
        )


class Stage(Part):
    """A step of the run. `artifact` is its folder, relative to OUT.

    `created` (UTC) and `seconds` are of the run that executed it. `machine` and `versions` have the values of that run that
    differ from the `environment` of this run. `content` is the hash of the files in its folder, `inputs` those of the stages
    and files that it read, `code` that of its code; earlier versions recorded no inputs.
    """

    name: str
    seconds: float
    cached: bool
    artifact: str
    metrics: dict[str, Any]
    created: str | None = None
    machine: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    content: str | None = None
    code: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)


class Latency(Part):
    """Milliseconds over `n` timed calls.

    `quantiles` are those at 5, 25, 50, 75 and 95 percent. `turns` has the p50 of every turn, in the same order for all engines
    that were timed together; `spread` is the largest minus the smallest as a share of their median; `ended_by` says whether the
    number of queries or the time ended them. `disturbed` is the share of the turns that something else on the machine
    disturbed; None if it could not be watched. Earlier versions recorded none of these.
    """

    batch: int
    threads: int | None
    n: int
    p50: float
    p90: float
    p99: float
    mean: float
    quantiles: list[float] = Field(default_factory=list)
    turns: list[float] = Field(default_factory=list)
    spread: float | None = None
    ended_by: Literal["queries", "seconds"] | None = None
    disturbed: float | None = None


class SpeedupTurns(Part):
    """How certain a speedup is: its 95 % interval (percentile bootstrap over the turns), and the share of the `n` turns in
    which the engine was quicker than the baseline."""

    low: float
    high: float
    share: float
    n: int


class Throughput(Part):
    """A point of the curve over batch sizes; `ms` and `p90_ms` are median and 90th percentile of `n` calls, in milliseconds."""

    batch: int
    images_per_s: float
    ms: float | None = None
    p90_ms: float | None = None
    n: int | None = None


class BatchAtLimit(Part):
    """The largest measured batch of which 90 % of the calls took at most `limit_ms`, the user's latency limit."""

    limit_ms: float
    batch: int
    p90_ms: float
    images_per_s: float


class ChosenOn(Part):
    """The figures of an engine on the `n` images that choose; they are slightly too good for the engine that was chosen.

    `drop` and `upper_95` in points, None for the baseline, as is `interval`: the two-sided 95 % limits of the drop (Tango).
    Without labels `agreement` (percent) takes the place of `top1`.
    """

    top1: float | None = None
    agreement: float | None = None
    n: int
    drop: float | None = None
    upper_95: float | None = None
    interval: tuple[float, float] | None = None
    verdict: Verdict | None = None


class Row(Part):
    """One engine, or the reason why there is none. A value that was not measured is None.

    `device`: the device that it is made for, or was measured on; None: this machine.
    `variant` distinguishes the students of a search or a SWEEP. `chosen_on` has the figures on the images that choose;
    `accuracy`, `agreement` and `drop` are those on the images that judge, which only the baseline and the judged engines have.
    `standing`: the verdict of a judged engine that counts, the worst of its own (in `drop`) and of those of milder engines,
    which were judged before it. `memory_bytes` is the peak of the memory that the engine adds to a process of its own, with its
    runtime; `first_inference_ms` is the time from opening it to its first result there, with importing its runtime.
    `front`: no other engine of the target that could ship is both as quick and as accurate.
    """

    id: str
    network: Literal["baseline", "student"]
    variant: str | None = None
    precision: Precision
    target: str
    device: str | None = None
    status: Literal["measured", "built", "prepared", "unavailable"]
    reason: str | None = None
    chosen_on: ChosenOn | None = None
    artifact: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    params: int | None = None
    macs: int | None = None
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    drop: Drop | None = None
    standing: Verdict | None = None
    latency_ms: Latency | None = None
    throughput: list[Throughput] = Field(default_factory=list)
    batch_at_limit: BatchAtLimit | None = None
    speedup: float | None = None
    speedup_turns: SpeedupTurns | None = None
    memory_bytes: int | None = None
    first_inference_ms: float | None = None
    int8_share: float | None = None
    front: bool = False
    ships: bool = False

    @property
    def name(self) -> EngineName:
        return EngineName.parse(self.id)

    @property
    def on(self) -> str:
        """The engine with its device: rows with the same one are compared."""
        return f"{self.target}@{self.device}" if self.device else self.target

    @property
    def kind(self) -> str:
        """Its colour in the charts."""
        return f"{self.network}-{self.precision}"


class GateRow(Part):
    id: str
    verdict: Literal["pass", "fail", "inconclusive", "unmeasured"]


class GateResult(Part):
    """`verdict` is the worst of `rows`, "inconclusive" if none could be measured.

    `rows` has for each target the engine that ships, or the chosen one if none ships, with the verdict that counts.

    `max_drop` is the limit of top-1, `recall` those of classes by name, `worst_class` that of every class, `balanced` that of
    the mean over the classes; None: no such limit (measure/limits.py). `max_class_drop` is the number of points that no class
    may significantly exceed, None: no limit. `metric` is top-1 for labelled images and agreement with the baseline's
    predictions for unlabelled images.
    """

    model_config = ConfigDict(extra="ignore")  # `metrics` and `limits` are in the file, and computed

    metric: Metric = "top1"
    max_drop: float | None
    recall: dict[str, float] = Field(default_factory=dict)
    worst_class: float | None = None
    balanced: float | None = None
    max_class_drop: float | None = None
    strict: bool
    verdict: Verdict
    rows: list[GateRow]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def metrics(self) -> list[str]:
        """The names of the limits."""
        return list(self.limits)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def limits(self) -> dict[str, float]:
        """The limits of GATE by their names in the report."""
        own = {key: getattr(self, key) for key in ("max_drop", "recall", "worst_class", "balanced")}
        return {self.shown(name): limit for name, limit in Gate(**own).limits.items()}

    @property
    def text(self) -> str:
        """The limits, as in GATE."""
        return ",".join(f"{name}={limit:g}" for name, limit in self.limits.items())

    def shown(self, name: str) -> str:
        """The name of a limit in the report: without labels, top1 is agreement."""
        return self.metric if name == "top1" else name


class Report(Part):
    """The whole report. `requested` are the targets that the user named.

    `notes` are the notes of the stages and the findings. `per_class` has every class of the test images for each measured
    candidate. `lost_images` and `gained_images` have some of the images that `drop` counts, `confusions` the pairs of classes
    that are confused more or less often. `levels` are those that the search tried, `devices` those
    that measured engines over ssh.
    """

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
    per_class: list[ClassDrop] = Field(default_factory=list)
    lost_images: list[LostImage] = Field(default_factory=list)
    gained_images: list[LostImage] = Field(default_factory=list)
    confusions: list[Confusion] = Field(default_factory=list)
    levels: list[Level] = Field(default_factory=list)
    devices: list[DeviceSeen] = Field(default_factory=list)

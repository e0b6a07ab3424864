"""What the page does for one target: every method is a stage, and what it needs of the target is filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.place import place_qdq
from core.cache import Artifact, Stages
from export import targets
from export.bundle import bundle, device_code
from export.half import half
from measure.engines import latency, predict
from pipeline.recipe import Recipe
from pipeline.student import Student


@dataclass(frozen=True)
class Workshop:
    """Builds, asks, times and packs the engines of the target `name`. Engines are known by the rows they get in the report."""

    recipe: Recipe
    step: Stages
    name: str
    images: Artifact

    @property
    def target(self) -> targets.Target:
        return targets.get(self.name)

    @property
    def runs(self) -> bool:
        return self.target.unavailable() is None and self.target.cannot_run() is None

    def place(self, model: Artifact, ranges: Artifact, skip: tuple[str, ...] = ()) -> Artifact | None:
        """The Q/DQ twin of `model` with float32 scales, without the nodes `skip`; None where the target has no INT8."""
        if self.target.PLACEMENT is None:
            return None
        placement = self.target.PLACEMENT.model_copy(update={"skip": skip})
        return self.step(place_qdq, placement, label=self.name, model=model, ranges=ranges)

    def in_half(self, model: Artifact, label: str) -> Artifact:
        return self.step(half, self.recipe.half, label=label, model=model)

    def as_built(self, int8: Artifact) -> Artifact:
        """`int8` with the floats that the target wants beside its integers."""
        assert self.target.PLACEMENT is not None
        return self.in_half(int8, f"int8 {self.name}") if self.target.PLACEMENT.floats == "float16" else int8

    def forms(self, student: Student) -> dict[str, Artifact]:
        """The float32 files of what could ship, by row; none where the target has no INT8."""
        int8 = self.place(student.onnx, student.ranges)
        if int8 is None:
            return {}
        floats = self.target.half()
        return ({student.row(floats): student.onnx} if floats else {}) | {student.row("int8"): int8}

    def models(self, baseline: Artifact, students: Sequence[Student], forms: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """What to build engines of, by row; `forms` are those of all `students`."""
        found = {"baseline-fp32": baseline}
        for student in students:
            if student.onnx is not baseline:
                found[student.row("fp32")] = student.onnx
            if floats := self.target.half():
                found[student.row(floats)] = self.in_half(student.onnx, f"student {student.label}".strip())
            if (int8 := student.row("int8")) in forms:
                found[int8] = self.as_built(forms[int8])
        return found

    def build(self, row: str, model: Artifact) -> Artifact:
        options, label = self.recipe.targets[self.name], f"{row}/{self.name}"
        context = self.target.platform()
        return self.step(self.target.build, options, label=label, context=context, model=model, images=self.images)

    def build_all(self, models: dict[str, Artifact]) -> tuple[dict[str, Artifact], dict[str, str]]:
        """The engines by row, and why there are none of the other rows."""
        engines, refused = {}, {}
        for row, model in models.items():
            try:
                engines[row] = self.build(row, model)
            except (ValueError, RuntimeError) as refusal:  # the other engines are still wanted
                refused[row] = f"its build failed: {' '.join(str(refusal).split())}"
        return engines, refused

    def ask(self, row: str, engine: Artifact) -> Artifact:
        """What the engine answers about every test image."""
        label, context = f"{row}/{self.name}", self.target.platform()
        load, config = self.target.load, self.recipe.measure
        return self.step(predict, config, label=label, context=context, load=load, engine=engine, images=self.images)

    def time(self, engines: dict[str, Artifact]) -> Artifact:
        """All engines in one stage: like for like means timed in turns, in the same minutes."""
        context, load, config = self.target.platform(), self.target.load, self.recipe.measure
        return self.step(latency, config, label=self.name, context=context, load=load, engines=engines, images=self.images)

    def pack(self, engine: Artifact, model: Artifact) -> Artifact:
        """What goes to the device; `model` is the float32 form of what `engine` was built of."""
        opened: Any = {"load": self.target.load} if self.runs else {}
        return self.step(bundle, self.recipe.bundle, label=self.name, context=device_code(), engine=engine, model=model,
                         images=self.images, runner=self.target.runner, **opened)  # fmt: skip

    def pack_to_build(self, int8: Artifact) -> Artifact:
        """Where only the device can build: what it builds from."""
        assert self.target.prepare is not None
        options = self.recipe.targets[self.name]
        files = self.step(self.target.prepare, options, label=self.name, context=device_code(), model=int8)
        return self.pack(files, int8)

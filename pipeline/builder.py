"""Builds, measures and packs the engines of one target; each method runs one cached stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from calibration.place import place_qdq
from compress.device import usable_gpu
from core import hardware
from core.cache import Artifact, Stages
from core.engine_name import EngineName
from core.placement import Placement
from core.profile import Profile
from export import stand_in, targets
from export.bundle import Bundle, BundleOf, bundle, device_code
from export.half import Half, HalfOf, half
from export.targets._engine import EngineOptions
from export.targets.torch import load_on_gpu
from measure.alone import Alone, alone
from measure.calls import Load
from measure.engines import Measure, Predict, predict
from measure.latency import latency
from pipeline.failures import costs_its_row, time_all
from pipeline.recipe import Recipe
from pipeline.student import Student


@dataclass(frozen=True)
class EngineBuilder:
    """The builder for the target `name`, an engine here or on a device; `options` are those of this target."""

    step: Stages
    name: str
    images: Artifact
    options: EngineOptions
    half: Half
    measure: Measure
    bundle: Bundle

    @classmethod
    def of(cls, recipe: Recipe, step: Stages, name: str, images: Artifact) -> "EngineBuilder":
        return cls(step, name, images, recipe.targets[name], recipe.half, recipe.measure, recipe.bundle)

    @property
    def target(self) -> targets.Target:
        return targets.get(self.name)

    @property
    def profile(self) -> Profile:
        """The device that the engines are made for."""
        return self.options.profile

    @property
    def placement(self) -> Placement | None:
        usual = self.target.placement(self.profile)
        return usual and self.options.placed(usual)

    def unavailable(self) -> str | None:
        """Why no engine can be built here; for another device only TensorRT's, which that device builds."""
        if self.profile.is_here:
            return self.target.unavailable()
        return None if self.target.MADE_FOR == "cpu" else f"its engines are built on the device; {self.profile.hindrance}"

    def cannot_run(self) -> str | None:
        """Why engines cannot be executed here as on their device."""
        return self.target.cannot_run() if self.profile.is_here else self.profile.hindrance

    @property
    def runs(self) -> bool:
        """Whether engines can be built and executed on this machine."""
        return self.unavailable() is None and self.cannot_run() is None

    @property
    def stands_in(self) -> bool:
        """Whether ONNX Runtime computes the files of the engines here, in the place of another device."""
        return not self.profile.is_here and self.unavailable() is None

    @property
    def load(self) -> Load:
        return stand_in.load if self.stands_in else self.target.load

    def platform(self) -> dict[str, Any]:
        """What predictions and latencies depend on."""
        return stand_in.platform() if self.stands_in else self.target.platform()

    @property
    def baseline(self) -> EngineName:
        return EngineName.baseline(self.name)

    def named(self, student: Student, form: str) -> EngineName:
        return EngineName("student", form, student.variant, self.name)

    def place(self, model: Artifact, ranges: Artifact, skip: tuple[str, ...] = ()) -> Artifact:
        """`model` with Q/DQ and float32 scales, without Q/DQ at the nodes `skip`; for a target that has INT8."""
        assert self.placement is not None
        placement = self.placement.model_copy(update={"skip": skip})
        return self.step(place_qdq, placement, label=self.name, model=model, ranges=ranges)

    def to_half(self, model: Artifact, label: str, *, float32_input: bool = False) -> Artifact:
        config = HalfOf(**self.half.model_dump(), float32_input=float32_input)
        return self.step(half, config, label=label, model=model)

    def as_built(self, int8: Artifact) -> Artifact:
        """`int8` with the floating-point type that the target needs for the layers that are not quantized."""
        placement = self.placement
        assert placement is not None
        if placement.floats != "float16":
            return int8
        return self.to_half(int8, f"int8 {self.name}", float32_input=placement.input == "float32")

    def shippable(self, student: Student) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        """The float32 files of the engines that could ship, none if the target has no INT8; and {engine: the reason} for INT8
        that failed."""
        found: dict[EngineName, Artifact] = {}
        refused: dict[EngineName, str] = {}
        if self.placement is None:
            return found, refused
        if floats := self.target.half(self.profile):
            found[self.named(student, floats)] = student.onnx
        name = self.named(student, "int8")
        with costs_its_row(name, refused, "its quantization failed: "):
            found[name] = self.place(student.onnx, student.ranges)
        return found, refused

    def models(
        self, baseline: Artifact, students: Sequence[Student], shippable: Mapping[EngineName, Artifact]
    ) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        """The files to build engines from, and the reasons where a network does not fit into 16-bit floats.

        `shippable` are those of all `students`.
        """
        found: dict[EngineName, Artifact] = {self.baseline: baseline}
        refused: dict[EngineName, str] = {}
        for student in students:
            if student.onnx is not baseline:
                found[self.named(student, "fp32")] = student.onnx
            if floats := self.target.half(self.profile):
                name = self.named(student, floats)
                with costs_its_row(name, refused):
                    found[name] = self.to_half(student.onnx, f"student {student.variant}".strip())
            if (int8 := self.named(student, "int8")) in shippable:
                with costs_its_row(int8, refused):
                    found[int8] = self.as_built(shippable[int8])
        return found, refused

    def build(self, engine: EngineName, model: Artifact) -> Artifact:
        context = self.platform()
        return self.step(self.target.build, self.options, label=str(engine), context=context, model=model, images=self.images)

    def build_all(self, models: Mapping[EngineName, Artifact]) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        """The engines, and {engine: the reason} for failed builds."""
        engines: dict[EngineName, Artifact] = {}
        refused: dict[EngineName, str] = {}
        for name, model in models.items():
            with costs_its_row(name, refused, "its build failed: "):
                engines[name] = self.build(name, model)
        return engines, refused

    def predict_all(
        self, engines: Mapping[EngineName, Artifact], split: Literal["val", "test"]
    ) -> tuple[dict[EngineName, Artifact], dict[EngineName, str]]:
        """The predictions of the engines, and {engine: the reason} for engines that were built and do not run."""
        predictions: dict[EngineName, Artifact] = {}
        refused: dict[EngineName, str] = {}
        for name, engine in engines.items():
            with costs_its_row(name, refused, "it was built and does not run: "):
                predictions[name] = self.predict(name, engine, split)
        return predictions, refused

    def predict(self, name: EngineName, engine: Artifact, split: Literal["val", "test"]) -> Artifact:
        """The engine's predictions for the images that choose ("val"), or for those that judge ("test")."""
        config = Predict(batch_size=self.measure.batch_size, threads=self.measure.threads, split=split)
        context, load = self.platform(), self.load
        if self.name == targets.REFERENCE and (gpu := usable_gpu()):
            context, load = {**context, "predicted_on": gpu}, load_on_gpu
        label = f"{name} on {split}"
        return self.step(predict, config, label=label, context=context, load=load, engine=engine, images=self.images)

    def time_all(self, engines: Mapping[EngineName, Artifact]) -> tuple[Artifact | None, dict[EngineName, str]]:
        """The latencies of the engines, None if none can be timed; and {engine: the reason} for engines that cannot be timed.

        All are timed in one stage. They take turns, so their latencies are comparable.
        """
        context, load = self.platform(), self.load

        def time(left: Mapping[str, Artifact]) -> Artifact:
            return self.step(
                latency, self.measure, label=self.name, context=context, load=load, engines=left, images=self.images
            )

        names = {name.key: name for name in engines}
        timed, failed = time_all(time, {name.key: engine for name, engine in engines.items()})
        return timed, {names[key]: f"it was built and cannot be timed: {reason}" for key, reason in failed.items()}

    def alone(self, name: EngineName, engine: Artifact) -> Artifact:
        """The peak memory of the engine and the time to its first inference, in a process of its own."""
        config = Alone(engine=str(name), threads=self.measure.threads)
        context, load = self.platform(), self.load
        return self.step(alone, config, label=str(name), context=context, load=load, engine=engine, images=self.images)

    def pack(self, engine: Artifact, model: Artifact) -> Artifact:
        """The bundle for the device; `model` is the float32 file that `engine` was built from.

        ONNX Runtime computes the expected logits of its own engines for another device; those of others it computes from
        `model`, and the tolerance is larger.
        """
        opens = self.runs or (self.stands_in and self.target.REQUIRES == ("onnxruntime",))
        opened: Any = {"load": self.load} if opens else {}
        threads = self.profile.threads or self.measure.threads or (hardware.cores() if self.profile.is_here else None)
        config = BundleOf(
            **self.bundle.model_dump(), profile=self.profile, threads=threads,
            requires=self.target.REQUIRES if self.unavailable() is None else (),
        )  # fmt: skip
        return self.step(bundle, config, label=self.name, context=device_code(), engine=engine, model=model,
                         images=self.images, runner=self.target.runner, **opened)  # fmt: skip

    def pack_to_build(self, int8: Artifact) -> Artifact:
        """The bundle from which the device builds the engine, if this machine cannot build it."""
        assert self.target.prepare is not None
        files = self.step(self.target.prepare, self.options, label=self.name, context=device_code(), model=int8)
        return self.pack(files, int8)

"""Engines that are made for another device, and what their bundles say there."""

import importlib.metadata
import json
import sys
from pathlib import Path

import onnx
import pytest

from calibration.place import place_qdq
from core import hardware
from core.profile import PROFILES, Profile, profile_of
from export import stand_in, targets
from export.bundle import BundleOf, bundle
from export.half import HalfOf, half
from export.targets import openvino
from export.targets._engine import check_readable
from tests.conftest import Small
from tests.export.conftest import ONNXRUNTIME, Run


@pytest.fixture(autouse=True)
def workstation(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile is that of this machine."""
    monkeypatch.setattr(hardware, "kind", lambda: "riscv64")


def built_for(engine: str, device: str, small: Small, tmp_path: Path) -> tuple[Path, Path]:
    """A finished INT8 build for the device, and the folder with its float32 file."""
    target, profile = targets.get(f"{engine}@{device}"), profile_of(device)
    placed, out = tmp_path / "placed", tmp_path / "engine"
    placed.mkdir()
    out.mkdir()
    placement = target.placement(profile)
    assert placement is not None
    place_qdq(placement, placed, model=small.onnx, ranges=small.ranges)
    metrics = target.build(target.Options(profile=profile), out, model=placed, images=small.images)
    (out / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    return out, placed


@pytest.mark.parametrize(
    ("engine", "device", "activation", "reduce_range", "untimed", "half"),
    [
        ("onnxruntime", "arm64", "int8", False, "int8", None),
        ("onnxruntime", "arm64-dotprod", "int8", False, "int8", None),
        ("onnxruntime", "x86-avx2", "uint8", True, "int8", None),
        ("onnxruntime", "x86-vnni", "uint8", False, "int8", None),
        ("openvino", "arm64", "uint8", False, "fp16", "fp16"),  # it computes INT8 in 16-bit floats there
        ("openvino", "x86-avx2", "uint8", True, "int8", None),
        ("tensorrt", "orin", "int8", False, "int8", "fp16"),
    ],
)
def test_a_device_decides_what_is_placed(
    engine: str, device: str, activation: str, reduce_range: bool, untimed: str, half: str | None
) -> None:
    target, profile = targets.get(f"{engine}@{device}"), profile_of(device)
    placement = target.placement(profile)
    assert placement and (placement.activation, placement.reduce_range) == (activation, reduce_range)
    assert (target.untimed(profile), target.half(profile)) == (untimed, half)


@pytest.mark.parametrize(
    ("name", "able"),
    [
        ("tensorrt@arm64", "tensorrt cannot be made for arm64; expected jetson-orin"),
        ("tensorrt_rtx@orin", "tensorrt_rtx cannot be made for orin; expected tensorrt_rtx alone, for this machine"),
        ("torch@arm64", "expected torch alone"),
        ("onnxruntime@", "unknown device ''; known profiles: arm64"),
    ],
)
def test_what_cannot_be_made_for_a_device_says_what_can(name: str, able: str) -> None:
    with pytest.raises(ValueError, match=able):
        targets.get(name)


@pytest.mark.parametrize("device", ["arm64", "x86-avx2", "x86-vnni"])
def test_the_file_for_a_device_is_placed_for_it_and_its_integer_share_is_unknown(
    device: str, small: Small, tmp_path: Path
) -> None:
    engine, _ = built_for("onnxruntime", device, small, tmp_path)
    metrics = json.loads((engine / "manifest.json").read_text())["metrics"]
    assert metrics["precision"] == "int8" and metrics["int8_share"] is None
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(engine / "engine.onnx").graph.initializer}
    weights = [v for name, v in values.items() if name.endswith("/quantized") and v.ndim > 1]
    assert max(abs(int(w.min())) for w in weights) <= (64 if device == "x86-avx2" else 127)
    zeros = {str(v.dtype) for name, v in values.items() if name.endswith("/zero_point") and v.ndim == 0}
    assert zeros == {"int8" if device == "arm64" else "uint8"}


def test_openvino_for_another_device_needs_no_openvino_here(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "half").mkdir()
    half(HalfOf(), tmp_path / "half", model=small.onnx)
    options = openvino.Options(profile=profile_of("arm64"))
    built = openvino.build(options, tmp_path, model=tmp_path / "half", images=small.images)
    assert (built["precision"], built["int8_share"]) == ("fp16", 0.0)
    assert json.loads((tmp_path / "properties.json").read_text())["INFERENCE_PRECISION_HINT"] == "f16"


@pytest.mark.parametrize("newer", [{"opset": 17}, {"ir": 9}])
def test_a_file_that_is_too_new_for_the_device_is_refused(newer: dict[str, int], small: Small) -> None:
    proto = onnx.load(small.onnx / "model.onnx")
    for profile in PROFILES.values():
        check_readable(proto, profile)
    old = Profile(**{**PROFILES["arm64"].model_dump(), **newer})
    with pytest.raises(ValueError, match=r"opset 18 and IR version 10; runtimes of arm64 read up to .* export.opset"):
        check_readable(proto, old)


@pytest.mark.parametrize(("kind", "threads"), [("arm64", 2), ("x86-avx2", None)])
def test_a_bundle_says_what_it_was_made_for(kind: str, threads: int | None, small: Small, device: Run, tmp_path: Path) -> None:
    engine, placed = built_for("onnxruntime", kind, small, tmp_path)
    out = tmp_path / "bundle"
    out.mkdir()
    config = BundleOf(profile=profile_of(kind), threads=threads, requires=("onnxruntime",))
    runner = targets.get("onnxruntime").runner
    bundle(config, out, engine=engine, model=placed, images=small.images, runner=runner, load=stand_in.load)
    about = json.loads((out / "bundle.json").read_text())
    version = importlib.metadata.version("onnxruntime")
    assert about["made_for"] == {"device": kind, "cpu": kind, "gpu": None}
    assert about["runtime"] == {"onnxruntime": version} and about["threads"] == threads
    assert (out / "requirements.txt").read_text().splitlines() == [f"onnxruntime=={version}", "numpy", "pillow"]
    about["made_for"]["cpu"] = "vax"
    (out / "bundle.json").write_text(json.dumps(about))
    done = device(out, ("numpy", "onnxruntime"), "verify.py")
    assert done.returncode == 0, done.stderr
    ok, note = done.stdout.splitlines()
    assert ok.startswith("ok: 16 images") and note.startswith("note: the bundle was made for vax, and this CPU is ")
    (out / "bundle.json").write_text(json.dumps({**about, "tolerance": -1}))
    done = device(out, ("numpy", "onnxruntime"), "verify.py")
    assert done.returncode == 1 and "; the bundle was made for vax, and this CPU is " in done.stderr


@ONNXRUNTIME
def test_on_its_own_cpu_there_is_no_note(made: Path, runtime: str, device: Run) -> None:
    about = json.loads((made / "bundle.json").read_text())
    own = device(made, ("numpy", runtime), "-c", "import cpu; print(cpu.kind())").stdout.strip()
    (made / "bundle.json").write_text(json.dumps({**about, "made_for": {"cpu": own}}))
    done = device(made, ("numpy", runtime), "verify.py")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr


SPY = {
    "onnxruntime": "import onnxruntime as r; r.InferenceSession = lambda f, o, **k: print(o.intra_op_num_threads)",
    "openvino": """
import openvino as r
class Core(r.Core):
    def compile_model(self, model, device, config):
        print(config.get("INFERENCE_NUM_THREADS", 0))
        return super().compile_model(model, device, config)
r.Core = Core""",
}


@pytest.mark.parametrize(("threads", "cores", "used"), [(2, 8, 2), (8, 2, 2), (None, 8, 0)])  # 0: the runtime decides
def test_the_runner_uses_the_threads_of_the_bundle(
    made: Path, runtime: str, device: Run, threads: int | None, cores: int, used: int
) -> None:
    about = json.loads((made / "bundle.json").read_text())
    (made / "bundle.json").write_text(json.dumps({**about, "threads": threads}))
    opened = f"import os, pathlib; os.cpu_count = lambda: {cores}\nimport runner; runner.open_engine(pathlib.Path('.'))"
    code = f"{SPY[runtime]}\n{opened}"
    done = device(made, ("numpy", runtime), "-c", code)
    assert done.stdout.strip() == str(used), done.stderr

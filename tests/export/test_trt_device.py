"""build.sh and build_engine.py in a copied bundle: what they build with, what they say, and what they leave."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import hardware
from core.digest import file_digest
from export.bundle import BundleOf, bundle
from export.targets import tensorrt
from tests.conftest import Small
from tests.export.test_trt_prepare import placed

JETPACK = Path("/usr/src/tensorrt/bin/trtexec")
TIMING = ["--useCudaGraph", "--useSpinWait"]
OPTIONS = {
    "8.6": ["--fp16", "--int8", *TIMING],
    "10.3": ["--fp16", "--int8", "--stronglyTyped", *TIMING],
    "11.0": ["--minShapes=spec", "--includeDataTransfers", "--noCudaGraph", "--noSpinWait"],
}
HELP = {
    version: "=== Options ===\n" + "".join(f"  {option}    What it does\n" for option in known)
    for version, known in OPTIONS.items()
}
# trtexec as far as build.sh knows it. It refuses the files in `refused`, and computes with ONNX Runtime.
TRTEXEC = """#!{python}
import json, sys
from pathlib import Path
here = Path({folder!r})
if "--help" in sys.argv:
    print({help!r})
    sys.exit(0)
options = dict(word.partition("=")[::2] for word in sys.argv[1:])
with (here / "options.txt").open("a") as file:
    print(*sys.argv[1:], file=file)
if options.get("--onnx") in {refused!r}:
    print("[01/01/2026-00:00:00] [E] [TRT] node 7 is not what we take")
    sys.exit(1)
if "--onnx" in options:
    Path(options["--saveEngine"]).write_bytes(b"engine of " + options["--onnx"].encode())
    Path(options["--exportTimes"]).write_text(json.dumps([dict(latencyMs=1 + i / 1000) for i in range(1001)]))
    layers = []
    for name in json.loads(Path("build.json").read_text())["macs"]:
        integer = "conv" in name.lower() and b"DequantizeLinear" in Path(options["--onnx"]).read_bytes()
        given = dict(Format="kLINEAR", Datatype="Int8" if integer else "Half")
        layers.append(dict(Name=name, LayerType="CaskConvolution", Inputs=[given], Metadata="[ONNX Layer: " + name + "]"))
    Path(options["--exportLayerInfo"]).write_text(json.dumps(dict(Layers=layers)))
    print("[01/01/2026-00:00:00] [I] Latency: min = 1 ms")
else:
    import numpy as np, onnxruntime as ort
    shape = [int(n) for n in options["--shapes"].partition(":")[2].split("x")]
    x = np.fromfile(options["--loadInputs"].partition(":")[2], np.float32).reshape(shape)
    name = Path(options["--loadEngine"]).read_bytes().decode().split()[-1]
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(here / name, settings, providers=["CPUExecutionProvider"])
    logits = session.run(None, dict(input=x))[0]
    tensor = dict(name="logits", dimensions="x".join(map(str, logits.shape)), values=logits.ravel().tolist())
    Path(options["--exportOutput"]).write_text(json.dumps([tensor]))
"""


@pytest.fixture(scope="module")
def copied(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a resnet18 that is to be built on the device."""
    folder = tmp_path_factory.mktemp("bundles")
    model, files, out = placed("resnet18", small, folder), folder / "files", folder / "bundle"
    for path in (files, out):
        path.mkdir()
    metrics = tensorrt.prepare(tensorrt.Options(), files, model=model)
    (files / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    # The network is not trained: its INT8 answers move more than those of a real one.
    bundle(
        BundleOf(images=4, tolerance_elsewhere=0.3), out, engine=files, model=model, images=small.images, runner=tensorrt.runner
    )
    return out


@pytest.fixture
def device(copied: Path, tmp_path: Path) -> Path:
    """A copy of the bundle; beside it bin/ with a python3 that has numpy, and stubs/, where its tensorrt is to be put."""
    folder = tmp_path / "a device"  # also with a space
    shutil.copytree(copied, folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "stubs").mkdir()
    executable(tmp_path / "bin" / "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "stubs" / "tensorrt.py").write_text("raise ImportError('not here')")
    return folder


def executable(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def trtexec(device: Path, version: str, refused: tuple[str, ...] = ()) -> None:
    content = TRTEXEC.format(python=sys.executable, folder=str(device), help=HELP[version], refused=refused)
    executable(device.parent / "bin" / "trtexec", content)


def start(device: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{device.parent / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(device.parent / "stubs")}
    command = [str(device / "build.sh"), *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)


def builds(device: Path) -> list[list[str]]:
    """The options of each build by trtexec; not those of its runs."""
    given = [line.split() for line in (device / "options.txt").read_text().splitlines()]
    return [words for words in given if words[0].startswith("--onnx=")]


@pytest.mark.parametrize(
    ("version", "file", "types", "timing"),
    [
        ("8.6", "legacy.onnx", ["--int8", "--fp16"], TIMING),
        ("10.3", "model.onnx", ["--stronglyTyped"], TIMING),
        ("11.0", "model.onnx", [], ["--includeDataTransfers"]),  # it leaves the copies out, and replays a CUDA graph by default
    ],
)
def test_trtexec_builds_measures_and_verifies(
    device: Path, version: str, file: str, types: list[str], timing: list[str]
) -> None:
    trtexec(device, version)
    done = start(device)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((device / "build.json").read_text())
    measuring = ["--warmUp=1000", "--iterations=1000", *timing, "--exportTimes=times.json"]
    measuring += ["--profilingVerbosity=detailed", "--exportLayerInfo=layers.json"]
    wanted = [f"--onnx={file}", "--saveEngine=model.engine", *plan["trtexec"].split(), *types, *measuring]
    assert builds(device) == [wanted]
    about = json.loads((device / "bundle.json").read_text())
    assert about["engine"] == "model.engine" and about["sha256"] == file_digest(device / "model.engine")
    assert "tolerance" in about
    record = json.loads((device / "device.json").read_text())
    assert record["built_by"] == "trtexec" and record["onnx"] == file
    assert record["latency_ms"] == {"n": 1001, "p50": 1.5, "p90": 1.9, "p99": 1.99, "batch": 1}
    assert record["timed"].startswith("time on the GPU of both copies and the kernels")
    convolutions = {name: count for name, count in plan["macs"].items() if "conv" in name.lower()}
    assert record["int8_share"] == sum(convolutions.values()) / sum(plan["macs"].values()) < 1
    assert record["nvpmodel"] is None
    assert "ok: 4 images" in done.stdout  # verify.py, with the logits of trtexec


def test_layers_that_cannot_be_read_leave_the_share_unknown(device: Path) -> None:
    trtexec(device, "10.3")
    script = device.parent / "bin" / "trtexec"
    executable(script, script.read_text().replace("json.dumps(dict(Layers=layers))", "'no JSON'"))
    done = start(device)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((device / "device.json").read_text())["int8_share"] is None


@pytest.mark.parametrize("compatible", [False, True])
def test_an_engine_with_a_runtime_of_its_own_is_run_as_one(device: Path, compatible: bool) -> None:
    trtexec(device, "10.3")
    plan = json.loads((device / "build.json").read_text())
    plan["options"]["version_compatible"] = compatible
    (device / "build.json").write_text(json.dumps(plan, indent=1))
    assert start(device).returncode == 0
    runs = [line.split() for line in (device / "options.txt").read_text().splitlines() if "--loadEngine" in line]
    assert len(runs) == 4 and all(("--versionCompatible" in words) is compatible for words in runs)


def test_the_power_mode_of_a_jetson_is_recorded(device: Path) -> None:
    trtexec(device, "10.3")
    executable(device.parent / "bin" / "nvpmodel", '#!/bin/sh\n[ "$1" = -q ] && printf "NV Power Mode: 15W\\n0\\n"\n')
    assert start(device).returncode == 0
    assert json.loads((device / "device.json").read_text())["nvpmodel"] == "NV Power Mode: 15W 0"


def test_a_python_without_numpy_is_one_line_and_1(device: Path) -> None:
    trtexec(device, "10.3")
    (device.parent / "stubs" / "numpy.py").write_text("raise ImportError('not here')")
    script = device.parent / "bin" / "trtexec"  # it is C++, and needs no Python
    executable(
        script, script.read_text().replace("import json, sys", "import json, sys\nsys.path[:] = sys.path[:1] + sys.path[2:]")
    )
    done = start(device)
    assert done.returncode == 1 and (device / "model.engine").exists()
    assert done.stderr == "model.engine is built but not verified: install python3 and numpy, then run python3 verify.py\n"


def test_a_folder_named_like_the_library_is_not_the_library(device: Path) -> None:
    trtexec(device, "10.3")
    (device.parent / "stubs" / "tensorrt.py").unlink()
    (device.parent / "stubs" / "tensorrt").mkdir()  # Python imports it as a package without content
    done = start(device)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((device / "device.json").read_text())["built_by"] == "trtexec"


def test_a_file_that_trtexec_refuses_is_followed_by_the_other_one(device: Path) -> None:
    trtexec(device, "10.3", refused=("model.onnx",))
    done = start(device)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [words[0] for words in builds(device)] == ["--onnx=model.onnx", "--onnx=legacy.onnx"]
    assert {"--int8", "--fp16"} <= set(builds(device)[1]) and "--stronglyTyped" not in builds(device)[1]
    assert "model.onnx cannot be built: " in done.stdout and "node 7 is not what we take" in done.stdout


def test_trtexec_that_refuses_everything_is_one_line_and_1(device: Path) -> None:
    trtexec(device, "10.3", refused=("model.onnx", "legacy.onnx"))
    done = start(device)
    assert done.returncode == 1
    assert done.stderr == "no file can be built on this device; see trtexec.log\n"


def test_the_file_that_is_named_is_the_only_one(device: Path) -> None:
    trtexec(device, "10.3")
    assert start(device, "legacy.onnx").returncode == 0
    assert [words[0] for words in builds(device)] == ["--onnx=legacy.onnx"]


def test_an_engine_that_answers_differently_is_not_accepted(device: Path) -> None:
    trtexec(device, "10.3")
    script = device.parent / "bin" / "trtexec"
    executable(script, script.read_text().replace("logits.ravel()", "logits.ravel()[::-1]"))
    done = start(device)
    assert done.returncode == 1
    assert "logits differ" in done.stderr


@pytest.mark.skipif(JETPACK.exists() or shutil.which("trtexec", path="/usr/bin:/bin") is not None, reason="trtexec is here")
def test_neither_tool_is_one_line_and_1(device: Path) -> None:
    done = start(device)
    assert done.returncode == 1
    assert done.stderr.startswith("no TensorRT found: ") and len(done.stderr.splitlines()) == 1
    assert not (device / "model.engine").exists()


# The library itself: TensorRT-RTX has the same interface and builds with no GPU, so it stands in for tensorrt.


def use_rtx(device: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    (device.parent / "stubs" / "tensorrt.py").write_text("import sys, tensorrt_rtx\nsys.modules['tensorrt'] = tensorrt_rtx\n")
    plan = json.loads((device / "build.json").read_text())
    plan["options"]["compute_capabilities"] = ["SM89"]  # tensorrt builds for the GPU it finds
    (device / "build.json").write_text(json.dumps(plan))


@pytest.mark.skipif(hardware.gpu() is not None, reason="this machine has a GPU")
def test_python_builds_the_engine_and_says_that_it_cannot_be_run_here(device: Path) -> None:
    use_rtx(device)
    done = start(device)
    assert done.returncode == 1
    assert done.stderr.startswith("no NVIDIA GPU here") and len(done.stderr.splitlines()) == 1
    assert "building model.engine from model.onnx with tensorrt" in done.stdout
    assert (device / "model.engine").read_bytes()[:4] == b"vtrt"
    about = json.loads((device / "bundle.json").read_text())
    assert about["engine"] == "model.engine" and about["sha256"] == file_digest(device / "model.engine")
    record = json.loads((device / "device.json").read_text())
    assert record["onnx"] == "model.onnx" and record["refused"] == {} and "latency_ms" not in record


@pytest.mark.skipif(hardware.gpu() is not None, reason="this machine has a GPU")
def test_python_takes_the_other_file_where_one_is_refused(device: Path) -> None:
    use_rtx(device)
    (device / "model.onnx").write_bytes((device / "model.onnx").read_bytes().replace(b"ReduceMean", b"ReduceMoon"))
    done = start(device)
    assert "model.onnx cannot be built: " in done.stdout and "ReduceMoon" in done.stdout
    assert "building model.engine from legacy.onnx, whose floating-point layers run in float32, with tensorrt" in done.stdout
    record = json.loads((device / "device.json").read_text())
    assert record["onnx"] == "legacy.onnx" and "ReduceMoon" in record["refused"]["model.onnx"]


def test_python_names_every_refusal_in_one_line(device: Path) -> None:
    use_rtx(device)
    for name in ("model.onnx", "legacy.onnx"):
        (device / name).write_bytes((device / name).read_bytes().replace(b"ReduceMean", b"ReduceMoon"))
    done = start(device)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.count("ReduceMoon") >= 2
    assert not (device / "model.engine").exists()

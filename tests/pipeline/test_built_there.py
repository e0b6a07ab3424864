"""TensorRT's engines are built on the device, and come home: build.sh of the bundle runs over ssh.

A trtexec that computes with ONNX Runtime stands in for TensorRT. Nothing here was run on a Jetson.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from core import hardware
from core.digest import file_digest
from pipeline import api
from tests.export.test_trt_device import HELP, TRTEXEC
from tests.pipeline.loopback import Loopback

pytestmark = [
    pytest.mark.skipif(hardware.gpu() is not None, reason="this machine has a GPU, so it builds the engine itself"),
    pytest.mark.slow,  # trtexec is a process for every image
]


@pytest.fixture
def jetson(board: Loopback) -> Loopback:
    """The board with a trtexec of TensorRT 10.3 in its PATH."""
    script = TRTEXEC.replace("InferenceSession(here / name", 'InferenceSession(Path(options["--loadEngine"]).parent / name')
    (board.root / "bin").mkdir(exist_ok=True)
    trtexec = board.root / "bin" / "trtexec"
    trtexec.write_text(script.format(python=sys.executable, folder=".", help=HELP["10.3"], refused=()))
    trtexec.chmod(0o755)
    python = board.program(f'PATH={board.root}/bin:$PATH exec {sys.executable} "$@"')
    Path("devices.toml").write_text(board.entry(python=python, targets=["tensorrt"]))
    return board


def test_the_engine_is_built_there_measured_and_comes_home(jetson: Loopback, pressed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(pressed, tmp_path / "out"))
    report = api.measure(out, "board", device_images=4)
    rows = [row for row in report.rows if row.device]
    assert [row.id for row in rows] == ["baseline-fp32/tensorrt@board", "student-int8/tensorrt@board"]
    for row in rows:
        assert row.status == "measured" and row.accuracy and row.accuracy.n == 4 and row.artifact
        engine = out / row.artifact
        assert row.sha256 == file_digest(engine) and engine.read_bytes() == b"engine of model.onnx"
        made = json.loads((engine.parent / "device.json").read_text())
        assert made["built_by"] == "trtexec" and "--timingCacheFile=timing.cache" in (engine.parent / "options.txt").read_text()
        assert made["timed"].startswith("time on the GPU") and made["int8_share"] == row.int8_share is not None
        assert row.int8_share > 0.99 if row.network == "student" else row.int8_share == 0
        if row.latency_ms:  # the times of trtexec itself
            assert row.latency_ms.p50 == pytest.approx(made["latency_ms"]["p50"]) and row.latency_ms.n == 1001
    stages = {path.name for path in (out / "stages").glob("build_on_device-*")}
    built = {path: path.stat().st_mtime_ns for path in (out / "stages").glob("build_on_device-*/model.engine")}
    assert len(stages) == 2
    again = api.measure(out, "board", device_images=4)
    assert {path: path.stat().st_mtime_ns for path in (out / "stages").glob("build_on_device-*/model.engine")} == built
    assert [row.accuracy for row in again.rows if row.device] == [row.accuracy for row in rows]

"""infer.py and verify.py run with numpy, Pillow and the runtime alone, and notice what has changed on the way."""

import importlib.metadata
import json
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.digest import file_digest
from tests.export.conftest import ONNXRUNTIME, MakeBundle, Run, golden

PILLOW_9 = """
import PIL, PIL.Image, PIL.ImageOps

class Old:
    def __getattr__(self, name, real=PIL.Image):
        if name == "Resampling":
            raise AttributeError(name)
        return getattr(real, name)

PIL.Image, PIL.__version__ = Old(), "9.0.1"
"""


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that a failed verify.py or infer.py leaves."""
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_the_device_has_neither_torch_nor_this_project(device: Run, tmp_path: Path) -> None:
    for name in ("torch", "pipeline", "data", "models", "export", "onnx", "PIL"):
        done = device(tmp_path, ("numpy", "onnxruntime"), "-c", f"import {name}")
        assert f"No module named '{name}'" in done.stderr
    assert device(tmp_path, ("numpy", "onnxruntime"), "-c", "import numpy, onnxruntime").returncode == 0


def test_verify_and_infer_run_with_numpy_pillow_and_the_runtime_alone(made: Path, runtime: str, device: Run) -> None:
    done = device(made, ("numpy", "pillow", runtime), "verify.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 16 images") and "preprocessing bit-identical" in done.stdout
    content = golden(made)
    (made / "image.png").write_bytes(content["image3"].tobytes())
    done = device(made, ("numpy", "pillow", runtime), "infer.py", "image.png", "--top", "1")
    assert done.returncode == 0, done.stderr
    best = (made / "labels.txt").read_text().splitlines()[content["logits"][3].argmax()]
    assert done.stdout.startswith(f"image.png: {best} ")


def test_without_pillow_verify_says_what_it_did_not_check(made: Path, runtime: str, device: Run) -> None:
    done = device(made, ("numpy", runtime), "verify.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 16 images")
    assert "preprocessing was not checked, because Pillow is not installed" in done.stdout
    assert "pip install pillow" in refusal(device(made, ("numpy", runtime), "infer.py", "image.png"))


@ONNXRUNTIME
def test_with_the_pillow_of_ubuntu_22_verify_passes_and_infer_works(made: Path, runtime: str, device: Run) -> None:
    """9.0.1 has no Image.Resampling, and its decoders may round differently."""
    for script in (made / "verify.py", made / "infer.py"):
        script.write_text(script.read_text().replace("import annotations\n", f"import annotations\n{PILLOW_9}", 1))
    spec = json.loads((made / "preprocess.json").read_text())
    (made / "preprocess.json").write_text(json.dumps({**spec, "resize": "squash", "interpolation": "bilinear"}))
    done = device(made, ("numpy", "pillow", runtime), "verify.py")
    assert done.returncode == 0, done.stderr
    assert "preprocessing was not checked, because Pillow 9.0.1 is older than 9.1" in done.stdout
    (made / "image.png").write_bytes(golden(made)["image3"].tobytes())
    done = device(made, ("numpy", "pillow", runtime), "infer.py", "image.png", "--top", "1")
    assert done.returncode == 0 and done.stdout.startswith("image.png: "), done.stderr


@ONNXRUNTIME
def test_an_engine_that_does_not_run_is_reported_before_another_preprocessing(made: Path, runtime: str, device: Run) -> None:
    spec = json.loads((made / "preprocess.json").read_text())
    (made / "preprocess.json").write_text(json.dumps({**spec, "std": [0.354]}))
    (made / "engine.onnx").write_bytes(b"no engine")
    about = {**json.loads((made / "bundle.json").read_text()), "sha256": file_digest(made / "engine.onnx")}
    (made / "bundle.json").write_text(json.dumps(about))
    assert "engine.onnx does not run here" in refusal(device(made, ("numpy", "pillow", runtime), "verify.py"))


def test_a_missing_runtime_is_named(made: Path, runtime: str, device: Run) -> None:
    for command in (["verify.py"], ["infer.py", "image.png"]):
        assert f"pip install {runtime}" in refusal(device(made, ("numpy", "pillow"), *command))


@pytest.mark.parametrize("packages", [("numpy",), ("numpy", "pillow")])
def test_one_changed_byte_of_the_engine_is_noticed(made: Path, runtime: str, device: Run, packages: tuple[str, ...]) -> None:
    content = bytearray((made / "engine.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (made / "engine.onnx").write_bytes(content)
    message = refusal(device(made, (*packages, runtime), "verify.py"))
    assert "engine.onnx has been changed: SHA-256" in message and "copy it again" in message


def test_other_answers_are_noticed(made: Path, runtime: str, device: Run) -> None:
    content = golden(made)
    content["logits"][5] = -content["logits"][5]
    np.savez_compressed(made / "golden.npz", **content)  # type: ignore[arg-type]
    message = refusal(device(made, ("numpy", runtime), "verify.py"))
    assert message.startswith(
        "results differ too much from the build machine: check CPU type and runtime version (logits differ by"
    )
    assert "same class for 15 of 16 images" in message


@ONNXRUNTIME
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": [0.354]}, "differs for 16 of 16 images (largest difference 0.0"),
        ({"input_size": 28}, "inputs of shape (1, 28, 28), expected (1, 32, 32)"),
        ({"resize": "shorter"}, "cannot be decoded or preprocessed here (OSError: KeyError: 'resize_size')"),
    ],
)
def test_another_preprocessing_is_noticed(made: Path, runtime: str, device: Run, change: dict[str, Any], message: str) -> None:
    spec = json.loads((made / "preprocess.json").read_text())
    (made / "preprocess.json").write_text(json.dumps({**spec, **change}))
    line = refusal(device(made, ("numpy", "pillow", runtime), "verify.py"))
    assert message in line and "check preprocess.json and Pillow's version" in line


@ONNXRUNTIME
def test_broken_files_are_told_in_a_line(made: Path, runtime: str, device: Run) -> None:
    whole = (made / "golden.npz").read_bytes()
    (made / "golden.npz").write_bytes(whole[: len(whole) // 2])
    assert "the bundle cannot be read" in refusal(device(made, ("numpy", runtime), "verify.py"))
    (made / "golden.npz").write_bytes(whole)
    (made / "no.png").write_bytes(b"no image")
    assert "no.png cannot be read" in refusal(device(made, ("numpy", "pillow", runtime), "infer.py", "no.png"))
    # An engine that this runtime does not know, as an older one would not know a newer format.
    (made / "engine.onnx").write_bytes(b"no engine")
    about = {**json.loads((made / "bundle.json").read_text()), "sha256": file_digest(made / "engine.onnx")}
    (made / "bundle.json").write_text(json.dumps(about))
    assert "engine.onnx does not run here" in refusal(device(made, ("numpy", runtime), "verify.py"))
    assert "the engine does not run here" in refusal(device(made, ("numpy", "pillow", runtime), "infer.py", "no.png"))


def test_another_decoding_is_noticed(of_album: MakeBundle, device: Run) -> None:
    """One pixel of one image, as if the device's decoder rounded differently."""
    folder = of_album()
    content = golden(folder)
    image = Image.open(BytesIO(content["image0"].tobytes())).convert("L")
    x, y = image.width // 2, image.height // 2
    image.putpixel((x, y), 255 if np.asarray(image)[y, x] < 128 else 0)
    file = BytesIO()
    image.save(file, "PNG")
    content["image0"] = np.frombuffer(file.getvalue(), np.uint8)
    np.savez_compressed(folder / "golden.npz", **content)  # type: ignore[arg-type]
    line = refusal(device(folder, ("numpy", "pillow", "onnxruntime"), "verify.py"))
    assert "decoding or preprocessing differs for 1 of 11 images" in line
    assert f"{importlib.metadata.version('pillow')} here" in line

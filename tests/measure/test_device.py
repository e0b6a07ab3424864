"""What goes to a device and what comes back: pixels, conditions, devices.toml."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.index import Data, index
from data.loader import Split, batches
from measure.device.conditions import hindrance
from measure.device.devices import Device, device_of
from measure.device.pixels import encoded, parts_of, sampled, scaling
from measure.latency import Turn
from measure.watch import Seen

GREY = {"channels": 1, "input_size": 32}
BGR = {"channels": 3, "input_size": 24, "resize": 28, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "channel_order": "bgr"}


def on_the_device(content: bytes, scale: list[float], offset: list[float]) -> np.ndarray:
    """What export/device/measuring.py computes."""
    with np.load(io.BytesIO(content)) as arrays:
        scaled = arrays["pixels"].astype(np.float32) * np.asarray(scale, np.float32) - np.asarray(offset, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def inputs_of(images: Path) -> tuple[np.ndarray, np.ndarray]:
    """The inputs as this machine computes them, and as a device does."""
    split = Split(images, "test")
    scale, offset = json.loads(json.dumps(scaling(split.spec)))
    there = [on_the_device(part, scale, offset) for part in encoded(split, parts_of(sampled(split, None)))]
    return np.concatenate([x.numpy() for x, _ in batches(split, 17)]), np.concatenate(there)


def test_the_device_gets_the_same_inputs_bit_by_bit(tmp_path: Path) -> None:
    index(Data(train_limit=20, test_limit=120), tmp_path)
    here, there = inputs_of(tmp_path)
    assert here.dtype == there.dtype == np.float32 and here.tobytes() == there.tobytes()


@pytest.mark.parametrize("settings", [GREY, BGR], ids=["grey", "bgr"])
def test_the_device_gets_the_same_inputs_of_a_folder(settings: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "album/test" / label).mkdir(parents=True)
        for i in range(30):
            picture = Image.fromarray(rng.integers(0, 256, (30 + i, 44, 3), np.uint8))
            picture.save(tmp_path / "album/test" / label / f"{i}.png")
    (tmp_path / "images").mkdir()
    index(Data(name=str(tmp_path / "album"), **settings), tmp_path / "images")
    here, there = inputs_of(tmp_path / "images")
    assert here.tobytes() == there.tobytes()


def counters(total: int, busy: int) -> dict[str, Any]:
    return {"total": total, "busy": busy, "stolen": 0, "own": 0, "clock": None, "celsius": None}


def at(throttled: str | None = None, busy: int = 0) -> dict[str, Any]:
    """The conditions of four cores during a second in which they were `busy` for so many of 400 ticks."""
    return {"throttled": throttled, "cpus": 4, "before": counters(0, 0), "after": counters(400, busy)}


def rounds(slow: int = 0, loaded: int = 0) -> list[dict[str, Turn]]:
    """Ten turns, of which so many had a lower clock, and so many had load."""
    seen = [Seen(0.0 if i >= loaded else 4.0, 0.0, False, 1000.0 if i < slow else 2000.0, 50.0) for i in range(10)]
    return [{"engine": Turn([0.001], each)} for each in seen]


@pytest.mark.parametrize(
    ("before", "after", "turns", "why"),
    [
        (at("throttled=0x0"), at("throttled=0x0"), rounds(slow=3, loaded=3), None),
        (at(), at(), rounds(), None),
        (at("throttled=0x50000"), at("throttled=0x50000"), rounds(), None),  # long ago
        (
            at("throttled=0x0"),
            at("throttled=0x40000"),
            rounds(),
            "throttled: throttling (vcgencmd get_throttled: throttled=0x40000)",
        ),
        (at("throttled=0x50005"), at("throttled=0x50005"), rounds(), "throttled: under-voltage, throttling (vcgencmd"),
        (at("throttled=0x0"), at("throttled=0x8"), rounds(), "throttled: the soft temperature limit (vcgencmd"),
        (at(busy=300), at(), rounds(), "busy: other processes use 3.0 of 4 cores"),
        (at(), at(), rounds(slow=4), "throttled: the clock was below 0.8 of its highest value in 4 of 10 turns"),
        (at(), at(), rounds(loaded=4), "busy: other processes used the cores in 4 of 10 turns"),
    ],
)
def test_a_throttled_or_busy_device_has_no_latency(
    before: dict[str, Any], after: dict[str, Any], turns: list[dict[str, Turn]], why: str | None
) -> None:
    found = hindrance(before, after, turns, free=0)
    assert found is None if why is None else (found or "").startswith(why), found


def test_load_on_cores_that_the_engine_does_not_use_is_no_hindrance() -> None:
    assert hindrance(at(busy=100), at(), rounds(), free=1) is None


def test_an_entry_of_devices_toml_and_what_needs_none(tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    settings = ['host = "pi@10.0.0.5"', 'python = "venv/bin/python"', "threads = 3", 'targets = ["onnxruntime"]', "sudo = true"]
    file.write_text("\n".join(["[pi5]", *settings, "[nano]"]))
    assert device_of("pi5", file) == Device(
        name="pi5", host="pi@10.0.0.5", python="venv/bin/python", threads=3, targets=("onnxruntime",), sudo=True
    )
    assert device_of("nano", file) == Device(name="nano", host="nano")
    assert device_of("gateway", tmp_path / "none.toml") == Device(name="gateway", host="gateway")
    assert device_of("ssh://me@10.0.0.5:2222", file) == Device(name="10.0.0.5-2222", host="ssh://me@10.0.0.5:2222")

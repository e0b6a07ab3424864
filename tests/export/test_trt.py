"""The flags of old and new TensorRT, on a stand-in that records the calls that it gets."""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from core import hardware
from core.profile import profile_of
from export.device import trt_build
from export.targets import _trt, tensorrt
from tests.export.trt_parts import H200, flags, one_line, stand_in, tiny

UNLOADED = "pybind11::init(): factory function returned nullptr"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in cannot open engines, also where the machine has a GPU."""
    monkeypatch.setattr(hardware, "gpu", lambda: None)


def logged(trt: Any, severity: str, message: str) -> None:
    """Let the library log `message`."""
    kind = MagicMock()
    kind.name = severity
    trt_build.logger(trt).log(kind, message)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("version", "quantized", "half", "network_flags", "set_flags"),
    [
        ("8.6.1", True, False, 1 << 0, ["INT8"]),
        ("8.6.1", False, True, 1 << 0, ["FP16"]),
        ("8.6.1", True, True, 1 << 0, ["INT8", "FP16"]),
        ("8.6.1", False, False, 1 << 0, []),
        ("10.3.0", True, True, 1 << 1, []),
        ("11.0.0", True, False, 1 << 1, []),
        ("11.0.0", False, True, 1 << 1, []),
    ],
)
def test_flags_follow_the_version(
    tmp_path: Path, out: Path, version: str, quantized: bool, half: bool, network_flags: int, set_flags: list[str]
) -> None:
    trt = stand_in(version)
    model = tiny(tmp_path / "model", quantized=quantized, half=half)
    metrics = _trt.build(trt, _trt.Options(), out, model=model)
    trt.Builder.return_value.create_network.assert_called_once_with(network_flags)
    assert flags(trt.config.set_flag) == set_flags
    assert flags(trt.config.clear_flag) == ["TF32"]
    assert metrics["strongly_typed"] is (version != "8.6.1")
    assert metrics["precision"] == ("int8" if quantized else "fp16" if half else "fp32")
    assert (out / metrics["file"]).read_bytes() == b"engine"
    trt.Builder.return_value.create_optimization_profile.return_value.set_shape.assert_called_once_with(
        "input", (1, 3, 16, 16), (1, 3, 16, 16), (64, 3, 16, 16)
    )


@pytest.mark.parametrize(
    ("version", "network_flags", "set_flags"),
    [("8.6.1", 1 << 0, ["INT8", "FP16"]), ("10.3.0", 0, ["INT8", "FP16"]), ("11.0.0", 1 << 1, [])],
)
def test_a_file_without_types_is_built_weakly_typed_while_that_exists(
    tmp_path: Path, version: str, network_flags: int, set_flags: list[str]
) -> None:
    trt = stand_in(version)
    file = tiny(tmp_path / "model", quantized=True) / "model.onnx"
    trt_build.build_engine(trt, file, _trt.Options().model_dump(), flags=("INT8", "FP16"), weakly=True)
    trt.Builder.return_value.create_network.assert_called_once_with(network_flags)
    assert flags(trt.config.set_flag) == set_flags


def test_tf32_is_left_on_when_asked(tmp_path: Path, out: Path) -> None:
    trt = stand_in("11.0.0")
    assert _trt.build(trt, _trt.Options(tf32=True), out, model=tiny(tmp_path / "model"))["tf32"] is True
    assert flags(trt.config.set_flag) == ["TF32"]


def test_a_build_that_gives_nothing_repeats_what_was_logged(tmp_path: Path, out: Path) -> None:
    trt = stand_in("8.6.1")

    def fail(network: Any, config: Any) -> None:
        logged(trt, "ERROR", "[pass.cpp:1: check] No room for\nconv1. In build at /_src/a.cpp:2")

    trt.Builder.return_value.build_serialized_network.side_effect = fail
    with pytest.raises(ValueError, match=r"tensorrt 8\.6\.1 cannot build .*: No room for conv1\.$"):
        _trt.build(trt, _trt.Options(), out, model=tiny(tmp_path / "model"))


def test_every_error_of_an_old_parser_is_listed(tmp_path: Path, out: Path) -> None:
    trt = stand_in("8.6.1")
    trt.OnnxParser.return_value.parse_from_file.return_value = False
    trt.OnnxParser.return_value.num_errors = 2
    errors = [MagicMock(spec=["node", "desc"]) for _ in range(2)]
    for index, error in enumerate(errors):
        error.node.return_value, error.desc.return_value = index, f"reason {index}"
    trt.OnnxParser.return_value.get_error.side_effect = errors
    with pytest.raises(ValueError, match=r"node 0: reason 0; node 1: reason 1$"):
        _trt.build(trt, _trt.Options(), out, model=tiny(tmp_path / "model"))


def test_tensorrt_options_reach_the_builder(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in("10.16.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    trt.config.create_timing_cache.return_value.serialize.return_value = b"times"
    options = tensorrt.Options(
        workspace_mib=64, version_compatible=True, hardware_compatibility="ampere_plus", timing_cache=tmp_path / "cache"
    )
    metrics = tensorrt.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)
    trt.config.set_memory_pool_limit.assert_called_once_with("WORKSPACE", 64 << 20)
    assert flags(trt.config.set_flag) == ["VC"]
    assert trt.config.hardware_compatibility_level == "ampere"
    trt.config.create_timing_cache.assert_called_once_with(b"")
    assert (tmp_path / "cache").read_bytes() == b"times"
    assert metrics["version_compatible"] is True
    assert metrics["hardware_compatibility"] == "ampere_plus"


def test_a_timing_cache_of_another_library_is_begun_anew(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in("10.16.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    (tmp_path / "cache").write_bytes(b"of another")
    caches = {b"of another": MagicMock(name="other"), b"": MagicMock(name="new")}
    caches[b""].serialize.return_value = b"times"
    trt.config.create_timing_cache.side_effect = caches.get
    trt.config.set_timing_cache.side_effect = lambda cache, ignore_mismatch: cache is caches[b""]
    options = tensorrt.Options(timing_cache=tmp_path / "cache")
    tensorrt.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)
    assert (tmp_path / "cache").read_bytes() == b"times"


def test_a_refused_timing_cache_is_not_the_reason_of_a_failed_build(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = stand_in("10.16.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    (tmp_path / "cache").write_bytes(b"of another")

    def create(content: bytes) -> MagicMock:
        if content:
            logged(trt, "ERROR", "the cache is of another version")
        return MagicMock()

    trt.config.create_timing_cache.side_effect = create
    trt.Builder.return_value.build_serialized_network.return_value = None
    with pytest.raises(ValueError, match=r"cannot build .*: the library gave no reason"):
        tensorrt.build(tensorrt.Options(timing_cache=tmp_path / "cache"), out, model=tiny(tmp_path / "model"), images=tmp_path)


@pytest.mark.parametrize("refusing", ["Builder", "Runtime"])
def test_cuda_that_does_not_initialise_is_one_line_with_the_reason(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    """The library logs the reason as a warning, and its constructor raises TypeError."""
    trt = stand_in("11.0.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(hardware, "gpu", lambda: H200)

    def refuse(log: Any) -> None:
        logged(trt, "WARNING", "Unable to determine GPU memory usage")
        logged(trt, "WARNING", "CUDA initialization failure with error: 35")
        logged(trt, "WARNING", "see the guide")
        raise TypeError(UNLOADED)

    monkeypatch.setattr(trt, refusing, refuse)
    expected = r"^tensorrt 11\.0\.0 cannot use the GPU \(CUDA initialization failure with error: 35\): update .*tensorrt-cu12$"
    with pytest.raises(ValueError, match=expected):
        if refusing == "Builder":
            _trt.build(trt, _trt.Options(), out, model=tiny(tmp_path / "model"))
        else:
            _trt.contextualized(trt, b"engine")
    reason = tensorrt.unavailable()
    assert reason is None if refusing == "Runtime" else "error: 35" in one_line(reason)


def test_an_engine_that_the_gpu_here_cannot_load_is_kept(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in("11.0.0")
    monkeypatch.setattr(hardware, "gpu", lambda: H200)
    runtime = trt.Runtime.return_value
    runtime.mock_add_spec(["deserialize_cuda_engine"])
    runtime.deserialize_cuda_engine.return_value = None
    metrics = _trt.build(trt, _trt.Options(), out, model=tiny(tmp_path / "model", quantized=True))
    assert metrics["int8_share"] is None and (out / metrics["file"]).read_bytes() == b"engine"
    with pytest.raises(ValueError, match="cannot load the engine on"):
        _trt.load(trt, out)


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("8.5.2", {"version_compatible": True}),
        ("8.5.2", {"hardware_compatibility": "ampere_plus"}),
        ("10.3.0", {"hardware_compatibility": "same_compute_capability"}),
    ],
)
def test_an_option_that_an_old_tensorrt_lacks_is_a_value_error(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, version: str, option: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(version))
    with pytest.raises(ValueError, match=rf"TensorRT {version} has no \w+: remove the option"):
        tensorrt.build(tensorrt.Options(**option), out, model=tiny(tmp_path / "model"), images=tmp_path)


def test_batches_are_in_order() -> None:
    with pytest.raises(ValueError, match="opt_batch <= max_batch expected, got 8, 4"):
        _trt.Options(opt_batch=8, max_batch=4)


def test_every_engine_takes_a_single_image() -> None:
    """verify.py, infer.py and the golden logits of a bundle are for one."""
    with pytest.raises(ValueError, match="min_batch"):
        _trt.Options(min_batch=2, opt_batch=4)  # type: ignore[call-arg]


def test_an_engine_for_a_jetson_takes_smaller_batches() -> None:
    orin = profile_of("orin")
    assert (tensorrt.Options().max_batch, tensorrt.Options(profile=orin).max_batch) == (64, 16)
    assert tensorrt.Options(profile=orin, max_batch=32).max_batch == 32

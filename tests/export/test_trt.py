"""TensorRT and TensorRT-RTX without a GPU: real RTX engines, and the flags of old and new TensorRT on a stand-in."""

import ctypes
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.targets import _trt, tensorrt, tensorrt_rtx
from pipeline import hardware
from pipeline.stage import file_digest

ARCHITECTURES = ("SM80", "SM86", "SM89", "SM120")
H200 = {"name": "H200", "compute_capability": "9.0", "driver": "CUDA 13.0"}


def tiny(folder: Path, *, quantized: bool = False, half: bool = False, unknown_operator: bool = False) -> Path:
    """A stage folder with model.onnx: conv, residual conv, pooling, gemm; Q/DQ placed as TensorRT wants it."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    kind = np.float16 if half else np.float32

    def tensor(name: str, values: Any) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def activation(name: str) -> str:
        if not quantized:
            return name
        step = [tensor(f"{name}_scale", np.float32(0.03)), tensor(f"{name}_zero", np.int8(0))]
        return node("DequantizeLinear", [node("QuantizeLinear", [name, *step], f"{name}_q"), *step], f"{name}_dq")

    def weight(name: str, *shape: int) -> str:
        values = rng.normal(0, 0.2, shape).astype(kind)
        if not quantized:
            return tensor(name, values)
        scale = np.abs(values).reshape(shape[0], -1).max(axis=1) / 127
        integers = np.rint(values / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        zero = np.zeros(shape[0], np.int8)
        return node("DequantizeLinear", [tensor(f"{name}_i", integers), tensor(f"{name}_s", scale),
                                         tensor(f"{name}_z", zero)], name, axis=0)  # fmt: skip

    image = node("Cast", ["input"], "half", to=TensorProto.FLOAT16) if half else "input"
    spatial = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    bias = tensor("bias", np.full(16, 0.1, kind))
    first = node("Relu", [node("Conv", [activation(image), weight("w1", 16, 3, 3, 3), bias], "conv1", **spatial)], "r1")
    shortcut = activation(first)
    second = node("Conv", [shortcut, weight("w2", 16, 16, 3, 3), bias], "conv2", **spatial)
    joined = node("Relu", [node("Add", [second, shortcut], "add")], "r2")
    if unknown_operator:
        joined = node("NoSuchOperator", [joined], "the_culprit")
    flat = node("Flatten", [node("GlobalAveragePool", [joined], "pool")], "flat")
    fc = [activation(flat), weight("w3", 10, 16), tensor("bias3", np.zeros(10, kind))]
    gemm = node("Gemm", fc, "fc", transB=1)
    node("Cast" if half else "Identity", [gemm], "logits", **({"to": TensorProto.FLOAT} if half else {}))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# Real engines


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "int8"])
def test_rtx_builds_for_an_architecture_without_a_gpu(
    rtx: Any, tmp_path: Path, out: Path, quantized: bool, architecture: str
) -> None:
    model = tiny(tmp_path / "model", quantized=quantized)
    options = tensorrt_rtx.Options(compute_capabilities=(architecture,))
    metrics = tensorrt_rtx.build(options, out, model=model, images=tmp_path)
    engine = out / metrics["file"]
    assert metrics["precision"] == ("int8" if quantized else "fp32")
    assert metrics["size_bytes"] == engine.stat().st_size > 10_000
    assert metrics["sha256"] == file_digest(engine)
    assert metrics["compute_capabilities"] == [architecture]
    assert metrics["header_compute_capabilities"] == [architecture]  # where we read the header's mask from
    assert "MALFORMED_ENGINE" not in metrics["header_faults"]
    assert metrics["tf32"] is False
    assert metrics["strongly_typed"] is True


@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "int8"])
def test_rtx_builds_one_file_for_all_architectures(rtx: Any, tmp_path: Path, out: Path, quantized: bool) -> None:
    model = tiny(tmp_path / "model", quantized=quantized)
    metrics = tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=model, images=tmp_path)
    assert metrics["header_compute_capabilities"] == list(ARCHITECTURES)
    assert [path.name for path in out.iterdir()] == [metrics["file"]]


def test_rtx_says_what_precision_the_file_holds(rtx: Any, tmp_path: Path, out: Path) -> None:
    half = tiny(tmp_path / "model", half=True)
    assert tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=half, images=tmp_path)["precision"] == "fp16"


def test_rtx_header_check_sees_a_file_that_is_no_engine(rtx: Any) -> None:
    assert tensorrt_rtx.header_faults(rtx, b"not an engine" * 100) == ["MALFORMED_ENGINE"]
    assert tensorrt_rtx.in_header(rtx, b"not an engine" * 100) is None


def test_rtx_names_the_node_it_cannot_read(rtx: Any, tmp_path: Path, out: Path) -> None:
    model = tiny(tmp_path / "model", unknown_operator=True)
    with pytest.raises(ValueError, match=r"cannot read .*model\.onnx: node the_culprit \(NoSuchOperator\): ") as caught:
        tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=model, images=tmp_path)
    assert "\n" not in str(caught.value)


def test_rtx_says_which_architecture_refuses_what(rtx: Any, tmp_path: Path, out: Path) -> None:
    options = tensorrt_rtx.Options(compute_capabilities=("SM75", "SM89"))
    with pytest.raises(ValueError, match=r"cannot build .*SM75.*FP32 GEMM is not supported") as caught:
        tensorrt_rtx.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)
    assert "\n" not in str(caught.value)


def test_rtx_lists_the_architectures_it_knows(rtx: Any, tmp_path: Path, out: Path) -> None:
    options = tensorrt_rtx.Options(compute_capabilities=("SM1",))
    with pytest.raises(ValueError, match=r"unknown compute capability SM1; this version knows SM75, SM80, "):
        tensorrt_rtx.build(options, out, model=tiny(tmp_path / "model"), images=tmp_path)


@pytest.mark.skipif(hardware.gpu() is not None, reason="this machine has a GPU")
def test_rtx_load_without_a_gpu_is_a_value_error(rtx: Any, tmp_path: Path, out: Path) -> None:
    tensorrt_rtx.build(tensorrt_rtx.Options(), out, model=tiny(tmp_path / "model"), images=tmp_path)
    with pytest.raises(ValueError, match="cannot load the engine on no GPU"):
        tensorrt_rtx.load(out, 1)


# Old and new flags, on a stand-in that records what it is told


def stand_in(version: str) -> Any:
    """What `import tensorrt` gives, as far as _trt looks at it."""
    legacy = version.startswith("8.")
    trt = ModuleType("tensorrt")
    trt.__dict__.update(
        __version__=version,
        ILogger=type("ILogger", (), {}),
        NetworkDefinitionCreationFlag=type("Flag", (), {"EXPLICIT_BATCH": 0} if legacy else {"STRONGLY_TYPED": 1}),
        BuilderFlag=type("Flag", (), {"INT8": "INT8", "FP16": "FP16", "TF32": "TF32"} if legacy else
                         {"TF32": "TF32", "VERSION_COMPATIBLE": "VERSION_COMPATIBLE"}),
        ProfilingVerbosity=type("Verbosity", (), {"DETAILED": "DETAILED"}),
        MemoryPoolType=type("Pool", (), {"WORKSPACE": "WORKSPACE"}),
        Builder=MagicMock(), OnnxParser=MagicMock(), config=MagicMock(), network=MagicMock(),
    )  # fmt: skip
    if not legacy:
        trt.__dict__["HardwareCompatibilityLevel"] = type("Level", (), {"AMPERE_PLUS": "ampere"})
    builder = trt.Builder.return_value
    builder.create_builder_config.return_value = trt.config
    builder.create_network.return_value = trt.network
    trt.network.get_input.return_value = MagicMock(shape=(-1, 3, 16, 16))
    trt.network.get_input.return_value.name = "input"
    builder.build_serialized_network.return_value = b"engine"
    return trt


def flags(method: Any) -> list[Any]:
    return [call.args[0] for call in method.call_args_list]


@pytest.mark.parametrize(
    ("version", "quantized", "half", "network_flags", "set_flags"),
    [
        ("8.6.1", True, False, 1 << 0, ["INT8"]),
        ("8.6.1", False, True, 1 << 0, ["FP16"]),
        ("8.6.1", False, False, 1 << 0, []),
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
    assert metrics["strongly_typed"] is (version == "11.0.0")
    assert (out / metrics["file"]).read_bytes() == b"engine"
    trt.Builder.return_value.create_optimization_profile.return_value.set_shape.assert_called_once_with(
        "input", (1, 3, 16, 16), (1, 3, 16, 16), (64, 3, 16, 16)
    )


def test_tf32_is_left_on_when_asked(tmp_path: Path, out: Path) -> None:
    trt = stand_in("11.0.0")
    assert _trt.build(trt, _trt.Options(tf32=True), out, model=tiny(tmp_path / "model"))["tf32"] is True
    assert flags(trt.config.set_flag) == ["TF32"]


def test_a_build_that_gives_nothing_repeats_what_was_logged(tmp_path: Path, out: Path) -> None:
    trt = stand_in("8.6.1")

    def fail(network: Any, config: Any) -> None:
        error = MagicMock()
        error.name = "ERROR"
        _trt.logger(trt).log(error, "[pass.cpp:1: check] No room for\nconv1. In build at /_src/a.cpp:2")

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
    assert flags(trt.config.set_flag) == ["VERSION_COMPATIBLE"]
    assert trt.config.hardware_compatibility_level == "ampere"
    trt.config.create_timing_cache.assert_called_once_with(b"")
    assert (tmp_path / "cache").read_bytes() == b"times"
    assert metrics["version_compatible"] is True
    assert metrics["hardware_compatibility"] == "ampere_plus"


@pytest.mark.parametrize("option", [{"version_compatible": True}, {"hardware_compatibility": "ampere_plus"}])
def test_an_option_that_an_old_tensorrt_lacks_is_a_value_error(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in("8.5.2"))
    with pytest.raises(ValueError, match=r"TensorRT 8\.5\.2 has no \w+: take the option out"):
        tensorrt.build(tensorrt.Options(**option), out, model=tiny(tmp_path / "model"), images=tmp_path)


def test_batches_are_in_order() -> None:
    with pytest.raises(ValueError, match="expected, got 8, 4, 64"):
        _trt.Options(min_batch=8, opt_batch=4)


# Share of the work in INT8


def layer(node: str, datatype: str, kind: str = "CaskConvolution") -> dict[str, Any]:
    """A layer as the inspector of TensorRT 10 prints it, less what we do not read."""
    metadata = f"[ONNX Layer: {node}]\x1f[ONNX Layer: {node}_relu]"
    return {"LayerType": kind, "Inputs": [{"Format/Datatype": datatype}], "Metadata": metadata}


MACS = {"conv1": 300, "fc": 100}
INT8, FP32 = "Thirty-two wide channel vectorized row major Int8 format", "Row major linear FP32 format"


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        ([layer("conv1", INT8), layer("fc", INT8, "gemm")], 1.0),
        ([layer("conv1", INT8), layer("fc", FP32, "MatrixMultiply")], 0.75),
        ([layer("conv1", FP32, "Reformat"), layer("conv1", INT8), layer("fc", FP32, "gemm")], 0.75),
        ([layer("conv1", INT8), layer("conv1", FP32), layer("fc", FP32, "gemm")], None),
        ([layer("conv10", INT8), layer("fc", FP32, "gemm")], None),
        ([layer("conv1", "N/A due to dynamic shapes"), layer("fc", FP32, "gemm")], None),
        (["conv1 + relu1", "fc"], None),
        ([], None),
    ],
)
def test_share_is_told_only_where_every_node_is_found_once(layers: list[Any], share: float | None) -> None:
    assert _trt.share_of(layers, MACS) == share


@pytest.mark.parametrize("quantized", [False, True])
def test_macs_per_node(tmp_path: Path, quantized: bool) -> None:
    model = onnx.load(tiny(tmp_path / "model", quantized=quantized) / "model.onnx")
    pixels = 16 * 16
    assert _trt.macs_per_node(model) == {"conv1": pixels * 16 * 27, "conv2": pixels * 16 * 144, "fc": 160}


def test_share_of_nodes_without_names_is_unknown(tmp_path: Path) -> None:
    model = onnx.load(tiny(tmp_path / "model") / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Gemm").name = ""
    assert _trt.share_of([], _trt.macs_per_node(model)) is None


# What is missing here


def one_line(reason: str | None) -> str:
    assert reason
    assert "\n" not in reason
    return reason


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("tensorrt", tensorrt), ("tensorrt_rtx", tensorrt_rtx)):
        monkeypatch.setitem(sys.modules, name, None)
        assert "is not installed: pip install -e '.[tensorrt" in one_line(target.unavailable())
        assert target.platform()["version"] is None


def test_a_package_whose_libraries_are_missing_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10:\\n cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert "does not load (libnvinfer.so.10: cannot open): pip install" in one_line(tensorrt.unavailable())


def test_tensorrt_without_a_gpu_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in("10.16.0"))
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    assert "no NVIDIA GPU here" in one_line(tensorrt.unavailable())
    monkeypatch.setattr(hardware, "gpu", lambda: H200)
    assert tensorrt.unavailable() is None


def test_why_an_engine_cannot_run(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    for target in (tensorrt, tensorrt_rtx):
        assert "no NVIDIA GPU here" in one_line(target.cannot_run())
    monkeypatch.setattr(hardware, "gpu", lambda: H200)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "install a CUDA build" in one_line(tensorrt.cannot_run())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert tensorrt.cannot_run() is None
    assert "does not support H200 (compute capability 9.0)" in one_line(tensorrt_rtx.cannot_run())
    monkeypatch.setattr(hardware, "gpu", lambda: {**H200, "compute_capability": "8.9"})
    assert tensorrt_rtx.cannot_run() is None


class Driver:
    """libcuda with one H200, or with `status` != 0: a driver that finds no device."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"H200"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13000
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def absent(name: str) -> Any:
    raise OSError(name)


@pytest.mark.parametrize(
    ("library", "expected"), [(lambda name: Driver(), H200), (lambda name: Driver(100), None), (absent, None)]
)
def test_gpu_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch, library: Any, expected: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert hardware.gpu.__wrapped__() == expected

"""What a device with TensorRT gets to build from: two forms of the network, and what is to be built of them."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from calibration.observe import Calibrate, observe
from calibration.place import place_qdq
from core.digest import file_digest
from data.loader import Split
from export.onnx import Export, export_onnx
from export.targets import tensorrt
from export.targets._legacy import legacy
from models.checkpoint import save
from models.resnet import ResNet
from tests.conftest import Small
from tests.export.test_integers import KINDS
from tests.placements import TRT


def placed(kind: str, small: Small, folder: Path) -> Path:
    """A stage folder with the float32 Q/DQ file of a network: "resnet18", or a small one of `KINDS`."""
    model, onnx_, ranges = folder / "model", folder / "onnx", folder / "ranges"
    if kind == "resnet18":
        onnx_, ranges = small.onnx, small.ranges
    else:
        for path in (model, onnx_, ranges):
            path.mkdir()
        torch.manual_seed(0)
        save(ResNet(KINDS[kind]).eval(), KINDS[kind], model)
        export_onnx(Export(), onnx_, model=model, images=small.images)
        observe(Calibrate(images=32), ranges, model=onnx_, images=small.images)
    out = folder / "placed"
    out.mkdir()
    place_qdq(TRT, out, model=onnx_, ranges=ranges)
    return out


def integers_in(proto: onnx.ModelProto) -> set[str]:
    """The 8-bit constants that are dequantized, and not quantized in the graph."""
    eight_bits = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.INT8}
    return eight_bits & {node.input[0] for node in proto.graph.node}


def opset(proto: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in proto.opset_import if entry.domain == ""))


def answers(file: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0])


@pytest.mark.parametrize("kind", ["resnet18", "grouped", "split"])  # grouped: ResNeXt; split: Res2Net
def test_both_files_compute_the_logits_of_their_network(kind: str, small: Small, tmp_path: Path) -> None:
    model, out = placed(kind, small, tmp_path), tmp_path / "out"
    out.mkdir()
    metrics = tensorrt.prepare(tensorrt.Options(), out, model=model)
    assert metrics["notes"] == []
    assert metrics["file"] == "model.onnx" and metrics["sha256"] == file_digest(out / "model.onnx")
    assert metrics["precision"] == "int8" and metrics["int8_share"] is None

    modern, old = onnx.load(out / "model.onnx"), onnx.load(out / "legacy.onnx")
    assert opset(modern) >= 19
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in modern.graph.initializer)
    assert (opset(old), old.ir_version) == (17, 8)
    # TensorRT 8 has no constants of 8 bits, except the zero points, which are no tensors of the network.
    assert integers_in(modern) and not integers_in(old)
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in old.graph.initializer)
    for node in old.graph.node:
        assert onnx.defs.get_schema(node.op_type, 17, node.domain).since_version <= 17
    assert {entry.key for entry in old.metadata_props} == {"preprocess", "labels"}

    x = Split(small.images, "test").__getitems__(list(range(8)))[0].numpy()
    expected = answers(model / "model.onnx", x)
    np.testing.assert_array_equal(answers(out / "legacy.onnx", x), expected)
    # Rounding to float16 moves values across steps of INT8, and untrained networks do not average that out.
    np.testing.assert_allclose(answers(out / "model.onnx", x), expected, rtol=0, atol=0.2 * np.abs(expected).max())


def test_build_json_has_the_options_for_python_and_for_trtexec(small: Small, tmp_path: Path) -> None:
    model, out = placed("resnet18", small, tmp_path), tmp_path / "out"
    out.mkdir()
    options = tensorrt.Options(
        opt_batch=2, max_batch=8, workspace_mib=64, version_compatible=True, hardware_compatibility="ampere_plus",
        timing_cache=Path("somewhere/else.cache"),
    )  # fmt: skip
    metrics = tensorrt.prepare(options, out, model=model)
    plan = json.loads((out / "build.json").read_text())
    assert plan["image"] == [1, 32, 32]
    assert (
        plan["options"]["opt_batch"] == 2 and plan["options"]["timing_cache"] == "timing.cache"
    )  # paths here mean nothing there
    macs = json.loads((small.onnx / "manifest.json").read_text())["metrics"]["macs"]
    assert len(plan["macs"]) == 21 and sum(plan["macs"].values()) == macs  # 20 convolutions, one gemm
    assert plan["trtexec"].split() == [
        "--minShapes=input:1x1x32x32", "--optShapes=input:2x1x32x32", "--maxShapes=input:8x1x32x32", "--shapes=input:1x1x32x32",
        "--noTF32", "--memPoolSize=workspace:64", "--versionCompatible", "--timingCacheFile=timing.cache",
    ]  # fmt: skip
    assert plan["options"]["hardware_compatibility"] == "none"  # TensorRT for Jetson refuses it
    assert len(metrics["notes"]) == 1 and "leaves out hardware_compatibility" in metrics["notes"][0]
    assert {*tensorrt.ON_DEVICE, "build.json", "model.onnx", "legacy.onnx"} == {path.name for path in out.iterdir()}


def with_mish() -> onnx.ModelProto:
    """An operator that began with opset 18."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "logits")]
    graph = helper.make_graph([helper.make_node("Mish", ["input"], ["logits"], name="m")], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_network_that_has_no_older_form_is_prepared_without_it_and_that_is_said(tmp_path: Path) -> None:
    onnx.save(with_mish(), tmp_path / "model.onnx")
    out = tmp_path / "out"
    out.mkdir()
    metrics = tensorrt.prepare(tensorrt.Options(), out, model=tmp_path)
    assert not (out / "legacy.onnx").exists()
    assert len(metrics["notes"]) == 1 and "\n" not in metrics["notes"][0]
    assert "has no legacy.onnx" in metrics["notes"][0] and "Mish" in metrics["notes"][0]


def test_the_network_that_is_made_older_stays_as_it_was(small: Small) -> None:
    proto = onnx.load(small.onnx / "model.onnx")
    before = proto.SerializeToString()
    legacy(proto)
    assert proto.SerializeToString() == before

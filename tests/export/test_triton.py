"""config.pbtxt against Triton's own message definition, and engines that answer any batch alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from calibration.place import place_qdq
from data.loader import Split
from export import targets
from export.triton import Triton, quoted, serves, triton
from tests.conftest import Small
from tests.placements import placement_of


def parsed(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def finished(folder: Path, metrics: dict[str, Any]) -> Path:
    """The manifest that the pipeline writes when a build is done."""
    (folder / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    return folder


@pytest.fixture(scope="module")
def engine(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real one, of the onnxruntime target."""
    folder = tmp_path_factory.mktemp("engine")
    target = targets.get("onnxruntime")
    return finished(folder, target.build(target.Options(), folder, model=small.onnx, images=small.images))


def plan(folder: Path, batches: tuple[int, int, int]) -> Path:
    """What a build of TensorRT leaves, but for the content of the engine, which nothing here reads."""
    (folder / "model.engine").write_bytes(b"a plan")
    about = {"file": "model.engine", "sha256": "ab" * 32, "precision": "int8", "batches": batches, "runtime": "tensorrt 10.3.0"}
    return finished(folder, about)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_onnx_engines_are_served_with_dynamic_batches(target: str, small: Small, engine: Path, tmp_path: Path) -> None:
    triton(Triton(), tmp_path, engine=engine, images=small.images, target=target, name="resnet18")
    folder = tmp_path / "resnet18"
    config = parsed(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("resnet18", "onnxruntime", 32)
    (source,), (result,), (group,) = config.input, config.output, config.instance_group
    assert (source.name, source.data_type, list(source.dims)) == ("input", model_config_pb2.TYPE_FP32, [1, 32, 32])
    assert (result.name, result.data_type, list(result.dims)) == ("logits", model_config_pb2.TYPE_FP32, [10])
    assert config.HasField("dynamic_batching")
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 16, 32]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    accelerators = [one.name for one in config.optimization.execution_accelerators.cpu_execution_accelerator]
    assert accelerators == (["openvino"] if target == "openvino" else [])

    served = onnx.load(folder / "1" / "model.onnx")
    (given,), (answer,) = served.graph.input, served.graph.output
    assert (given.name, answer.name) == (source.name, result.name)
    assert not given.type.tensor_type.shape.dim[0].HasField("dim_value"), "a fixed batch cannot be batched"
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]] == list(source.dims)
    labels = (folder / result.label_filename).read_text(encoding="utf-8").splitlines()
    assert len(labels) == 10 and labels[9] == "Ankle boot"
    spec = Split(small.images, "test").spec
    assert json.loads((folder / "preprocess.json").read_text()) == spec
    assert json.dumps(spec) in (folder / "config.pbtxt").read_text()


def test_a_tensorrt_engine_has_its_own_largest_batch(small: Small, tmp_path: Path) -> None:
    config = Triton(max_batch_size=128, preferred=(2, 8, 64), max_queue_delay_us=250, instances=2)
    out = tmp_path / "triton"
    triton(config, out, engine=plan(tmp_path, (1, 4, 16)), images=small.images, target="tensorrt", name="resnet18-tensorrt")
    found = parsed(out / "resnet18-tensorrt")
    assert (found.backend, found.max_batch_size) == ("tensorrt", 16)
    assert list(found.dynamic_batching.preferred_batch_size) == [2, 8]
    assert found.dynamic_batching.max_queue_delay_microseconds == 250
    assert [(group.count, group.kind) for group in found.instance_group] == [(2, model_config_pb2.ModelInstanceGroup.KIND_GPU)]
    assert (out / found.name / "1" / "model.plan").read_bytes() == b"a plan"
    text = (out / found.name / "config.pbtxt").read_text()
    assert "tensorrt 10.3.0" in text


def test_an_engine_of_smaller_batches_than_all_preferred_ones_prefers_its_largest(small: Small, tmp_path: Path) -> None:
    engine = plan(tmp_path, (1, 6, 7))
    triton(Triton(preferred=(8,)), tmp_path, engine=engine, images=small.images, target="tensorrt", name="late")
    assert list(parsed(tmp_path / "late").dynamic_batching.preferred_batch_size) == [7]


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "größer 大", "two\nlines", "it's", "\\n 'x' # no comment"])
def test_names_survive_quoting(name: str, small: Small, engine: Path, tmp_path: Path) -> None:
    triton(Triton(), tmp_path, engine=engine, images=small.images, target="onnxruntime", name=name)
    assert parsed(tmp_path / name).name == name
    assert quoted(name).isascii() and "\n" not in quoted(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_is_no_folder_is_refused(name: str, small: Small, engine: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model name .*expected one that a folder can have"):
        triton(Triton(), tmp_path, engine=engine, images=small.images, target="onnxruntime", name=name)


def test_only_targets_with_a_backend_are_served() -> None:
    assert {name for name in targets.names() if serves(name)} == {"onnxruntime", "openvino", "tensorrt"}


def test_openvino_compiles_the_served_file_for_any_batch(small: Small, engine: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    triton(Triton(), tmp_path, engine=engine, images=small.images, target="openvino", name="any")
    file = tmp_path / "any" / "1" / "model.onnx"
    network = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = Split(small.images, "test").__getitems__(list(range(8)))[0].numpy()
    whole = np.array(network({0: x})[0])
    for size in (1, 3):
        np.testing.assert_allclose(np.array(network({0: x[:size]})[0]), whole[:size], atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("quantized", [False, True])
def test_engines_answer_every_batch_alike(target: str, quantized: bool, small: Small, tmp_path: Path) -> None:
    module = targets.get(target)
    if reason := module.unavailable() or module.cannot_run():
        pytest.skip(reason)
    model = small.onnx
    if quantized:
        model = tmp_path / "placed"
        model.mkdir()
        place_qdq(placement_of(target), model, model=small.onnx, ranges=small.ranges)
    (tmp_path / "engine").mkdir()
    module.build(module.Options(), tmp_path / "engine", model=model, images=small.images)
    run = module.load(tmp_path / "engine", 2)
    x = Split(small.images, "test").__getitems__(list(range(8)))[0].numpy()
    whole = run(x)
    assert whole.shape == (8, 10) and np.ptp(whole, axis=0).max() > 0.01, "different images, different answers"
    parts = [np.concatenate([run(x[i : i + size]) for i in range(0, 8, size)]) for size in (1, 3)]
    for part in parts:
        np.testing.assert_allclose(part, whole, atol=1e-4 * np.abs(whole).max())

"""The residual rule, over the graphs of the family: at every Add, TensorRT wants Q/DQ on the shortcut and on nothing else.

NVIDIA/TensorRT#1992; the same rule that Model-Optimizer's test_resnet_residual_connections checks.
"""

import json
from pathlib import Path

import onnx
import pytest
import torch
from onnx import NodeProto
from torch.fx.experimental.optimization import fuse

from calibration.place import place_qdq
from core.placement import Placement
from export.onnx import export
from models.resnet import ResNet, blocks_of, family_spec
from tests.calibration.conftest import narrow
from tests.placements import OPENVINO, ORT, RTX, TRT

ARCHS = ("resnet18", "resnet50", "resnet101", "resnext50_32x4d", "resnetv2_50", "resnet20")


@pytest.fixture(scope="module", params=ARCHS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder with model.onnx and ranges.json, and how many blocks the network has."""
    folder = tmp_path_factory.mktemp(request.param)
    network = ResNet(narrow(family_spec(request.param, num_classes=10, in_channels=1))).eval()
    export(fuse(network), torch.zeros(2, 1, 32, 32), folder / "model.onnx", 18, dynamo=False)
    tensors = [name for node in onnx.load(folder / "model.onnx").graph.node for name in node.output]
    (folder / "ranges.json").write_text(json.dumps({name: [-1.0, 1.0] for name in ["input", *tensors]}))
    return folder, sum(map(len, blocks_of(network)))


class Graph:
    def __init__(self, placement: Placement | None, folder: Path, out: Path) -> None:
        assert placement is not None
        place_qdq(placement, out, model=folder, ranges=folder)
        nodes = list(onnx.load(out / "model.onnx").graph.node)
        self.producers = {name: node for node in nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.adds = [node for node in nodes if node.op_type == "Add"]
        self.nodes = nodes

    def behind(self, name: str) -> NodeProto | None:
        """What computes `name`, seen through a Q/DQ pair; None for the image."""
        node = self.producers.get(name)
        while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            node = self.producers.get(node.input[0])
        return node

    def convolutions(self, name: str, until: str) -> int:
        """How many there are on the way back from `name` to the tensor `until`, along first inputs."""
        count = 0
        while name != until:
            node = self.producers[name]
            count += node.op_type == "Conv"
            name = node.input[0]
        return count

    def ancestors(self, name: str) -> list[str]:
        """The tensors on the way back from `name` along first inputs, nearest first."""
        found = [name]
        while found[-1] in self.producers:
            found.append(self.producers[found[-1]].input[0])
        return found


@pytest.mark.parametrize("placement", [TRT, RTX], ids=["tensorrt", "tensorrt_rtx"])
def test_only_the_shortcut_of_an_add_is_quantized(placement: Placement, exported: tuple[Path, int], tmp_path: Path) -> None:
    graph = Graph(placement, exported[0], tmp_path)
    assert len(graph.adds) == exported[1]
    shortcuts = set()
    for add in graph.adds:
        quantized = [name for name in add.input if graph.producers[name].op_type == "DequantizeLinear"]
        straight = [name for name in add.input if graph.producers[name].op_type != "DequantizeLinear"]
        assert len(quantized) == len(straight) == 1, add.name
        # The branch comes straight from its last convolution, and it is the longer way from where the two part.
        assert graph.producers[straight[0]].op_type == "Conv"
        back = graph.ancestors(straight[0])
        fork = next(name for name in graph.ancestors(quantized[0]) if name in back)
        assert graph.convolutions(quantized[0], fork) <= 1 < graph.convolutions(straight[0], fork)
        shortcuts.add(graph.producers[graph.producers[quantized[0]].input[0]].input[0])
    # No other convolution's output is quantized where it comes out: that would keep TensorRT from fusing what follows.
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" and (source := graph.producers.get(node.input[0])) is not None:
            assert source.op_type != "Conv" or node.input[0] in shortcuts
        if node.op_type == "Conv" and len(node.input) == 3:
            assert node.input[2] not in graph.producers  # never a dequantized bias


@pytest.mark.parametrize("placement", [ORT, OPENVINO], ids=["onnxruntime", "openvino"])
def test_cpus_add_in_integers(placement: Placement, exported: tuple[Path, int], tmp_path: Path) -> None:
    graph = Graph(placement, exported[0], tmp_path)
    assert len(graph.adds) == exported[1]
    for add in graph.adds:
        assert [graph.producers[name].op_type for name in add.input] == ["DequantizeLinear"] * 2
        result = add.output[0]
        following = graph.readers[result]
        if [node.op_type for node in following] == ["Relu"]:  # fused into the Add
            following = graph.readers[following[0].output[0]]
        kinds = {node.op_type for node in following}
        assert "QuantizeLinear" in kinds or kinds == {"BatchNormalization"}, add.name  # the norm before a resnetv2's pooling

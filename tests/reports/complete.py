"""A synthetic run with everything that report.html can show: layers, gradients, levels, rankings, distributions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from measure.gate import drop_of
from reports.run_folder import RECORD
from tests.reports.test_heat import METRICS

LAYERS = ["conv1", *(f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1)), "fc"]


def network(path: Path, widths: list[int], quantized: bool = False) -> None:
    """A chain of 1x1 convolutions and a linear layer named as in `LAYERS`; node i is "node_i", as an exporter names it."""
    nodes, weights, tensor, channels = [], [], "input", 3
    for i, (layer, width) in enumerate(zip(LAYERS[:-1], widths, strict=True)):
        weights.append(
            helper.make_tensor(f"{layer}.weight", TensorProto.FLOAT, [width, channels, 1, 1], [0.1] * width * channels)
        )
        source = tensor
        if quantized:
            nodes.append(helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"{tensor}/q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}/q", "scale", "zero"], [f"{tensor}/dq"]))
            source = f"{tensor}/dq"
        nodes.append(helper.make_node("Conv", [source, f"{layer}.weight"], [f"t{i}"], name=f"node_{i}"))
        tensor, channels = f"t{i}", width
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.weight"], ["logits"], name="node_fc"))
    weights.append(helper.make_tensor("fc.weight", TensorProto.FLOAT, [channels, 10], [0.1] * channels * 10))
    weights.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]))
    weights.append(helper.make_tensor("zero", TensorProto.UINT8, [], [0]))
    images = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "network", [images], [logits], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def complete(out: Path) -> Path:
    """Add all that to the run that `make_run` left in `out`."""
    stages = out / "stages"
    network(stages / "export_onnx-baseline" / "model.onnx", [16, 16, 16, 32, 32, 64, 64])
    network(stages / "export_onnx-student" / "model.onnx", [16, 8, 16, 16, 32, 16, 64])
    network(stages / "build-student-int8-onnxruntime" / "engine.onnx", [16, 8, 16, 16, 32, 16, 64], quantized=True)
    norms = [[0.5 / (epoch + 1) / (layer + 1) for layer in range(len(LAYERS))] for epoch in range(12)]
    norms[0][3] = None  # type: ignore[call-overload]
    (stages / "train" / "gradients.json").write_text(json.dumps({"layers": LAYERS, "epochs": norms}))
    changed(stages / "train", content="aa" * 32)
    changed(stages / "prune", content="bb" * 32, inputs={"model": "aa" * 32, "images": "cc" * 32})
    ranking = add_stage(out, "rank_layers onnxruntime")
    changed(add_stage(out, "sensitivity"), metrics=METRICS)
    (ranking / "rank_layers.json").write_text(json.dumps([["node_2", 0.04], ["node_fc", 0.01], ["node_0", 0.002]]))
    timed = json.loads((stages / "latency" / "manifest.json").read_text())["metrics"]
    for figures in timed["timed"].values():
        p50 = figures["p50"]
        turns = [p50 * (0.95 + 0.01 * i) for i in range(10)]
        figures |= {"quantiles": [0.9 * p50, 0.95 * p50, p50, 1.1 * p50, 1.2 * p50], "turns": turns, "spread": 0.09}
    timed["ratios"] = {name: {other: [0.9, 1.1] for other in timed["timed"]} for name in timed["timed"]}
    changed(stages / "latency", metrics=timed)
    run = json.loads((out / RECORD).read_text())
    right = np.arange(500) % 100 > 0
    drops = [drop_of(right, right & (np.arange(500) >= lost), 1.0) for lost in (2, 30)]
    run["levels"] = [
        {"name": f"{share}% of MACs", "share": share / 100, "macs": 1e7 * share, "epochs": 2.0, "drop": drop.model_dump()}
        for share, drop in zip((75, 50), drops, strict=True)
    ]
    (out / RECORD).write_text(json.dumps(run))
    return out


def changed(stage: Path, **values: Any) -> None:
    manifest = json.loads((stage / "manifest.json").read_text())
    (stage / "manifest.json").write_text(json.dumps({**manifest, **values}))


def add_stage(out: Path, name: str) -> Path:
    folder = out / "stages" / name.replace(" ", "-")
    folder.mkdir()
    manifest = {"name": name, "metrics": {}, "seconds": 1.0, "content": "dd" * 32, "inputs": {"model": "aa" * 32}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = json.loads((out / RECORD).read_text())
    run["stages"].append({"path": f"stages/{folder.name}", "cached": False, "name": name})
    (out / RECORD).write_text(json.dumps(run))
    return folder

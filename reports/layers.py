"""The ONNX files of baseline and student -> channels and MACs of every layer before and after, and which layers 8 bits reach.

Layers have the names of the network's modules, such as layer1.0.conv1, so that both files have the same layer at the same name.
"""

import json
from pathlib import Path

import onnx

from core.engine_name import EngineName
from core.graph import WORK, producers_of, work_of
from measure.verdict import Part
from reports.axis import Axis, linear
from reports.run_folder import RunRecord, TargetResult


class Layer(Part):
    """A convolution or linear layer. `before` and `after` are its output channels, `macs_before` and `macs_after` its
    multiply-accumulates for one image; 0 where the network does not have it.

    placed   whether its input is rounded to 8 bits in the file of the engine; None if that file is unknown
    damage   KL divergence of the logits in nats per image when this layer alone has 8 bits; None if it was not measured
    """

    name: str
    before: int
    after: int
    macs_before: int
    macs_after: int
    placed: bool | None
    damage: float | None

    @property
    def stage(self) -> str:
        return self.name.split(".")[0]


class StageMacs(Part):
    """The sum over the layers of a stage of the network: layer1 to layer4 of a ResNet, and its first and last layer."""

    name: str
    layers: int
    before: int
    after: int


class Layers(Part):
    """`engine`: the one that `placed` and `damage` are of; None if no engine could ship. `axis`: of the channels."""

    engine: str | None
    layers: list[Layer]
    stages: list[StageMacs]
    axis: Axis
    most_macs: int
    worst_damage: float | None

    @property
    def starts(self) -> list[tuple[str, float, float]]:
        """Every stage with the share of the layers before it and that of its own, in percent."""
        found, done = [], 0
        for stage in self.stages:
            found.append((stage.name, 100 * done / len(self.layers), 100 * stage.layers / len(self.layers)))
            done += stage.layers
        return found


def layers_of(run: RunRecord, target: str | None) -> Layers | None:
    """The layers of the baseline and of the candidate on `target`. None if there is no candidate or its file is missing."""
    result = next((result for result in run.targets if result.target == target), None)
    name = result.candidate if result else None
    if result is None or name is None or name.variant not in run.students:
        return None
    files = [artifact.path / "model.onnx" for artifact in (run.baseline, run.exported(name))]
    if not all(file.exists() for file in files):
        return None
    before, after = (work_in(file) for file in files)
    placed, damage = placed_in(result, name), ranked(run, result)
    layers = []
    for layer in sorted(before.keys() | after.keys(), key=[*before, *after].index):
        _, old, old_macs = before.get(layer, ("", 0, 0))
        node, new, new_macs = after.get(layer, ("", 0, 0))
        layers.append(
            Layer(name=layer, before=old, after=new, macs_before=old_macs, macs_after=new_macs, placed=placed.get(node),
                  damage=damage.get(node))
        )  # fmt: skip
    if not layers:
        return None
    stages = stages_of(layers)
    return Layers(
        engine=str(name),
        layers=layers,
        stages=stages,
        axis=linear([0, *(max(layer.before, layer.after) for layer in layers)]),
        most_macs=max(max(stage.before, stage.after) for stage in stages),
        worst_damage=max((layer.damage for layer in layers if layer.damage is not None), default=None),
    )


def work_in(file: Path) -> dict[str, tuple[str, int, int]]:
    """{layer: its node, its output channels, its MACs}, in the order of the graph."""
    proto = onnx.load(file)
    weights = {node.name: node.input[1] for node in proto.graph.node if node.op_type in WORK}
    return {weights[node].removesuffix(".weight"): (node, *work) for node, work in work_of(proto).items()}


def stages_of(layers: list[Layer]) -> list[StageMacs]:
    return [
        StageMacs(
            name=name,
            layers=sum(layer.stage == name for layer in layers),
            before=sum(layer.macs_before for layer in layers if layer.stage == name),
            after=sum(layer.macs_after for layer in layers if layer.stage == name),
        )
        for name in dict.fromkeys(layer.stage for layer in layers)
    ]


def placed_in(result: TargetResult, name: EngineName) -> dict[str, bool]:
    """{node: whether it reads 8-bit values} in the file of the engine, if this is ONNX."""
    engine = result.engines.get(name)
    file = engine.path / str(engine.metrics["file"]) if engine else None
    if file is None or file.suffix != ".onnx" or not file.exists():
        return {}
    proto = onnx.load(file)
    producers = producers_of(proto)
    inputs = {node.name: producers.get(node.input[0]) for node in proto.graph.node if node.op_type in WORK}
    return {node: source is not None and source.op_type == "DequantizeLinear" for node, source in inputs.items()}


def ranked(run: RunRecord, result: TargetResult) -> dict[str, float]:
    """{node: KL divergence} of the last ranking for the target; nothing if the recovery ladder was not climbed."""
    stages = [stage for stage in run.stages if stage.manifest["name"] == f"rank_layers {result.target}"]
    file = stages[-1].path / "rank_layers.json" if stages else None
    return dict(json.loads(file.read_text())) if file and file.exists() else {}

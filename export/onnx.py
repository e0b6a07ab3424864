"""model -> model.onnx: batch norm folded, dynamic batch, compared with PyTorch on real images.

Input "input" float32 [batch, C, H, W]; output "logits" float32 [batch, classes]. Preprocessing and labels are in the
metadata of the file.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from core.config import Config
from core.ort import open_session
from core.text import first_line
from data.loader import Split, batches
from models.checkpoint import load
from models.cost import cost


class Export(Config):
    """`tolerance` is the largest difference of any logit to PyTorch's, as a share of the largest logit."""

    opset: int = 18
    check_images: int = 16
    tolerance: float = 1e-3


def export_onnx(config: Export, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """Export `model`.

    Raises ValueError when the logits differ from PyTorch's at batch 1 or N, when no exporter works, and when a weight is not a
    finite number after its batch norm was folded in.
    """
    network, spec = load(model)
    split = Split(images, "train")
    x, _ = next(batches(split, config.check_images, limit=config.check_images))
    folded = fuse(network)
    check_finite(folded)
    path = out / "model.onnx"
    # The dynamo exporter has broken ResNets before (pytorch#169178, #166797, #157621), so the results of both are checked.
    problems = []
    for exporter in ("dynamo", "torchscript"):
        try:
            export(folded, x, path, config.opset, dynamo=exporter == "dynamo")
            worst = largest_difference(path, network, x)
        except Exception as error:  # both exporters raise errors of many types
            problems.append(f"{exporter}: {type(error).__name__}: {first_line(error)}")
            continue
        if worst <= config.tolerance:
            break
        problems.append(f"{exporter}: differs from PyTorch by {worst:.2g} of the largest logit, above {config.tolerance:g}")
    else:
        raise ValueError(f"{spec.arch} cannot be exported to ONNX ({'; '.join(problems)}): try another --set export.opset=…")
    metadata = {
        "preprocess": json.dumps(split.spec),
        "labels": json.dumps(split.dataset["classes"], ensure_ascii=False),
    }
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, path)
    return {
        **cost(network, split.dataset["input_shape"]),
        "exporter": exporter,
        "largest_difference": worst,
        "checked_batches": [1, len(x)],
    }


def check_finite(folded: nn.Module) -> None:
    """Raises ValueError with the first layer that holds NaN or an infinity: weights, or what folding its batch norm made."""
    for name, tensor in folded.state_dict().items():
        count = int((~torch.isfinite(tensor)).sum())
        if count:
            raise ValueError(
                f"layer {name.rpartition('.')[0]} has {count:,} values of {name} that are NaN or infinite after batch norm was "
                "folded in, expected finite numbers: check its weights and its batch norm's running_var"
            )


def export(model: nn.Module, x: Tensor, path: Path, opset: int, dynamo: bool) -> None:
    dynamic: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
        if dynamo
        else {"dynamic_axes": {"input": {0: "batch"}, "logits": {0: "batch"}}}
    )
    with warnings.catch_warnings(), quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # both exporters warn about their own internals
        torch.onnx.export(
            model, (x,), path, opset_version=opset, input_names=["input"], output_names=["logits"],
            dynamo=dynamo, verbose=False, **dynamic,
        )  # fmt: skip
    # Here and not above, because a cached run does not need it: so it is with scipy.stats in measure/.
    import onnx_ir as ir
    from onnx_ir.passes.common import IdentityEliminationPass

    # torchscript shares equal constants through Identity nodes; a weight is only found without these.
    onnx.save(ir.to_proto(IdentityEliminationPass()(ir.from_proto(onnx.load(path))).model), path)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Show only errors of the logger `name`: the exporter warns about every torchvision operator that is not installed."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def largest_difference(path: Path, network: nn.Module, x: Tensor) -> float:
    """The largest difference of any logit at batch 1 and batch N, as a share of the largest logit."""
    session = open_session(path)
    with torch.inference_mode():
        expected = network(x).numpy()
    got = session.run(None, {"input": x.numpy()})[0]
    single = session.run(None, {"input": x[:1].numpy()})[0]
    return float(max(np.abs(got - expected).max(), np.abs(single - expected[:1]).max()) / np.abs(expected).max())

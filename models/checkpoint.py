"""Checkpoints: our own (spec JSON + safetensors) and the ones users bring (.pt .pth .safetensors, torchvision keys).

Nothing is unpickled: torch files are read with `weights_only=True`.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.resnet import BLOCKS, ResNet, Spec, family_spec
from pipeline.config import Config

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")


def save(model: ResNet, spec: Spec, folder: Path) -> None:
    """Write `model.json` and `model.safetensors` into `folder`."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.json").write_text(spec.model_dump_json(indent=1))


def load_spec(folder: Path) -> Spec:
    """The spec that `save` left in `folder`."""
    return Spec.model_validate_json((folder / "model.json").read_text())


def load(folder: Path) -> tuple[ResNet, Spec]:
    """Rebuild what `save` left in `folder`, in evaluation mode."""
    spec = load_spec(folder)
    model = ResNet(spec)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), spec


class Load(Config):
    """`arch` is what the user says the checkpoint is."""

    arch: str


def load_checkpoint(config: Load, out: Path, *, checkpoint: Path, images: Path) -> dict[str, Any]:
    """A user's checkpoint file -> model.json, model.safetensors.

    Raises ValueError when the file does not hold what MODEL says, or not for these images.
    """
    model, spec = read_user_checkpoint(checkpoint, config.arch)
    dataset = json.loads((images / "dataset.json").read_text())
    classes, channels = len(dataset["classes"]), dataset["input_shape"][0]
    if (spec.num_classes, spec.in_channels) != (classes, channels):
        raise ValueError(
            f"{checkpoint} has {spec.num_classes} classes and {spec.in_channels} input channels; "
            f"DATA {dataset['name']} has {classes} and {channels}: pass the data it was trained on"
        )
    save(model, spec, out)
    return {"spec": spec.model_dump(exclude={"widths"})}


def read_user_checkpoint(path: Path, arch: str) -> tuple[ResNet, Spec]:
    """Build the network that the user's file holds and load its weights.

    Class count, input channels, stem and depth are read from the weights. Raises ValueError when the file cannot be
    read, when it holds another architecture than `arch`, or when keys are missing, unexpected or mis-shaped.
    """
    state = unwrap(read_tensors(path), path)
    found = architecture_of(state)
    if found != arch:
        raise ValueError(f"{path} holds {found or 'no ResNet of this family'}; MODEL says {arch}: pass the matching MODEL")
    weight, head = state["conv1.weight"], state["fc.weight"]
    spec = family_spec(
        arch,
        num_classes=head.shape[0],
        in_channels=weight.shape[1],
        stem="imagenet" if weight.shape[-1] == 7 else "small",
    )
    model = ResNet(spec)
    check_keys(model.state_dict(), state, path)
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()})
    return model.eval(), spec


def read_tensors(path: Path) -> Any:
    """The content of a checkpoint file; ValueError when it is missing or is not a plain tensor file."""
    if not path.is_file():
        raise ValueError(
            f"checkpoint {path} does not exist; pass CHECKPOINT=file (.pt, .pth or .safetensors), or none to train one"
        )
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file ({error}); save it again") from error
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"checkpoint {path} ends in {path.suffix!r}; expected .pt, .pth or .safetensors")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for files it cannot read
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ValueError(
            f"{path} cannot be read as plain tensors ({reason}); save it again with torch.save(model.state_dict(), file)"
        ) from error


def unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict inside the usual wrappers, without the usual prefixes."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state_dict; expected tensors by name, or one of the wrappers {', '.join(WRAPPERS)}")
    state = {str(name): t for name, t in content.items() if isinstance(t, Tensor)}
    pattern = re.compile("^(" + "|".join(re.escape(p) for p in PREFIXES) + ")+")
    return {pattern.sub("", name): t for name, t in state.items()}


def architecture_of(state: dict[str, Tensor]) -> str | None:
    """The family member whose blocks `state` has, or None."""
    if "conv1.weight" not in state or "fc.weight" not in state:
        return None
    depths = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4))
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    return next((arch for arch, layout in BLOCKS.items() if layout == (block, depths)), None)


def check_keys(expected: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    """ValueError naming every missing, unexpected or mis-shaped key (the first few of each)."""
    problems = {
        "missing": [k for k in expected if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in expected],
        "mis-shaped": [
            f"{k} {list(state[k].shape)} for {list(expected[k].shape)}"
            for k in expected
            if k in state and state[k].shape != expected[k].shape
        ],
    }
    told = "; ".join(f"{kind}: {', '.join(keys[:5])}{' …' if len(keys) > 5 else ''}" for kind, keys in problems.items() if keys)
    if told:
        raise ValueError(f"{path} does not fit ({told}); expected torchvision's keys")
    broken = [k for k, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise ValueError(
            f"{path} has NaN or infinite weights in {', '.join(broken[:5])}; expected finite numbers: save a healthy epoch"
        )
    for key in expected:
        if key not in state:  # old checkpoints have no num_batches_tracked
            state[key] = expected[key]

"""Networks on disk: our own format (spec JSON + safetensors), and the conversion of users' checkpoint files to it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.config import Config
from models import custom
from models.class_names import class_names
from models.custom import Custom, is_custom
from models.initial_lr import initial_lr
from models.read import read_content
from models.resnet import ResNet, Shortcut, Spec, Stem, family_spec, spec_of
from models.sidecar import LABELS, beside, preprocessing
from models.user import EPS, read_user

AnySpec = Spec | Custom
ASSUMED = (
    "No preprocess.json, preprocessor_config.json or timm config.json next to the checkpoint: the default preprocessing of "
    "this model was used, except for what the flags set."
)


def save(model: nn.Module, spec: AnySpec, folder: Path) -> None:
    """Write `model.json` and `model.safetensors` into `folder`."""
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.json").write_text(spec.model_dump_json(indent=1))


def load_spec(folder: Path) -> AnySpec:
    """The spec that `save` wrote into `folder`."""
    content = json.loads((folder / "model.json").read_text())
    return Custom(**content) if is_custom(content["arch"]) else Spec(**content)


def load(folder: Path) -> tuple[nn.Module, AnySpec]:
    """Rebuild the network that `save` wrote into `folder`, in evaluation mode."""
    spec, state = load_spec(folder), load_file(folder / "model.safetensors")
    return made_of(spec, state), spec


def made_of(spec: AnySpec, state: dict[str, Tensor]) -> nn.Module:
    """The network of `spec` with the weights `state`, in evaluation mode."""
    if isinstance(spec, Custom):
        return custom.rebuild(spec, state)
    model = ResNet(spec)
    model.load_state_dict(state)
    return model.eval()


def respecified(model: nn.Module, spec: AnySpec) -> AnySpec:
    """The spec of `model` after its channels changed."""
    return spec_of(model, spec) if isinstance(spec, Spec) and isinstance(model, ResNet) else spec


def rebuilt(model: nn.Module, spec: AnySpec) -> nn.Module:
    """The network that `load` would return for `model` if it were saved."""
    return made_of(respecified(model, spec), model.state_dict())


def classifier(model: nn.Module, spec: AnySpec) -> nn.Module:
    """The layer that computes the logits: `fc` of a ResNet, otherwise the last layer with as many outputs as classes.

    Raises ValueError if there is none.
    """
    if isinstance(model, ResNet):
        return model.fc
    wanted = spec.num_classes
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and m.weight.shape[0] == wanted]
    if not layers:
        raise ValueError(f"MODEL {spec.arch} has no linear layer or convolution with {wanted} outputs; expected a classifier")
    return layers[-1]


def untrained(
    arch: str, num_classes: int, in_channels: int, stem: Stem | None = None, shortcut: Shortcut | None = None
) -> tuple[nn.Module, AnySpec]:
    """The network `arch` with new weights; a user's own network keeps the initialisation of its factory.

    Raises ValueError if it is unknown, or if a user's factory does not give that many classes and channels.
    """
    if not is_custom(arch):
        known = family_spec(arch, num_classes=num_classes, in_channels=in_channels, stem=stem, shortcut=shortcut)
        return ResNet(known), known
    model = custom.create(arch, num_classes=num_classes, in_channels=in_channels)
    found = custom.describe(arch, model)
    if (found.num_classes, found.in_channels) != (num_classes, in_channels):
        raise ValueError(
            f"MODEL {arch} has {found.num_classes} classes and {found.in_channels} input channels; the data has {num_classes} "
            f"and {in_channels}: let the factory take num_classes and in_channels"
        )
    return model, found


class Load(Config):
    """`arch` and `stem` are the user's MODEL and --stem; `source` the digest of a custom network's code.

    `bn_eps` is the batch norms' epsilon, which a state_dict does not have. PyTorch's default is 1e-5, TensorFlow's 1e-3.
    """

    arch: str
    source: str | None = None
    stem: Stem | None = None
    bn_eps: float = Field(default=EPS, gt=0, lt=1)


def load_checkpoint(config: Load, out: Path, *, checkpoint: Path) -> dict[str, Any]:
    """A user's checkpoint file and the files next to it -> model.json, model.safetensors, preprocess.json, labels.txt.

    Without a labels.txt, class_names.json has the names that the checkpoint or another file next to it states.
    Raises ValueError if the file does not contain the network MODEL.
    """
    spec, state, prepared, notes = read_user(checkpoint, config.arch, config.bn_eps)
    if config.stem and isinstance(spec, Spec) and spec.stem != config.stem:
        raise ValueError(
            f"{checkpoint} has the stem {spec.stem!r} and --stem says {config.stem}; leave out --stem: a checkpoint's stem "
            "is read from its weights"
        )
    save(made_of(spec, state), spec, out)
    known = preprocessing(checkpoint, spec.arch, getattr(spec, "stem", "imagenet"))
    if not known["given"]:
        notes = [*notes, ASSUMED]
    known["given"] = prepared | known["given"]
    (out / "preprocess.json").write_text(json.dumps(known))
    content = read_content(checkpoint)
    if LABELS in (found := beside(checkpoint)):
        shutil.copy(found[LABELS], out / LABELS)
    elif stated := class_names(content, checkpoint):
        (out / "class_names.json").write_text(json.dumps(asdict(stated)))
        notes = [*notes, f"The order of the classes is that of {stated.source}."]
    about = spec.model_dump(exclude={"widths"})
    return {"spec": about, "beside": sorted(found), "initial_lr": initial_lr(content), "notes": notes}

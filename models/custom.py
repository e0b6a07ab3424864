"""A user's own network, MODEL=package.module:factory: built by calling the factory, rebuilt with the channels of its weights.

Nothing is pickled: model.json names the factory, so the package must be importable wherever the network is loaded.
"""

import hashlib
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from core.config import Config
from core.text import first_line

WANTED = "expected a callable that returns the torch.nn.Module, such as MODEL=my_package.my_module:my_network"
SIDES = (224, 32, 64, 96, 128, 256, 299, 384)  # pixels; a network may take only one of them


class Custom(Config):
    """`arch` is "package.module:factory"; `source` the digest of its code, so that the cache notices changes."""

    arch: str
    source: str
    in_channels: int = 3
    num_classes: int = 1000


def is_custom(arch: str) -> bool:
    return ":" in arch


def source_of(arch: str) -> str:
    """SHA-256 over the Python files of the factory's package, or of the folder that its single module lies in.

    Raises ValueError when there is no such module.
    """
    module = arch.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # finding a submodule runs its package
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"MODEL {arch}: {reason}; {WANTED}, importable from this folder or PYTHONPATH") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise ValueError(f"MODEL {arch}: there is no module {module!r} in this folder or on PYTHONPATH; {WANTED}")
    file, depth = Path(spec.origin), module.count(".") + (spec.submodule_search_locations is not None)
    files = file.parents[depth - 1].rglob("*.py") if depth else file.parent.glob("*.py")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0".encode(errors="surrogateescape") + path.read_bytes())
    return digest.hexdigest()


def create(arch: str, **arguments: int) -> nn.Module:
    """Call the factory with those of `arguments` (num_classes, in_channels) that its signature takes; evaluation mode.

    Raises ValueError if it cannot be imported or called, or if torch.fx cannot trace the network that it returns.
    """
    module, _, name = arch.partition(":")
    source_of(arch)
    try:
        factory = getattr(importlib.import_module(module), name)
        model = factory(**accepted(factory, arguments))
    except Exception as error:  # anything can happen in a user's code
        raise ValueError(f"MODEL {arch} raised {type(error).__name__}: {first_line(error)}; {WANTED}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"MODEL {arch} returned a {type(model).__name__}; {WANTED}")
    try:
        fx.symbolic_trace(model)
    except Exception as error:  # the traced code may raise anything
        raise ValueError(
            f"MODEL {arch} cannot be traced by torch.fx ({type(error).__name__}: {first_line(error)}); expected a network "
            "whose forward does not branch on the values or shapes of tensors"
        ) from error
    return model.eval()


def accepted(factory: Any, arguments: dict[str, int]) -> dict[str, int]:
    """Those of `arguments` that `factory` takes, under its names for them; timm's in_chans is the same as in_channels."""
    parameters = inspect.signature(factory).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {}
    for name, value in arguments.items():
        names = [name, "in_chans"] if name == "in_channels" else [name]
        known = next((n for n in names if n in parameters), None)
        if known is not None or (anything and name == "num_classes"):
            given[known or name] = value
    return given


def describe(arch: str, model: nn.Module) -> Custom:
    """The spec of `model`: the input channels of its first convolution, and the classes of its output for an image of zeros.

    Raises ValueError if it has no convolution or does not return [N, classes].
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise ValueError(f"MODEL {arch} has no convolution; expected a classifier of images")
    refusals = []
    for side in SIDES:
        try:
            with torch.inference_mode():
                logits = model(torch.zeros(1, first.in_channels, side, side))
        except Exception as error:
            refusals.append(f"{type(error).__name__}: {first_line(error)}")
            continue
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"MODEL {arch} returns {shape}; expected logits [N, classes]")
        return Custom(arch=arch, source=source_of(arch), in_channels=first.in_channels, num_classes=logits.shape[1])
    raise ValueError(
        f"MODEL {arch} accepts no image of {', '.join(map(str, SIDES))} pixels ({refusals[0]}); expected float32 [N, C, H, W]"
    )


def rebuild(spec: Custom, state: dict[str, Tensor]) -> nn.Module:
    """The network of `spec` with the channels that `state` has, its weights loaded."""
    model = create(spec.arch, num_classes=spec.num_classes, in_channels=spec.in_channels)
    fit_channels(model, state)
    model.load_state_dict(state)
    return model.eval()


def fit_channels(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give convolutions, batch norms and linear layers the shapes of the tensors in `state`."""
    for name, module in model.named_modules():
        tensors = {key: state.get(f"{name}.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
        weight = tensors["weight"]
        if weight is None or not isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            continue
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            module.groups = weight.shape[0] if depthwise else module.groups
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        else:
            module.num_features = weight.shape[0]
        for key, tensor in tensors.items():
            own = getattr(module, key, None)
            if tensor is not None and own is not None and own.shape != tensor.shape:
                empty = torch.empty_like(tensor, dtype=own.dtype)
                setattr(module, key, nn.Parameter(empty) if isinstance(own, nn.Parameter) else empty)

"""Are the images preprocessed as in training? The first batch norm of the checkpoint has the statistics of its training inputs.

A few dozen training images, preprocessed correctly, give nearly the same mean and variance; a wrong mean, scale or colour
order changes them. If they differ, the usual preprocessings are tried and the best one is named. Networks without such
statistics are judged by the labels of these images.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from core.config import Config
from data import preprocess
from data.loader import Split
from data.preprocess import Spec
from measure.knowledge import sign_test
from measure.preprocessings import flags, inputs, other_sizes, other_values
from models.checkpoint import load
from models.resnet import ResNet

# Lost overlap. With the preprocessing of their training, networks lost at most 0.011, most of them 0.002.
LIMIT = 0.02
BETTER = 3.0  # another preprocessing must divide the lost overlap by this factor
FAR = 0.3  # a checkpoint that loses more was hardly trained on such inputs
SIGNIFICANCE = 0.05
SIDES = (32, 64, 128, 224)


class Fit(Config):
    """`images`: the number of training images for the statistics."""

    images: int = Field(default=64, gt=1)


@dataclass(frozen=True)
class Tried:
    """A network and the images that preprocessings are tried on; `labels` [N] are -1 for unlabelled images."""

    network: nn.Module
    pictures: Sequence[Image.Image]
    labels: Tensor

    @property
    def labelled(self) -> bool:
        return bool((self.labels >= 0).all())

    @torch.inference_mode()
    def right(self, spec: Spec) -> Tensor:
        """bool [N]: which of the images the network classifies correctly."""
        logits: Tensor = self.network(inputs(self.pictures, spec))
        return logits.argmax(1) == self.labels

    def lost(self, spec: Spec) -> float | None:
        return lost_overlap(self.network, inputs(self.pictures, spec))


def check_preprocess(config: Fit, out: Path, *, model: Path, images: Path) -> dict[str, Any]:
    """model.safetensors and training images -> fit.json: {"advice": the flags that fit far better, null if there are none}."""
    split = Split(images, "train")
    chosen = np.random.default_rng(0).permutation(len(split))[: config.images].tolist()
    shown = [split.readable(i) for i in chosen]
    chosen = [i for i, _ in shown]
    tried = Tried(load(model)[0], [image for _, image in shown], torch.from_numpy(split.labels[chosen]))
    lost = tried.lost(split.spec)
    advice = by_statistics(tried, split.spec, lost) if lost is not None and lost > LIMIT else None
    if advice is None and tried.labelled:
        advice = by_rotation(tried, split, chosen)
    if advice is None and tried.labelled and (lost is None or lost > FAR):
        advice = by_labels(tried, split.spec)
    notes = []
    if advice is not None:
        notes.append(f"The images are not preprocessed as in the training of the checkpoint: {advice}.")
    elif lost is not None and lost > FAR and not (tried.labelled and bool(tried.right(split.spec).all())):
        notes.append(
            f"The images do not fit the statistics of the checkpoint's first batch norm (overlap {percent(1 - lost)}), and no "
            "usual preprocessing fits far better: check --mean, --std, --input-size and whether it was trained on such images."
        )
    (out / "fit.json").write_text(json.dumps({"advice": advice}))
    return {"lost_overlap": lost, "notes": notes}


def by_statistics(tried: Tried, spec: Spec, lost: float) -> str | None:
    """The preprocessing whose statistics fit far better than those of `spec`; None if `spec` gets more labels right."""
    best, least = least_lost(tried, other_values(tried.pictures, spec))
    sized, less = least_lost(tried, other_sizes(best, SIDES if isinstance(tried.network, ResNet) else ()))
    if BETTER * less < least:  # the first layer hardly depends on the size, so another size must itself be far better
        best, least = sized, less
    if BETTER * least >= lost:
        return None
    now = percent(1 - lost)
    found = f"{flags(best, spec)} fits its first batch norm far better (overlap {percent(1 - least)} instead of {now}"
    if not tried.labelled:
        return f"{found})"
    used, other = int(tried.right(spec).sum()), int(tried.right(best).sum())
    if used > other or used == len(tried.labels):
        return None
    return f"{found}; {other} instead of {used} of {len(tried.labels)} training images are right)"


def least_lost(tried: Tried, specs: Iterable[Spec]) -> tuple[Spec, float]:
    found = [(spec, tried.lost(spec)) for spec in specs]
    return min(((spec, lost) for spec, lost in found if lost is not None), key=lambda pair: pair[1])


def by_labels(tried: Tried, spec: Spec) -> str | None:
    """The preprocessing that gets the most training images right, if they are significantly more than with `spec`."""
    used = tried.right(spec)
    if bool(used.all()):
        return None
    others = [(tried.right(one), one) for one in other_values(tried.pictures, spec)]
    other, best = max(others, key=lambda pair: int(pair[0].sum()))
    if sign_test(other.numpy(), used.numpy()) > SIGNIFICANCE:
        return None
    n = len(used)
    return f"with {flags(best, spec)}, {int(other.sum())} instead of {int(used.sum())} of {n} training images are right"


def by_rotation(tried: Tried, split: Split, chosen: Sequence[int]) -> str | None:
    """The other treatment of EXIF rotations, if significantly more of the `chosen` training images are right with it."""
    if split.dataset["kind"] == "array":
        return None
    other = "apply" if split.spec["exif"] == "ignore" else "ignore"
    pictures = [preprocess.load(split.files[i], {**split.spec, "exif": other}) for i in chosen]
    if all(one.size == two.size and one.tobytes() == two.tobytes() for one, two in zip(pictures, tried.pictures, strict=True)):
        return None
    used, turned = (replace(tried, pictures=p).right(split.spec) for p in (tried.pictures, pictures))
    if sign_test(turned.numpy(), used.numpy()) > SIGNIFICANCE:
        return None
    return f"with --exif {other}, {int(turned.sum())} instead of {int(used.sum())} of {len(used)} training images are right"


class Reached(Exception):
    """The first batch norm has its input."""


@torch.inference_mode()
def lost_overlap(network: nn.Module, x: Tensor) -> float | None:
    """1 - the overlap of the first batch norm's inputs with its running statistics, mean over the channels: 0 … 1.

    Channels that still have the initial statistics (mean 0, variance 1) do not count; None if most channels have them.
    """
    seen: list[tuple[nn.BatchNorm2d, Tensor]] = []

    def reach(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        seen.append((module, arguments[0]))
        raise Reached

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    hooks = [norm.register_forward_pre_hook(reach) for norm in norms]
    try:
        network(x)
    except Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    norm, activations = seen[0]
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    trained = (mean != 0) | (var != 1)
    lost = 1 - overlaps(activations.mean((0, 2, 3)), activations.var((0, 2, 3)) + norm.eps, mean, var + norm.eps)
    return float(lost[trained].mean()) if 2 * int(trained.sum()) >= len(trained) else None


def overlaps(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor) -> Tensor:
    """Bhattacharyya's coefficient of two normal distributions, per channel: 1 if they are equal, 0 if they do not overlap."""
    total = var + other_var
    distance = (mean - other_mean) ** 2 / (4 * total) + torch.log(total / (2 * (var * other_var).sqrt())) / 2
    return torch.exp(-distance)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"

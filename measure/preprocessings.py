"""The usual preprocessings, as changes of one preprocessing spec, and the flags that select them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data import preprocess
from data.preprocess import Spec
from data.spec import CROP_PCT, IMAGENET

UNIT = round(1 / 255, 8)  # the standard deviation that keeps pixels in the range 0 … 255
# (mean, std): ImageNet's, CIFAR-10's, -1 … 1, 0 … 1, 0 … 255, and 0 … 255 minus ImageNet's mean as in Caffe.
USUAL: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
    (IMAGENET["mean"], IMAGENET["std"]),
    ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    ((0.5,), (0.5,)),
    ((0.0,), (1.0,)),
    ((0.0,), (UNIT,)),
    (IMAGENET["mean"], (UNIT,)),
)


def inputs(pictures: Sequence[Image.Image], spec: Spec) -> Tensor:
    """float32 [N, C, H, W] of pictures in the network's colour mode."""
    fitted = np.stack([preprocess.pixels(preprocess.fit(picture, spec)) for picture in pictures])
    return torch.from_numpy(preprocess.normalise(fitted, spec))


def other_values(pictures: Sequence[Image.Image], spec: Spec) -> list[Spec]:
    """`spec` with the usual means and standard deviations, and with those of the pictures; RGB and BGR for colour images."""
    own = np.concatenate([preprocess.pixels(preprocess.fit(p, spec)).reshape(-1, spec["channels"]) for p in pictures]) / 255
    pairs = [(spec["mean"], spec["std"]), *USUAL, (own.mean(0).round(3).tolist(), own.std(0).clip(0.001).round(3).tolist())]
    plain = [{**spec, "mean": per_channel(m, spec["channels"]), "std": per_channel(s, spec["channels"])} for m, s in pairs]
    if spec["channels"] == 1:
        return plain
    rgb = [{key: value for key, value in one.items() if key != "channel_order"} for one in plain]
    bgr = [{**one, "channel_order": "bgr"} for one in rgb]
    turned = [{**one, "mean": one["mean"][::-1], "std": one["std"][::-1]} for one in bgr]  # each value keeps its colour
    return rgb + turned + [one for one in bgr if one not in turned]


def per_channel(values: Sequence[float], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [round(float(np.mean(values)), 8)] * channels


def other_sizes(spec: Spec, sides: Iterable[int]) -> Iterator[Spec]:
    """`spec` with other ways to resize to its input size, and to the other `sides`."""
    kept = {key: value for key, value in spec.items() if key not in ("resize", "resize_size")}
    kept.setdefault("interpolation", "bilinear")
    for side in dict.fromkeys((spec["input_size"], *sides)):
        sized = {**kept, "input_size": side}
        yield {**sized, "resize": "squash"}
        for pixels in (side, int(side / CROP_PCT)):
            yield {**sized, "resize": "shorter", "resize_size": pixels}


def flags(wanted: Spec, spec: Spec) -> str:
    """The flags to add to a command that used `spec`: "--mean 0 --std 1"."""
    words = [f"--{name} {numbers(wanted[name])}" for name in ("mean", "std") if wanted[name] != spec[name]]
    if wanted.get("channel_order") != spec.get("channel_order"):
        words.append(f"--channel-order {wanted.get('channel_order', 'rgb')}")
    if wanted["input_size"] != spec["input_size"]:
        words.append(f"--input-size {wanted['input_size']}")
    if (resize := wanted.get("resize_size", wanted["resize"])) != spec.get("resize_size", spec["resize"]):
        words.append(f"--resize {resize}")
    return " ".join(words)


def numbers(values: Sequence[float]) -> str:
    """The values with commas; one number if all channels have the same."""
    return ",".join(f"{value:.6g}" for value in (values[:1] if len(set(values)) == 1 else values))

"""The files next to a checkpoint (preprocessing, class names), and the default preprocessing of its weights."""

import json
import re
from pathlib import Path
from typing import Any

from core.digest import file_digest
from models.class_names import FILES

LABELS = "labels.txt"
PREPROCESS = "preprocess.json"
CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
# torchvision's second generation of weights (evaluated with resize 232), by the start of their SHA-256, as in their file names:
# resnet50, 101, 152, resnext50_32x4d, resnext101_32x8d, resnext101_64x4d, wide_resnet50_2, wide_resnet101_2.
TORCHVISION_V2 = {"11ad3fa6", "cd907fc2", "f82ba261", "1a0047aa", "110c445d", "173b62eb", "9ba9bcbe", "d733dc28"}
# akamaster/pytorch_resnet_cifar10's resnet20, 44 and 56, likewise: trained on CIFAR-10 with ImageNet's mean and deviation.
AKAMASTER = {"12fca82f", "014dd654", "4bfd9763"}
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
SQUASHED = 384  # pixels; transformers scales smaller inputs and crops, and squashes these and larger ones
KEYS = ("channels", "channel_order", "input_size", "resize", "crop_pct", "interpolation", "mean", "std", "exif", "bit_depth")


def beside(checkpoint: Path) -> dict[str, Path]:
    """{name: path} of the files next to `checkpoint` that describe it."""
    names = sorted({PREPROCESS, PROCESSOR, LABELS, *FILES})
    return {name: path for name in names if (path := checkpoint.parent / name).is_file()}


def content_beside(checkpoint: Path) -> dict[str, str]:
    """The content of those files: a loaded checkpoint depends on them as well as on its weights."""
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in beside(checkpoint).items()}


def preprocessing(checkpoint: Path, arch: str, stem: str) -> dict[str, dict[str, Any]]:
    """{"given": the settings in a file next to the checkpoint, or of its publisher, "family": the default of such weights}.

    preprocess.json (of a bundle, or with any of KEYS) has priority over a timm config.json. Raises ValueError if it cannot be
    read or is of another network.
    """
    found = beside(checkpoint)
    given: dict[str, Any] = {}
    if PREPROCESS in found:
        given = own_form(read(found[PREPROCESS]), found[PREPROCESS])
    elif CONFIG in found:
        given = timm_form(read(found[CONFIG]), arch, found[CONFIG])
    if not given and PROCESSOR in found and PREPROCESS not in found:
        given = transformers_form(read(found[PROCESSOR]))
    digest = file_digest(checkpoint)
    return {"given": given or published(digest), "family": family(digest, arch, stem)}


def read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON ({error}); repair it, or remove it and pass --mean, --std, …"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains a {type(content).__name__}; expected an object with {', '.join(KEYS)}")
    return content


def own_form(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The keys of `data.index.Data`. In a bundle, resize is "shorter" and resize_size is the number."""
    content = dict(content)
    size = content.pop("resize_size", None)
    if content.get("resize") == "shorter":
        content["resize"] = size
        content.setdefault("exif", "apply")  # bundles that were made before the key existed
    if unknown := [key for key in content if key not in KEYS]:
        raise ValueError(f"{path} has unknown keys {', '.join(unknown)}; known keys: {', '.join(KEYS)}")
    return {key: value for key, value in content.items() if value is not None}


def timm_form(content: dict[str, Any], arch: str, path: Path) -> dict[str, Any]:
    """The settings in a Hugging Face / timm config.json; none if the file is something else.

    Raises ValueError if it names a network that has the same tensor names as `arch` but computes something else (resnetaa50,
    resnetblur50), or inputs that are not square.
    """
    config: Any = content.get("pretrained_cfg", content)
    if not isinstance(config, dict) or not {"input_size", "mean"} <= set(config):
        return {}
    name = str(content.get("architecture", config.get("architecture", arch))).split(".")[0]
    plain = re.sub(r"^(tv|gluon|ssl|swsl|ig)_|_v1b$", "", name)
    if plain != arch and ":" not in arch:
        raise ValueError(f"{path} says that this is a {name}; MODEL says {arch}: pass the matching MODEL, or repair the file")
    size = config.get("test_input_size") or config["input_size"]
    if not (isinstance(size, list) and len(size) == 3 and size[1] == size[2]):
        raise ValueError(f"{path} has input_size {size}; expected [channels, side, side]: repair it, or pass --input-size")
    crop_pct = config.get("test_crop_pct") or config.get("crop_pct")
    squash = config.get("crop_mode") == "squash"
    if squash and crop_pct not in (None, 1):
        raise ValueError(f"{path} squashes and then crops ({crop_pct}), which is not supported; pass --resize and --crop-pct")
    given = {
        "channels": size[0],
        "input_size": size[-1],
        "crop_pct": None if squash else crop_pct,
        "interpolation": config.get("interpolation"),
        "mean": config["mean"],
        "std": config.get("std"),
        "resize": "squash" if squash else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def transformers_form(content: dict[str, Any]) -> dict[str, Any]:
    """A preprocessor_config.json of Hugging Face's transformers; what it leaves out stays open.

    ConvNextImageProcessor, which their ResNets use, squashes images of 384 pixels and more, and crops smaller ones.
    """
    size = content.get("size")
    side = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    crop = content.get("crop_size")
    crop = crop.get("height") if isinstance(crop, dict) else crop
    given: dict[str, Any] = {"interpolation": RESAMPLE.get(content.get("resample", -1))}
    if content.get("do_normalize", True):
        given |= {"mean": content.get("image_mean"), "std": content.get("image_std")}
    else:
        given |= {"mean": [0.0], "std": [1.0]}
    if content.get("do_resize", True) and isinstance(side, int):
        if content.get("do_center_crop") and isinstance(crop, int):
            given |= {"input_size": crop, "resize": side}
        else:
            squashed = side >= SQUASHED or (isinstance(size, dict) and "height" in size)
            given |= {
                "input_size": side,
                **({"resize": "squash"} if squashed else {"crop_pct": content.get("crop_pct", 0.875)}),
            }
    return {key: value for key, value in given.items() if value is not None}


def write_beside(folder: Path, dataset: dict[str, Any]) -> None:
    """Write preprocess.json and labels.txt of `dataset` next to a network that was trained on it."""
    (folder / PREPROCESS).write_text(json.dumps(dataset["preprocess"], indent=1))
    (folder / LABELS).write_text("".join(f"{name}\n" for name in dataset["classes"]), encoding="utf-8")


def published(digest: str) -> dict[str, Any]:
    """What the weights with this SHA-256 were trained with, where that is not what the data set or the family suggests."""
    if digest[:8] in AKAMASTER:
        return {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    return {}


def family(digest: str, arch: str, stem: str) -> dict[str, Any]:
    """The preprocessing that the publisher of such weights used for evaluation. Default: torchvision's first generation.

    `digest` is the SHA-256 of the checkpoint. Pre-activation networks: timm's resnetv2_*.a1h_in1k.
    """
    if stem == "small":
        return {"input_size": 32, "crop_pct": 1.0}
    if digest[:8] in TORCHVISION_V2:
        return {"resize": 232}
    if arch.startswith("resnetv2_"):
        half = [0.5, 0.5, 0.5]
        return {"input_size": 288, "crop_pct": 1.0, "interpolation": "bicubic", "mean": half, "std": half}
    return {}

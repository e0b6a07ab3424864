"""A user's checkpoint file -> its state_dict, float32.

Torch files are read with `weights_only=True`: no code in them runs.
"""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.text import first_line, joined, some

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors")
# What training scripts wrap a state_dict in; averaged weights first, as timm does.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
RESAVE = "save it again where it was made: torch.save(model.state_dict(), 'weights.pth')"
# Harmless things that torchvision's and timm's training scripts put beside the weights.
SCALAR = np.float64(0).__reduce__()[0]  # how NumPy pickles a number
HARMLESS: list[Any] = [argparse.Namespace, SCALAR, np.dtype, *map(type, map(np.dtype, "fd"))]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LEARNT = ("weight", "bias", "running_mean", "running_var")


def read_tensors(path: Path) -> Any:
    """The content of a checkpoint file; ValueError when it is not a plain tensor file."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"checkpoint {path} ends in {path.suffix!r}; expected {', '.join(SUFFIXES)}")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"checkpoint {path} is empty (0 bytes); copy or download it again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"checkpoint {path} is a Git LFS pointer, not the weights; fetch them with git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise ValueError(f"checkpoint {path} is a web page, not weights: the download failed; download it again")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a safetensors file ({error}); save it again") from error
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for files it cannot read
        raise ValueError(f"{path} cannot be read as plain tensors ({reason(error)}); {RESAVE}") from error


def reason(error: Exception) -> str:
    """Why torch.load refused, in a few words."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds a pickled {found[1]}"
    if "TorchScript" in text:
        return "it is a TorchScript archive"
    if "Weights only load failed" in text:  # whose text goes on to advise to load it unsafely
        return "it is not what torch.save makes of tensors"
    if isinstance(error, OSError | EOFError):
        return "it seems to be cut off"
    return f"{type(error).__name__}: {first_line(error)}"


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state_dict inside the usual wrappers, float32; and a note where there was more than one to choose from.

    Raises ValueError when there is none, or its weights are not finite floating-point numbers.
    """
    notes = []
    while isinstance(content, dict) and (inside := [w for w in WRAPPERS if isinstance(content.get(w), dict) and content[w]]):
        if len(inside) > 1:
            notes.append(f"The checkpoint has {joined(inside)}: {inside[0]} was read.")
        content = content[inside[0]]
    state = {str(name): t for name, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
    if not state:
        raise ValueError(f"{path} holds no state_dict; expected tensors by name, or one of the wrappers {', '.join(WRAPPERS)}")
    if odd := [n for n, t in state.items() if n.endswith(LEARNT) and (t.dtype not in FLOATS or t.layout is not torch.strided)]:
        kinds = ", ".join(sorted({f"{state[n].layout} {state[n].dtype}".replace("torch.", "") for n in odd}))
        raise ValueError(
            f"{path} has weights of another kind in {some(odd, 3)} ({kinds}); expected dense float16, bfloat16, float32 or "
            "float64: pass the checkpoint it was made from"
        )
    broken = [name for name, t in state.items() if t.dtype in FLOATS and not bool(torch.isfinite(t).all())]
    if broken:
        raise ValueError(f"{path} has NaN or infinite weights in {some(broken)}; expected finite numbers: save a healthy epoch")
    kept = {name: t.float() if t.dtype in FLOATS else t for name, t in state.items() if name.split(".")[-1] != "n_averaged"}
    return kept, notes

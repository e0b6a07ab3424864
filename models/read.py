"""A user's checkpoint file -> its content. The format is recognized by the bytes, not by the name. No code of the file runs."""

import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from core.text import first_line, some
from models.unpickle import read_pickle, read_zip

RESAVE = "save it again where it was made: torch.save(model.state_dict(), 'weights.pth')"
# Files that are often passed by mistake: their first bytes, what they are, and what to do.
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "fetch them with git lfs pull"),
    (b"<", "a web page, not weights: the download failed", "download it again"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip and pass the file inside"),
    (b"BZh", "compressed with bzip2", "unpack it with bunzip2 and pass the file inside"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it with unxz and pass the file inside"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and pass the file inside"),
    (b"\x89HDF", "an HDF5 file (Keras), not PyTorch weights", "pass the PyTorch checkpoint"),
    (b"\x93NUMPY", "a single NumPy array", RESAVE),
)


def read_content(path: Path) -> Any:
    """The content of a checkpoint file: what torch.save, torch.jit.save, pickle.dump or safetensors wrote.

    Objects of classes that are not known become `Inert`. Raises ValueError when the file is something else, or cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"checkpoint {path} is empty (0 bytes); copy or download it again")
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a safetensors file ({error}); save it again") from error
    for begin, what, way_out in FOREIGN:
        if start.lstrip(b"\r\n\t ").startswith(begin):
            raise ValueError(f"checkpoint {path} is {what}; {way_out}")
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and b"pytorch" in start[:16]):
        raise ValueError(f"checkpoint {path} is an ONNX model; expected the PyTorch weights it was exported from: pass those")
    if start.startswith(b"PK"):
        return read_archive(path)
    if tarfile.is_tarfile(path):
        raise ValueError(f"checkpoint {path} is a tar archive; unpack it and pass the file inside")
    try:
        with path.open("rb") as file:
            return read_pickle(file)
    except Exception as error:  # unpickling broken bytes may raise anything
        raise ValueError(f"{path} cannot be read as plain tensors ({reason(error)}); {RESAVE}") from error


def read_archive(path: Path) -> Any:
    """The content of a zip archive. Raises ValueError when it is not one of torch.save or torch.jit.save, or is cut off."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return read_zip(path)
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as plain tensors ({reason(error)}); {RESAVE}") from error
    if any("/weights/" in name or name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise ValueError(f"checkpoint {path} is a program of torch.export, whose weights have no names to rely on; {RESAVE}")
    what = "NumPy arrays" if all(name.endswith(".npy") for name in names) else f"other files ({some(names, 3)})"
    raise ValueError(f"checkpoint {path} is a zip archive of {what}; unpack it and pass the checkpoint inside, or {RESAVE}")


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
        return "it is damaged: a checksum is wrong"
    if isinstance(error, OSError | EOFError | struct.error | zipfile.BadZipFile) or "truncated" in str(error):
        return "it seems to be cut off"
    if isinstance(error, pickle.UnpicklingError | UnicodeDecodeError | KeyError | IndexError | ValueError):
        return "it is no file of tensors from torch.save"
    return f"{type(error).__name__}: {first_line(error)}"

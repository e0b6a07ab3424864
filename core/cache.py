"""Stages that remember: run once for the same config, inputs and source; interrupted, they continue.

A stage is a function `stage(config, out, **inputs) -> metrics` that writes files into the folder `out`. Its directory is
finished if and only if it holds `manifest.json`. While it runs the directory is called `….partial`; a stage that left its
own checkpoints there finds them again.
"""

import ast
import fcntl
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core.config import Config
from core.console import console

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "data", "models", "compress", "calibration", "export", "measure", "reports", "pipeline")


@dataclass(frozen=True)
class Artifact:
    """A finished stage directory and its manifest."""

    path: Path
    manifest: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(self.manifest["metrics"])


Input = Artifact | Mapping[str, Artifact] | Callable[..., Any] | Path


class Stages:
    """Runs stages under `root` and keeps the list of those it was asked for, each once, in order, in `asked`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[Artifact] = []
        root.mkdir(parents=True, exist_ok=True)

    def __call__(
        self, stage: Callable[..., Any], config: Config, *, context: object = None, label: str = "", **inputs: Input
    ) -> Artifact:
        """The artifact of `stage(config, out, **inputs)`, from the cache where it is there.

        An input is an artifact, a mapping of them, a file of the user's, or a function; each counts with its content.
        `context` is what else the result depends on (the platform it was measured on). `label` names it for people.
        """
        name = f"{stage.__name__} {label}".strip()
        key = digest_of(
            {
                "stage": f"{stage.__module__}.{stage.__name__}",
                "config": config.model_dump(mode="json"),
                "context": context,
                "inputs": {key: content_of(value) for key, value in inputs.items()},
                "source": source_digest(stage.__module__),
            }
        )
        final = self.root / f"{stage.__name__}-{key[:12]}"
        manifest = final / "manifest.json"
        if manifest.exists():
            console.print(f"[dim]{name}: cached[/dim]")
            artifact = Artifact(final, {**json.loads(manifest.read_text()), "name": name, "cached": True})
        else:
            artifact = self.run(stage, config, name, final, {k: passed(v) for k, v in inputs.items()})
        if artifact.path not in {earlier.path for earlier in self.asked}:
            self.asked.append(artifact)
        return artifact

    def run(self, stage: Callable[..., Any], config: Config, name: str, final: Path, arguments: dict[str, Any]) -> Artifact:
        console.print(f"[bold]{name}[/bold]")
        partial = final.with_name(final.name + ".partial")
        partial.mkdir(exist_ok=True)
        started = time.perf_counter()
        metrics = stage(config, partial, **arguments) or {}
        manifest = {
            "name": name,
            "stage": f"{stage.__module__}.{stage.__name__}",
            "config": config.model_dump(mode="json"),
            "metrics": metrics,
            "seconds": round(time.perf_counter() - started, 3),
            "content": folder_digest(partial),
            "cached": False,
        }
        temporary = partial / "manifest.tmp"
        temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
        temporary.rename(partial / "manifest.json")
        partial.rename(final)
        console.print(f"[dim]{name}: {manifest['seconds']:.1f} s[/dim]")
        return Artifact(final, manifest)


def passed(value: Input) -> Any:
    """What the stage function itself receives: paths and functions, never artifacts."""
    if isinstance(value, Artifact):
        return value.path
    if isinstance(value, Mapping):
        return {key: artifact.path for key, artifact in value.items()}
    return value


def content_of(value: Input) -> Any:
    if isinstance(value, Artifact):
        return value.manifest["content"]
    if isinstance(value, Mapping):
        return {key: content_of(artifact) for key, artifact in value.items()}
    if isinstance(value, Path):
        try:
            return file_digest(value)
        except OSError as error:
            raise ValueError(
                f"{value} cannot be read ({str(error.strerror).lower()}); pass a file that is there and that you may read"
            ) from error
    return [value.__module__, value.__qualname__, source_digest(value.__module__)]


def digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files in `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest_of([[str(p.relative_to(folder)), file_digest(p)] for p in files])


@cache
def source_digest(module: str) -> str:
    """SHA-256 over the source of `module` and of every project module it imports, directly or not."""
    files: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        spec = importlib.util.find_spec(name) if name not in files else None
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).read_text()
        files[name] = source
        todo += [n for n in imported_names(source) if n.split(".")[0] in PACKAGES and is_module(n)]
    return digest_of(files)


def imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_module(name: str) -> bool:
    path = PROJECT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of `folder`; ValueError when one is there already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot write to OUT {folder} ({error.strerror}); expected a folder, or a place for one") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another run is writing to {folder}; wait for it, or pass another OUT") from error
        yield

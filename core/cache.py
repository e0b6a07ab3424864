"""The stage cache: a stage runs once for the same config, inputs and code; an interrupted one continues.

A stage is a function `stage(config, out, **inputs) -> metrics` that writes files into the folder `out`. While it runs, this is
a folder in `….partial`, which belongs to the process that runs the stage (core/claim.py): others that need the same stage wait
and take the result. After an interruption, a stage continues from the checkpoints that it saved there. When all files are
written, `manifest.json` as the last one, the folder gets its final name: it exists if and only if the stage is finished.
"""

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.claim import claimed, remove_left
from core.config import Config
from core.console import console
from core.digest import code_digest, digest_of, file_digest, folder_digest
from core.disk import find_temporary_folder, full_disk_in_one_line
from core.environment import machine, now, versions
from core.owner import Owner

MANIFEST = "manifest.json"


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
    """Runs stages in folders under `root`. `used` lists the artifacts of all calls, each once, in order.

    `again` are the names of stages that run although the cache has them; the new result replaces the old one.
    """

    def __init__(self, root: Path, again: Collection[str] = ()) -> None:
        self.root = root
        self.again = again
        self.used: list[Artifact] = []
        root.mkdir(parents=True, exist_ok=True)

    def __call__(
        self, stage: Callable[..., Any], config: Config, *, context: object = None, label: str = "", **inputs: Input
    ) -> Artifact:
        """The artifact of `stage(config, out, **inputs)`, from the cache if it is there.

        An input is an artifact, a mapping of artifacts, a file of the user or a function. Its content is part of the cache key.
        `context` is everything else that the result depends on (the platform of a measurement). `label` is shown after the
        name of the stage.
        """
        name = f"{stage.__name__} {label}".strip()
        final = self.folder(stage, config, context, inputs)
        again = stage.__name__ in self.again and final not in {earlier.path for earlier in self.used}
        artifact = None if again else finished(final, name)
        if artifact is None:
            artifact = self.run(stage, config, name, final, inputs, again)
        else:
            remove_left(partial_of(final))
        if artifact.path not in {earlier.path for earlier in self.used}:
            self.used.append(artifact)
        return artifact

    def finished(self, stage: Callable[..., Any], config: Config, *, context: object = None, **inputs: Input) -> bool:
        """Whether the cache has the artifact of `stage(config, out, **inputs)`."""
        return (self.folder(stage, config, context, inputs) / MANIFEST).exists()

    def folder(self, stage: Callable[..., Any], config: Config, context: object, inputs: Mapping[str, Input]) -> Path:
        """The folder of the finished stage, named by its key."""
        key = digest_of(
            {
                "stage": f"{stage.__module__}.{stage.__name__}",
                "config": config,
                "context": [context, config.context],
                "inputs": {key: content_of(value) for key, value in inputs.items()},
                "code": code_digest(stage.__module__),
            }
        )
        return self.root / f"{stage.__name__}-{key[:12]}"

    def run(
        self, stage: Callable[..., Any], config: Config, name: str, final: Path, inputs: Mapping[str, Input], again: bool
    ) -> Artifact:
        """The artifact, which this process or another one makes. `again`: this process makes it, although it is there."""

        def is_done() -> bool:
            return not again and (final / MANIFEST).exists()

        def tell(owner: Owner) -> None:
            console.print(f"{name}: {owner} is making it; waiting for the result", style="dim", markup=False)

        while (artifact := None if again else finished(final, name)) is None:
            with claimed(partial_of(final), is_done, tell) as claim:
                if claim is None:
                    continue
                try:
                    manifest = made(stage, config, name, inputs, claim.files)
                    if again:
                        shutil.rmtree(final, ignore_errors=True)
                    claim.files.rename(final)
                except Exception:
                    if not (claim.lost or is_done()):
                        raise  # else another process has taken the folder over
                else:
                    console.print(f"{name}: {manifest['seconds']:.1f} s", style="dim", markup=False)
                    return Artifact(final, manifest)
        return artifact


def made(stage: Callable[..., Any], config: Config, name: str, inputs: Mapping[str, Input], out: Path) -> dict[str, Any]:
    """Run the stage in the folder `out`; its manifest."""
    console.print(name, style="bold", markup=False)
    (out / MANIFEST).unlink(missing_ok=True)  # of a run that died just before the folder got its final name
    contents = {key: content_of(value) for key, value in inputs.items() if not callable(value)}
    started = time.perf_counter()
    metrics = stage(config, out, **{key: passed(value) for key, value in inputs.items()}) or {}
    manifest = {
        "name": name,
        "stage": f"{stage.__module__}.{stage.__name__}",
        "config": config.model_dump(mode="json"),
        "metrics": metrics,
        "seconds": round(time.perf_counter() - started, 3),
        "created": now(),
        "machine": machine(),
        "versions": versions(),
        "code": code_digest(stage.__module__),
        "inputs": contents,
        "content": folder_digest(out),
        "cached": False,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def finished(final: Path, name: str) -> Artifact | None:
    """The finished stage in the folder `final`, called `name` here; None if it is not finished."""
    try:
        manifest = json.loads((final / MANIFEST).read_text())
    except FileNotFoundError:
        return None
    console.print(f"{name}: cached", style="dim", markup=False)
    return Artifact(final, {**manifest, "name": name, "cached": True})


def partial_of(final: Path) -> Path:
    """The folder in which the stage is made that will be `final`."""
    return final.with_name(final.name + ".partial")


def passed(value: Input) -> Any:
    """The argument that the stage function receives: a path, paths or a function, never an artifact."""
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
                f"{value} cannot be read ({str(error.strerror).lower()}); pass a file that exists and that you may read"
            ) from error
    return [value.__module__, value.__qualname__, code_digest(value.__module__)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for this run. Raises ValueError if another run has locked it."""

    def refuse(owner: Owner) -> None:
        raise ValueError(f"another run is writing to {folder}; wait for it, or pass another OUT")

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(folder / ".running", lambda: False, refuse, keep=False))
        except OSError as error:
            raise ValueError(
                f"cannot write to OUT {folder} ({error.strerror}); expected a folder that you may write to"
            ) from error
        find_temporary_folder(folder)
        with full_disk_in_one_line(folder):
            yield

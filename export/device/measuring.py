"""Measures engines on a device, for `respress measure`. It is not part of a bundle. Needs numpy and the runtimes.

python measuring.py BUNDLE IMAGE.npy     one engine in a process of its own: its memory, its first inference
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from machine import KEPT, conditions, sample, status
from over_ssh import HERE, Fault, reason, say, started, wait_for_all

LEAST = 10  # calls of a turn, however long they take


def numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise Fault(f"numpy is missing for {sys.executable} there: pip install numpy") from None
    return np


def opened(job: dict) -> dict:
    """{name: engine} of the job; says which ones do not run here. Raises Fault when a file is not the one that was sent."""
    for name, engine in job["engines"].items():
        digest = hashlib.sha256((HERE / engine["folder"] / engine["file"]).read_bytes()).hexdigest()
        if digest != engine["sha256"]:
            seen = f"SHA-256 {digest[:12]}… there, expected {engine['sha256'][:12]}…"
            raise Fault(f"{engine['file']} of {name} has {seen}: it changed under way; measure again")
    runs = {}
    for name, engine in job["engines"].items():
        use_threads(HERE / engine["folder"] / "bundle.json", job["threads"])
        try:
            runs[name] = open_engine(HERE / engine["folder"])
        except Exception as error:  # every runtime has its own types
            say(refused=name, reason=f"it does not run there: {reason(error)}")
    return runs


def use_threads(bundle: Path, threads: int) -> None:
    """Let the runner of the bundle use so many threads."""
    bundle.write_text(json.dumps({**json.loads(bundle.read_text()), "threads": threads}))


def open_engine(folder: Path) -> Callable:
    """The engine of a bundle."""
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("runner_of_" + folder.name, str(folder / "runner.py"))
        runner: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(runner)  # type: ignore[union-attr]
        return runner.open_engine(folder)  # type: ignore[no-any-return]
    finally:
        sys.path.remove(str(folder))


def predict(job: dict, members: Iterator[tuple]) -> None:
    """Verify the bundles, then predict the images as they come: of each the five best classes, by every engine."""
    np = numpy()
    runs: dict = {}
    for name, content in members:
        if name == "images/ready":  # all files of the bundles have come
            runs = opened(job)
            verify(job)
            continue
        images = images_of(np, job, name, content)
        say(
            chunk=int(name.split("/")[1]),
            top5={engine: best_five(np, runs[engine], images) for engine in working(runs, images)},
        )


def verify(job: dict) -> None:
    for name, engine in job["engines"].items():
        try:
            lines = list(started([sys.executable, "verify.py"], HERE / engine["folder"]))
            say(verified=name, ok=True, line=lines[-1] if lines else "")
        except Fault as fault:
            say(verified=name, ok=False, line=str(fault))


def images_of(np: Any, job: dict, name: str, content: bytes) -> Any:
    """float32 [N, C, H, W]: uint8 pixels [N, H, W, C] in colours of the network, scaled as the pipeline does, bit by bit."""
    if name.startswith("kept/"):
        content = (KEPT / (name.split("/")[2] + ".npz")).read_bytes()
    elif job["keep"]:
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / (hashlib.sha256(content).hexdigest() + ".npz")
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # on a full disk
    with np.load(BytesIO(content)) as arrays:
        scale, offset = np.asarray(job["scale"], np.float32), np.asarray(job["offset"], np.float32)
        scaled = arrays["pixels"].astype(np.float32) * scale - offset
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def working(runs: dict, images: Any) -> list:
    """The engines that run on the first of the images; the others are refused."""
    for name in list(runs):
        try:
            runs[name](images[:1])
        except Exception as error:  # every runtime has its own types
            del runs[name]
            say(refused=name, reason=f"it does not run there: {reason(error)}")
    return list(runs)


def best_five(np: Any, run: Callable, images: Any) -> str:
    """int32 [N, 5], little-endian, as text; one image at a time, as every runner takes them."""
    best = [np.argsort(-run(x[None]), axis=1, kind="stable")[:, :5] for x in images]
    return base64.b64encode(np.concatenate(best).astype("<i4").tobytes()).decode()


def latency(job: dict, members: Iterator[tuple]) -> None:
    """Time the engines in turns; then their throughput, and each alone."""
    np = numpy()
    wait_for_all(members)
    runs = opened(job)
    x = images_of(np, {**job, "keep": False}, "images/0", (HERE / "first.npz").read_bytes())
    say(conditions={**conditions(job["sudo"]), "threads": job["threads"]})
    known = {name: times_of_trtexec(np, job, name) for name in runs}
    runs = {name: run for name, run in runs.items() if known[name] is None}
    for k in range(job["turns"] if known else 0):
        turns = {name: {"taken": pieces[k], "before": None, "after": None} for name, pieces in known.items() if pieces}
        for name in list(runs) if k % 2 == 0 else list(reversed(list(runs))):
            before = sample()
            taken = timed(runs[name], x[:1], job)
            turns[name] = {"taken": taken, "before": before, "after": sample()}
        say(turns=turns)
    for batch in job["throughput"]:
        for name in list(runs):
            point = throughput(np, runs[name], np.resize(x, (batch, *x.shape[1:])), job)
            say(throughput=name, point=point)
    say(conditions=conditions(job["sudo"]))
    np.save(str(HERE / "image.npy"), x[:1])
    for name in runs:
        folder, me = str(HERE / job["engines"][name]["folder"]), str(HERE / "measuring.py")
        command = [sys.executable, me, folder, str(HERE / "image.npy")]
        try:
            say(alone=name, **json.loads(list(started(command, HERE))[-1]))
        except (Fault, ValueError) as error:
            say(alone=name, note=str(error))


def times_of_trtexec(np: Any, job: dict, name: str) -> list | None:
    """The seconds of an engine that trtexec built, in as many parts as there are turns; None for one that runs in Python."""
    times = HERE / job["engines"][name]["folder"] / "times.json"
    if not times.exists():
        return None
    taken = [trace["latencyMs"] / 1000 for trace in json.loads(times.read_text())]
    return [part.tolist() for part in np.array_split(np.asarray(taken), job["turns"])]


def timed(run: Callable, x: Any, job: dict) -> list:
    """Seconds of each call of one turn, after the warm-up."""
    ready = time.perf_counter() + job["warmup"]
    run(x)
    while time.perf_counter() < ready:
        run(x)
    taken: list = []
    while len(taken) < job["queries"] and (len(taken) < LEAST or sum(taken) < job["seconds"]):
        taken.append(seconds_of(run, x))
    return taken


def seconds_of(run: Callable, x: Any) -> float:
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def throughput(np: Any, run: Callable, x: Any, job: dict) -> dict | None:
    """One point of the curve; None where the engine does not take this batch or is too slow for it."""
    try:
        if seconds_of(run, x) > job["longest"]:
            return None
        taken = [seconds_of(run, x)]
    except Exception:  # every runtime has its own types; some are built for one image
        return None
    while (spent := sum(taken)) < 0.3 or (len(taken) < job["calls"] and spent < job["longest"]):
        taken.append(seconds_of(run, x))
    p50, p90 = (float(1000 * value) for value in np.percentile(taken, (50, 90)))
    return {"batch": len(x), "images_per_s": round(len(taken) * len(x) / sum(taken), 1), "ms": round(p50, 4),
            "p90_ms": round(p90, 4), "n": len(taken)}  # fmt: skip


def alone(folder: str, image: str) -> None:
    x = numpy().load(image)
    before = status("VmRSS")
    start = time.perf_counter()
    open_engine(Path(folder))(x)
    taken = time.perf_counter() - start
    print(json.dumps({"memory_bytes": status("VmHWM") - before, "first_inference_ms": round(1000 * taken, 3)}))


if __name__ == "__main__":
    alone(*sys.argv[1:])

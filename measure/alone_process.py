"""One engine in a process of its own: python -m measure.alone_process MODULE FUNCTION ENGINE THREADS IMAGE.npy -> JSON."""

import importlib
import json
import resource
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np

PROC = Path("/proc/self")


def main(module: str, function: str, engine: str, threads: str, image: str) -> None:
    load = getattr(importlib.import_module(module), function)
    x = np.load(image)
    before = memory()
    started = perf_counter()
    load(Path(engine), int(threads))(x)
    taken = perf_counter() - started
    print(json.dumps({"memory_bytes": peak() - before, "first_inference_ms": round(1000 * taken, 3)}))


def memory() -> int:
    """Bytes that are resident now; from here on `peak` counts, where Linux allows it."""
    with suppress(OSError):
        (PROC / "clear_refs").write_text("5")
    return of_status("VmRSS") or peak()


def peak() -> int:
    """Largest resident memory, bytes. Linux's ru_maxrss is not below that of the process that started this one: VmHWM is."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return of_status("VmHWM") or found


def of_status(key: str) -> int | None:
    """A size in /proc/self/status, bytes; None where there is none."""
    try:
        lines = (PROC / "status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One engine in a process of its own: python -m measure.alone_process MODULE FUNCTION ENGINE THREADS IMAGE.npy -> JSON."""

import importlib
import json
import resource
import sys
from pathlib import Path
from time import perf_counter

import numpy as np


def main(module: str, function: str, engine: str, threads: str, image: str) -> None:
    load = getattr(importlib.import_module(module), function)
    x = np.load(image)
    started = perf_counter()
    load(Path(engine), int(threads))(x)
    taken = perf_counter() - started
    print(json.dumps({"memory_bytes": peak_memory(), "first_inference_ms": round(1000 * taken, 3)}))


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes. Linux's ru_maxrss is not below that of the process that started this one, so VmHWM is read where there is one."""
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return 1024 * int(lines["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])

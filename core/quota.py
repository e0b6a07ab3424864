"""The CPU quota of this process: a container may be allowed less CPU time than the machine has cores."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath


@cache
def quota(root: Path = Path("/")) -> float | None:
    """The number of CPUs whose time this process may use (docker run --cpus); None if there is no limit.

    It is the smallest limit of its control group and of all groups above it, version 1 or 2. `root` has /proc and /sys.
    """
    limits = [limit for folder in control_groups(root) if (limit := limit_of(folder)) is not None]
    return min(limits, default=None)


def control_groups(root: Path) -> Iterator[Path]:
    """Folders that may hold the limit: the process's own group and those above it, up to the root of the container."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, alone or beside version 1
            mounts = ["cgroup", "cgroup/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [f"cgroup/{controllers}", "cgroup/cpu"]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for folder in (inside, *inside.parents):
                yield root / "sys/fs" / mount / folder


def limit_of(group: Path) -> float | None:
    """The limit that `group` itself sets, in CPUs."""
    try:
        if (group / "cpu.max").exists():
            allowed, period = (group / "cpu.max").read_text().split()
        else:
            allowed, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if allowed in ("max", "-1") else int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None

"""CPU quotas of containers, version 1 and 2, as Docker, Kubernetes and systemd set them."""

from pathlib import Path

import pytest

from core import hardware
from core.quota import quota

V2, V1 = "0::/", "4:memory:/docker/a1\n3:cpu,cpuacct:/docker/a1\n1:name=systemd:/docker/a1\n"

CASES: dict[str, tuple[str, dict[str, str], float | None]] = {
    "version 2, in a container": (V2, {"cpu.max": "150000 100000"}, 1.5),
    "version 2, no limit": (V2, {"cpu.max": "max 100000"}, None),
    "version 2, less than one": (V2, {"cpu.max": "20000 100000"}, 0.2),
    "version 2, the process's own group": ("0::/user/job", {"user/job/cpu.max": "200000 100000"}, 2),
    "version 2, a group above it": ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
    "version 2, both": ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "100000 50000"}, 2),
    "version 2, the host's path inside a container": ("0::/docker/a1", {"cpu.max": "100000 100000"}, 1),
    "version 2, outside of the namespace": ("0::/../other", {"cpu.max": "100000 100000"}, 1),
    "version 2, beside version 1": ("1:cpu:/\n0::/", {"unified/cpu.max": "100000 100000"}, 1),
    "version 1": (
        V1, {"cpu,cpuacct/docker/a1/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/a1/cpu.cfs_period_us": "100000\n"}, 2.5
    ),
    "version 1, under its short name": (V1, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    "version 1, no limit": ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "version 1, another controller's": ("1:cpuset:/", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, None),
    "no number": (V2, {"cpu.max": "much"}, None),
    "no period": (V2, {"cpu.max": "100000 0"}, None),
    "no control groups": ("", {}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_quota_is_read(case: str, tmp_path: Path) -> None:
    groups, files, expected = CASES[case]
    for name, content in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert quota(tmp_path) == expected


def test_a_machine_without_proc_has_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path) is None


@pytest.mark.parametrize(
    ("present", "allowed", "expected"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.9, 1), (8, 0.2, 1), (2, 4.0, 2), (1, None, 1)],
)
def test_cores_are_the_affinity_within_the_quota(
    present: int, allowed: float | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "SYSTEM", tmp_path)  # each has a core of its own
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(present)))
    monkeypatch.setattr(hardware, "quota", lambda: allowed)
    assert hardware.cores() == expected

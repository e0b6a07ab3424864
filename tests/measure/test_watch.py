"""The machine is watched through /proc and /sys; here both are files of the test."""

from pathlib import Path

import pytest

from measure.watch import Sample, Seen, Watch, disturbances

CALM = Seen(others=0.1, stolen=0.0, throttled=False, clock=2400.0, celsius=50.0)


class Machine:
    """Two cores; one that this process may not use is not watched. All counters are in ticks."""

    def __init__(self, root: Path, version: int = 2) -> None:
        self.root, self.version = root, version
        self.own, self.cores = 0, {0: [0] * 10, 1: [0] * 10, 2: [0] * 10}
        self.group = root / ("sys/fs/cgroup/box" if version == 2 else "sys/fs/cgroup/cpu/box")
        self.group.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("0::/box\n" if version == 2 else "3:cpu:/box\n")
        self.throttle(0)
        self.write()

    def spend(self, ticks: int, *, own: int = 0, others: int = 0, stolen: int = 0, elsewhere: int = 0) -> None:
        """`ticks` pass on each core."""
        self.own += own
        for core, counters in self.cores.items():
            busy = (own + others) // 2 if core < 2 else elsewhere
            lost = stolen // 2 if core < 2 else 0
            counters[0] += busy
            counters[7] += lost
            counters[3] += ticks - busy - lost
        self.write()

    def write(self) -> None:
        lines = [f"cpu{core} {' '.join(map(str, counters))}" for core, counters in self.cores.items()]
        total = [sum(column) for column in zip(*self.cores.values(), strict=True)]
        (self.root / "proc/stat").write_text("\n".join([f"cpu  {' '.join(map(str, total))}", *lines, "intr 1 2", "ctxt 3"]))
        before = "S 1 1 1 0 -1 0 0 0 0 0"
        (self.root / "proc/self/stat").write_text(f"42 (a (b) c) {before} {self.own // 2} {self.own - self.own // 2} 0 0 20 0")

    def throttle(self, count: int) -> None:
        time = f"throttled_usec {10 * count}" if self.version == 2 else f"throttled_time {10_000 * count}"
        (self.group / "cpu.stat").write_text(f"nr_periods 5\nnr_throttled {count}\n{time}\n")

    def number(self, path: str, value: object) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{value}\n")

    def watch(self) -> Watch:
        return Watch(self.root, cpus=(0, 1))


def seen(machine: Machine, watch: Watch, before: Sample | None) -> Seen:
    found = watch.since(before)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("spent", "others", "stolen"),
    [
        ({"own": 200}, 0.0, 0.0),
        ({"own": 100, "others": 100}, 1.0, 0.0),
        ({"own": 150, "stolen": 50}, 0.0, 0.5),
        ({"own": 20}, 0.0, 0.0),
        ({"own": 200, "elsewhere": 100}, 0.0, 0.0),
    ],
    ids=["alone", "half of the time", "a hypervisor", "an idle machine", "a core that we may not use"],
)
def test_time_that_is_not_ours_is_that_of_others(tmp_path: Path, spent: dict[str, int], others: float, stolen: float) -> None:
    machine = Machine(tmp_path)
    machine.spend(500, own=70, others=30, stolen=20)
    watch = machine.watch()
    before = watch.sample()
    machine.spend(100, **spent)
    found = seen(machine, watch, before)
    assert (found.others, found.stolen, found.throttled) == (others, stolen, False)
    assert found.clock is None and found.celsius is None


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_that_was_stopped_by_its_quota_is_seen(tmp_path: Path, version: int) -> None:
    machine = Machine(tmp_path, version)
    machine.throttle(3)
    watch = machine.watch()
    before = watch.sample()
    machine.spend(100, own=200)
    assert not seen(machine, watch, before).throttled, "it was stopped before the turn"
    machine.throttle(4)
    assert seen(machine, watch, before).throttled


def test_clock_and_temperature_are_read_where_there_are_some(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for core, kilohertz in enumerate((1_200_000, 2_400_000, 3_000_000)):
        machine.number(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", kilohertz)
    machine.number("sys/class/thermal/thermal_zone0/temp", 61_500)
    machine.number("sys/class/thermal/thermal_zone1/temp", "not ready")
    watch = machine.watch()
    before = watch.sample()
    machine.spend(100, own=200)
    found = seen(machine, watch, before)
    assert (found.clock, found.celsius) == (2400.0, 61.5), "the third core is not ours"


@pytest.mark.parametrize(("ticks", "watched"), [(4, False), (5, True)])
def test_the_load_in_a_turn_of_a_few_ticks_is_not_known(tmp_path: Path, ticks: int, watched: bool) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    before = watch.sample()
    machine.spend(ticks, own=2)
    assert (watch.since(before) is not None) == watched


def test_without_proc_nothing_is_watched(tmp_path: Path) -> None:
    watch = Watch(tmp_path, cpus=(0,))
    assert watch.sample() is None and watch.since(None) is None
    assert disturbances(None, 0, None) == []


def test_this_machine_can_be_read() -> None:
    watch = Watch()
    assert len(watch.cpus) > 0
    if Path("/proc/stat").exists():
        assert watch.sample() is not None


@pytest.mark.parametrize(
    ("changes", "free", "found"),
    [
        ({}, 0, []),
        ({"others": 0.5}, 0, ["load of other processes"]),
        ({"others": 0.5}, 1, []),
        ({"others": 1.5}, 1, ["load of other processes"]),
        ({"stolen": 0.2}, 4, ["steal time"]),
        ({"throttled": True}, 4, ["throttling by the CPU quota"]),
        ({"clock": 1800.0}, 4, ["a lower clock"]),
        ({"clock": 2300.0}, 4, []),
        ({"clock": None}, 4, []),
        ({"others": 2.0, "stolen": 1.0}, 0, ["load of other processes", "steal time"]),
    ],
)
def test_what_disturbs_a_turn(changes: dict[str, object], free: int, found: list[str]) -> None:
    """Others may use the cores that the engine leaves free."""
    assert disturbances(Seen(**{**vars(CALM), **changes}), free, fastest=2400.0) == found  # type: ignore[arg-type]

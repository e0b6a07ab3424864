"""LAUNCH: jobs go through submitit to processes of this machine, or to Slurm.

submitit starts them, and Slurm is their scheduler. What is left to do here: read what the user wrote, wait, and run again what
was killed.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core import ranks
from core.console import console
from pipeline.job import Job

EXPECTED = "expected local:N, for N jobs at a time on this machine, or slurm with options, such as slurm:partition=gpu,gpus=1"
SHORT = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "minutes": "time"}  # our names of options of submitit
MINUTES = 24 * 60  # of a job of Slurm: submitit's own default is 5
TRIES = 3
OFTEN = 1000  # a job that was out of time continues where it stopped
LOCAL = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run"))  # folders that every machine has for itself
LOOK = 15.0  # seconds between two looks at Slurm's queue
LATE = 10.0  # seconds after which a file of another machine is seen
LINES = 20  # of a log that are shown


@dataclass(frozen=True)
class Launch:
    """Where jobs run. `at_once`: so many at a time, None: as many as Slurm starts. `options` are those of submitit."""

    cluster: str
    at_once: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "Launch | None":
        """ "local:2" or "slurm:partition=gpu,gpus=1"; None for "".

        Raises ValueError for what cannot be read, and where submitit or Slurm is missing.
        """
        if not text:
            return None
        cluster, _, rest = text.partition(":")
        if cluster not in ("local", "slurm") or (cluster == "local" and not (rest.isdigit() and int(rest))):
            raise ValueError(f"LAUNCH {text!r}: {EXPECTED}")
        if ranks.processes() > 1:
            raise ValueError(f"LAUNCH {text!r} starts jobs of one process each, and NPROC or torchrun several; use one of them")
        if find_spec("submitit") is None:
            raise ValueError(f"LAUNCH {text!r} needs submitit, which is not installed; pip install submitit")
        if cluster == "local":
            return cls(cluster, int(rest), {"timeout_min": 60 * MINUTES})
        if shutil.which("sbatch") is None:
            raise ValueError(f"LAUNCH {text!r} needs sbatch of Slurm, which is not here; run it on a node that submits jobs")
        return cls(cluster, None, {"time": MINUTES} | options_of(text, rest))

    def check_shared(self, folders: Sequence[Path]) -> None:
        """ValueError for a folder or file that other machines do not see."""
        for folder in folders:
            whole = folder.resolve()
            if self.cluster == "slurm" and (own := [root for root in LOCAL if whole.is_relative_to(root.resolve())]):
                raise ValueError(
                    f"{folder} is in {own[0]}, which every machine of Slurm has for itself; "
                    "expected OUT, DATA and CHECKPOINT on a file system that all of them share"
                )

    def run(self, jobs: Sequence[Job], folder: Path) -> None:
        """Run the jobs; their logs are in `folder`. Killed ones run again. When this process is stopped, the jobs are, too.

        Raises ValueError for a job that was killed `TRIES` times, and RuntimeError with the end of the log for one that failed.
        """
        at_once = min(self.at_once or len(jobs), len(jobs))
        if not jobs:
            return
        running = Running(self, folder)
        sharing = at_once if self.cluster == "local" else 1
        with ThreadPoolExecutor(at_once) as pool:
            ended = [pool.submit(running.carry_out, replace(job, sharing=sharing)) for job in jobs]
            try:
                wait(ended)
            except BaseException:
                running.stop()
                raise
        for one in ended:  # one that failed does not end the others
            one.result()


def options_of(text: str, rest: str) -> dict[str, Any]:
    """ "partition=gpu,gpus=1" -> {"partition": "gpu", "gpus_per_node": 1}."""
    from submitit.slurm.slurm import SlurmExecutor

    known = SlurmExecutor._valid_parameters() - {"num_gpus"}
    found: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        name = SHORT.get(key, key.replace("-", "_"))
        if not equals or name not in known:
            raise ValueError(f"LAUNCH {text!r}: {part!r} is not an option; known: {', '.join(sorted({*SHORT, *known}))}")
        found[name] = int(value) if value.isdigit() else value
    return found


class Running:
    """The jobs of one launch that were submitted."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        import submitit

        kinds: dict[str, Any] = {"local": submitit.LocalExecutor, "slurm": submitit.SlurmExecutor}
        self.cluster = launch.cluster
        self.executor = kinds[launch.cluster](folder, max_num_timeout=OFTEN)
        self.executor.update_parameters(**launch.options)
        self.using = dict.fromkeys(gpus() if launch.cluster == "local" else (), 0)  # jobs on each GPU of this machine
        self.submitted: list[Any] = []
        self.stopping = False
        self.lock = threading.Lock()

    def carry_out(self, job: Job) -> None:
        """Submit the job until it has ended by itself."""
        for attempt in range(1, TRIES + 1):
            with self.lock:
                if self.stopping:
                    return
                gpu = self.take_gpu()
                submitted = self.executor.submit(job)
                self.submitted.append(submitted)
            number, log = submitted.job_id, submitted.paths.stderr
            console.print(f"{job.name}: job {number}, log {submitted.paths.stdout}", markup=False)
            ended = self.has_ended_by_itself(submitted)
            if gpu is not None:
                self.using[gpu] -= 1
            if ended:
                if submitted.exception():
                    raise RuntimeError(f"job {number} ({job.name}) failed; {log} ends with:\n{end_of(log)}")
                return console.print(f"{job.name}: job {number} has ended", style="dim", markup=False)
            if not self.stopping:
                again = "it runs again" if attempt < TRIES else f"it was killed {TRIES} times"
                console.print(f"{job.name}: job {number} was killed; {again}", markup=False)
        if not self.stopping:
            raise ValueError(
                f"the job for {job.name} was killed {TRIES} times, perhaps for lack of memory; its last log is {log}; "
                "the same command continues where it stopped"
            )

    def take_gpu(self) -> int | None:
        """The GPU of this machine for the next job, the one with the fewest jobs; None if there is none, or Slurm gives it."""
        if not self.using:
            return None
        gpu = min(self.using, key=lambda number: self.using[number])
        self.using[gpu] += 1
        self.executor.update_parameters(gpus_per_node=1, visible_gpus=(gpu,))
        return gpu

    def has_ended_by_itself(self, submitted: Any) -> bool:
        """Wait for the end of a job. False if it was killed: then it leaves no file for its result.

        Slurm's queue is read, not submitit's state of the job: this needs Slurm's accounting, and is up to 10 minutes old.
        """
        result: Path = submitted.paths.result_pickle
        looked = time.monotonic()
        while not result.exists():
            if self.cluster == "local" and submitted.done():
                break
            if self.cluster == "slurm" and time.monotonic() - looked > LOOK:
                if not is_queued(submitted.job_id):
                    time.sleep(LATE)
                    break
                looked = time.monotonic()
            time.sleep(0.5)
        return result.exists()

    def stop(self) -> None:
        """Stop what still runs: trainings finish their step and are saved."""
        with self.lock:
            self.stopping = True
        for job in self.submitted:
            if self.cluster == "slurm":
                job.cancel(check=False)
            elif not job.done():
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)  # submitit's process sends it on


def gpus() -> list[int]:
    """The numbers of the GPUs of this machine that this process may use."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [int(number) for number in named] if all(map(str.isdigit, named)) else list(range(torch.cuda.device_count()))


def is_queued(number: str) -> bool:
    """Whether the job waits or runs in Slurm, or may do so: the controller does not respond at the moment."""
    done = subprocess.run(["squeue", "--noheader", "--jobs", number], capture_output=True, text=True)
    return bool(done.stdout.strip()) if done.returncode == 0 else "Invalid job id" not in done.stderr


def end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LINES:]) if log.exists() else "(there is no log)"

"""Work for jobs of LAUNCH. Jobs import it, so it is in a module of its own. `folder` is where they leave what they did."""

import os
import signal
import time
from pathlib import Path


def once(folder: Path, name: str) -> bool:
    """Whether this is the first time that this is called with `name`."""
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def plain(folder: Path) -> None:
    (folder / "plain").write_text(os.environ.get("SUBMITIT_EXECUTOR", ""))


def killed_once(folder: Path) -> None:
    if once(folder, "killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "after the kill").touch()


def preempted_once(folder: Path) -> None:
    if once(folder, "preempted"):
        os.kill(os.getpid(), signal.SIGUSR2)
        raise AssertionError("the signal ends the job")
    (folder / "after the preemption").write_text(os.environ.get("SLURM_JOB_ID") or os.environ["SUBMITIT_LOCAL_JOB_ID"])


def always_killed(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fault(folder: Path) -> None:
    raise RuntimeError("a fault of ours")


def refused(folder: Path) -> None:
    raise ValueError("bad input")


def cores(folder: Path) -> None:
    import torch

    from core import hardware

    (folder / "cores").write_text(f"{hardware.cores()} {torch.get_num_threads()}")


def gpu(folder: Path) -> None:
    (folder / f"gpu {os.environ['CUDA_VISIBLE_DEVICES']}").touch()


def slow(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)

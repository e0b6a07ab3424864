"""What a GPU gets right: its precision, steps that never wait, and the same results as the CPU.

    python -m benchmarks.gpu

Every check is a row: what was seen, and whether it is right. The command exits with 1 if one is not. `benchmarks.training`
measures the speed; `make bench-gpu` runs both.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, NamedTuple
from unittest.mock import patch

import torch
import typer
from torch import Tensor, nn

from benchmarks.conditions import RESULTS, conditions, started_with
from benchmarks.table import with_section
from benchmarks.training import loss, network_of, random_images
from compress.device import device_and_precision, device_batches, on_device, reestimated, to_device
from compress.fit import quick, step_of
from compress.importance import accumulate_gradients
from compress.schedule import Schedule, optimizer_for
from compress.teach import Teaching, teaching_loss
from compress.top1 import right
from core.console import console
from data.augment import Augment
from data.loader import Split, batches

PACKAGES = ("torch", "numpy")
STEPS, BATCH = 8, 128
CPU = torch.device("cpu")


class Check(NamedTuple):
    """What was looked at, what was seen, and whether that is right."""

    name: str
    seen: str
    right: bool


def main(
    model: str = "resnet20",
    results: Annotated[Path, typer.Option(help="Markdown file to write to")] = RESULTS,
) -> None:
    """Check the training of MODEL on the GPU of this machine."""
    if not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use; expected one for bench-gpu")
    network = network_of(model, 0.0, 32)
    with tempfile.TemporaryDirectory() as work:
        images = Path(work) / "images"
        random_images(images, BATCH * (STEPS + 4))
        checks = [
            precision(),
            same_images(images),
            waits("a step of train", network, images),
            waits("a step of distill", network, images, teacher=copy.deepcopy(network)),
            recorded(network, images),
            gradients(network, images),
            predictions(network, images),
        ]
    for check in checks:
        console.print(f"{'ok' if check.right else 'WRONG':5} {check.name}: {check.seen}", markup=False)
    lines = [conditions("benchmarks.gpu", PACKAGES), "", "| check | seen | right |", "|---|---|---|"]
    lines += [f"| {check.name} | {check.seen} | {'yes' if check.right else 'no'} |" for check in checks]
    title = f"Checks on {torch.cuda.get_device_name()}"
    results.write_text(with_section(results.read_text() if results.exists() else "", title, lines))
    if not all(check.right for check in checks):
        raise typer.Exit(1)


def precision() -> Check:
    """bf16 from compute capability 8.0 on, fp16 before."""
    _, dtype = device_and_precision()
    major, minor = torch.cuda.get_device_capability()
    expected = torch.bfloat16 if major >= 8 else torch.float16
    return Check("precision of training", f"{dtype} at compute capability {major}.{minor}", dtype is expected)


def same_images(images: Path) -> Check:
    """Batches on the GPU have the pixels of the batches on the CPU, moved and flipped alike."""
    split = Split(images, "train", Augment(flip=True, shift=4), seed=3)
    pairs = zip(batches(split, BATCH, shuffle=True), device_batches(split, BATCH, shuffle=True), strict=True)
    apart = max(float((x - there.cpu()).abs().max()) for (x, _), (there, _) in pairs)
    return Check("largest difference of augmented images, GPU and CPU", f"{apart:g}", apart == 0)


def waits(name: str, network: nn.Module, images: Path, teacher: nn.Module | None = None) -> Check:
    """How often the CPU waits for the GPU in `STEPS` steps, after a few that record kernels."""
    model = copy.deepcopy(network)
    schedule = Schedule(epochs=1, batch_size=BATCH, augment=Augment(flip=True, shift=4), ema=0.99)
    with tempfile.TemporaryDirectory() as out:
        teaching = Teaching(augment=schedule.augment)
        its_loss = loss if teacher is None else teaching_loss(teacher, teaching, Path(out), images)
        found = steps_of(model, its_loss, schedule, images, watched=True)
    return Check(f"waits for the GPU in {STEPS} steps: {name}", ", ".join(found) or "none", not found)


def recorded(network: nn.Module, images: Path) -> Check:
    """Training from recorded kernels leaves the weights of training without; in float32 only the order of sums differs."""
    schedule = Schedule(epochs=1, batch_size=BATCH, augment=None, lr=0.01)
    with training_on(device_and_precision()[0]):
        models = [copy.deepcopy(network), copy.deepcopy(network)]
        steps_of(models[0], loss, schedule, images)
        steps_of(models[1], loss, schedule, images, recording=False)
    ours, plain = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models)
    apart = float((ours - plain).norm() / plain.norm())
    return Check("weights after training from recordings and without, relative difference", f"{apart:.1e}", apart < 1e-3)


def gradients(network: nn.Module, images: Path) -> Check:
    """Taylor's gradients on the GPU and on the CPU."""

    def on(device: torch.device) -> Tensor:
        model = copy.deepcopy(network)
        with training_on(device):
            accumulate_gradients("taylor", model, device_batches(Split(images, "train"), 64, limit=256))
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    there, here = on(device_and_precision()[0]), on(CPU)
    apart = float((there - here).norm() / here.norm())
    return Check("gradients for pruning, GPU and CPU, relative difference", f"{apart:.1e}", apart < 1e-2)


def predictions(network: nn.Module, images: Path) -> Check:
    """Predictions with batch norm re-estimated, all on the GPU and all on the CPU."""

    def on(device: torch.device) -> Tensor:
        model, split = copy.deepcopy(network), Split(images, "train")
        with training_on(device):
            reestimated(model, split, 512)
            right(model, split)  # as the training judges; moves there and back
            with torch.inference_mode(), on_device(model.eval()):
                return torch.cat([model(x).argmax(1).cpu() for x, _ in device_batches(split, BATCH)])

    there, here = on(device_and_precision()[0]), on(CPU)
    same = float((there == here).float().mean())
    return Check("share of equal predictions, GPU and CPU", f"{same:.2%} of {len(here)}", same > 0.98)


def steps_of(
    model: nn.Module,
    its_loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    schedule: Schedule,
    images: Path,
    watched: bool = False,
    recording: bool = True,
) -> list[str]:
    """Train `model` for some steps as `fit` does; returns where the CPU waited in the last `STEPS`, if `watched`."""
    split = Split(images, "train", schedule.augment)
    device = to_device(model.train())
    step = step_of(model, its_loss, optimizer_for(model, schedule, lambda name: schedule.lr))
    feed = device_batches(split, BATCH, shuffle=True)
    found: list[str] = []
    with quick(model, device, schedule if recording else schedule.model_copy(update={"accumulate": 2})):
        for number in range(STEPS + 4):
            with waiting(found) if watched and number >= 4 else nullcontext():
                x, y = next(feed)
                step(x, y)
    return found


@contextmanager
def waiting(found: list[str]) -> Iterator[None]:
    """Inside, every time the CPU waits for the GPU adds the line of code to `found`."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [
                f"{Path(one.filename).name}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)
            ]


@contextmanager
def training_on(device: torch.device) -> Iterator[None]:
    """Inside, `device` trains in whole float32."""
    with (
        patch("compress.device.device_and_precision", lambda: (device, torch.float32)),
        patch("compress.fit.device_and_precision", lambda: (device, torch.float32)),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


if __name__ == "__main__":
    started_with(main)

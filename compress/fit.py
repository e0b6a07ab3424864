"""The training loop that all training stages share: one-cycle SGD, mixed precision, a checkpoint every epoch, resume."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.average import Average
from compress.minutes import epochs_within, seconds_of_an_epoch
from compress.on_cpu import quick_on_cpu
from compress.schedule import Schedule, epochs_of, optimizer_for, set_lr
from core.console import console, progress
from data.loader import Batch, Split, batches

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Epoch(TypedDict):
    """The mean training loss of an epoch, and top-1 in percent where there are held-out images."""

    loss: float
    val_top1: float | None


@dataclass(frozen=True)
class Task:
    """What is trained.

    model        trained in place; parameters that need no gradient stay as they are
    loss         loss(model, x, y), of float32 images [N, C, H, W] and int64 labels [N]
    images       folder of the index stage
    label        names the training on the console and in notes
    before_step  called before every step, with the share of the training that is done
    by_index     y are positions in the training split instead of labels
    lr_of        the peak learning rate of the parameter with that name; None: the schedule's for all
    decode       False saves the time to decode images that the loss does not read
    """

    model: nn.Module
    loss: Loss
    images: Path
    label: str
    before_step: Callable[[float], None] = lambda share: None
    by_index: bool = False
    lr_of: Callable[[str], float] | None = None
    decode: bool = True


def fit(task: Task, schedule: Schedule, out: Path, since: float | None = None) -> dict[str, Any]:
    """Train the model of `task`. At the end it has the weights of the epoch that `schedule.keep` names: of the last epoch also
    where no images are held out. With `schedule.ema` these are averaged weights.

    `schedule.minutes` count from `since`, the time.perf_counter() when the stage began; None: from now.
    Every epoch replaces `out`/epoch.pt; when this file is there at the start, the training continues after it.
    Raises ValueError when the loss is no longer finite.
    """
    model = task.model
    since = time.perf_counter() if since is None else since
    device, dtype = device_and_precision()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format
    optimizer = optimizer_for(model, schedule, task.lr_of or (lambda name: schedule.lr))
    train_step = step_of(model, task.loss, optimizer)
    train, val = Split(task.images, "train"), Split(task.images, "val")
    steps = max(1, len(train) // schedule.batch_size)
    average = Average(model, schedule.ema) if schedule.ema else None
    history: list[Epoch] = []
    saved, kept = out / "epoch.pt", out / "kept.safetensors"

    def epoch_of(number: int) -> Iterator[Batch]:
        split = Split(task.images, "train", schedule.augment, schedule.seed * 1000 + number)
        if task.by_index:
            split.labels = np.arange(len(split))
        split.decode = task.decode
        return batches(split, schedule.batch_size, shuffle=True)

    def planned() -> tuple[int, list[str]]:
        """The number of epochs, and notes about it."""
        if schedule.minutes is None or not schedule.epochs:
            return epochs_of(schedule, steps), []
        still = step_of(model, task.loss, optimizer_for(model, schedule, lambda name: 0.0))

        def trial(share: float, x: Tensor, y: Tensor) -> Tensor:
            task.before_step(share)
            return still(x, y)

        given = 60 * schedule.minutes
        seconds = seconds_of_an_epoch(model, trial, lambda: epoch_of(0), steps, lambda: top1(model, val), given)
        left = since + given - time.perf_counter()
        return epochs_within(left, seconds), minutes_notes(task.label, seconds, left, schedule.minutes)

    with quick_on_cpu(model, device):
        if saved.exists():
            state = torch.load(saved, map_location=device, weights_only=True)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            if average:
                average.values = state["average"]
            history, epochs, notes = state["history"], state["epochs"], state["notes"]
        else:
            epochs, notes = planned()
        first = len(history)
        task.before_step(first / max(1, epochs))
        with progress() as bar:
            row = bar.add_task(task.label, total=epochs * steps, completed=first * steps)
            for epoch in range(first, epochs):
                torch.manual_seed(schedule.seed * 1000 + epoch)
                model.train()
                total = torch.zeros((), device=device)
                for step, (x, y) in enumerate(epoch_of(epoch)):
                    set_lr(optimizer, schedule.warmup, epoch * steps + step, epochs * steps)
                    task.before_step((epoch + step / steps) / epochs)
                    total += train_step(x, y)
                    if average:
                        average.update(model, epoch * steps + step)
                    bar.advance(row)
                    if step % 50 == 49 or step == steps - 1:
                        check_finite(float(total), schedule, epoch, step)
                with average.inside(model) if average else nullcontext():
                    history.append({"loss": float(total) / steps, "val_top1": top1(model, val)})
                    if schedule.keep == "last" or best_epoch(history) == len(history):
                        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, kept)
                bar.console.print(f"  {task.label}: epoch {epoch + 1}/{epochs}, {described(history[-1])}")
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
                state |= {"epochs": epochs, "notes": notes, "average": average.values if average else None}
                temporary = saved.with_suffix(".tmp")
                torch.save(state, temporary)
                temporary.replace(saved)
    if history:
        model.load_state_dict(load_file(kept))
    model.eval()
    return {
        "epochs": epochs,
        "history": history,
        "best_epoch": best_epoch(history),
        "precision": str(dtype).removeprefix("torch."),
        "notes": notes,
    }


def step_of(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that makes one training step on a batch (x, y), in mixed precision, and returns the loss before the step."""
    device, dtype = device_and_precision()
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.to(device, memory_format=torch.channels_last), y.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            value = loss(model, x, y)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        return value.detach()

    return step


def tidy(out: Path) -> None:
    """Remove the files that only an interrupted stage needs; a training stage calls this last."""
    for name in ("epoch.pt", "kept.safetensors", "teacher.npy", "features.npy"):
        (out / name).unlink(missing_ok=True)


def dataset_of(images: Path) -> dict[str, Any]:
    """The description of `images` (dataset.json).

    Raises ValueError when there is nothing to train on: no training images, or fewer than two classes.
    """
    dataset: dict[str, Any] = json.loads((images / "dataset.json").read_text())
    classes = dataset["classes"]
    if not dataset["trainable"]:
        raise ValueError(f"DATA {dataset['name']} has no labelled training images; expected train/<class>/* to train on")
    if len(classes) < 2:
        found = f"only one class ({classes[0]})" if classes else "no classes"
        raise ValueError(f"DATA {dataset['name']} has {found}; expected at least 2: add folders train/<class>/")
    return dataset


def described(epoch: Epoch) -> str:
    held_out = "no held-out images" if epoch["val_top1"] is None else f"held-out top-1 {epoch['val_top1']:.2f} %"
    return f"loss {epoch['loss']:.3f}, {held_out}"


def minutes_notes(label: str, an_epoch: float, left: float, minutes: float) -> list[str]:
    """A note when not even one epoch fits into `minutes`; `an_epoch` takes and of the minutes are `left` so many seconds."""
    console.print(f"  {label}: about {an_epoch:.3g} s per epoch, {epochs_within(left, an_epoch)} in {minutes:g} minutes")
    if an_epoch <= left:
        return []
    times = f"{an_epoch / 60:.3g} min; {max(0.0, left) / 60:.3g} min were left for training"
    return [f"{label}: --minutes {minutes:g} is too short for one epoch ({times}); one epoch was run anyway."]


def best_epoch(history: list[Epoch]) -> int:
    """1-based; the last of equal ones and where no images are held out, 0 when nothing was trained."""
    return max(range(len(history)), key=lambda i: (history[i]["val_top1"] or 0.0, i), default=-1) + 1


def check_finite(total: float, schedule: Schedule, epoch: int, step: int) -> None:
    if not math.isfinite(total):
        raise ValueError(
            f"the loss became {total} in epoch {epoch + 1}, by step {step + 1}; expected a finite loss: "
            f"lower the learning rate (now {schedule.lr}) with --set <stage>.lr=…"
        )


def device_and_precision() -> tuple[torch.device, torch.dtype]:
    """CUDA where there is a GPU; bf16 where the hardware multiplies it, fp16 on older GPUs, else float32."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


def top1(model: nn.Module, split: Split, batch_size: int = 250) -> float | None:
    """Top-1 of `model` on `split` in percent, in the training precision; for choices, never for the gate.

    None when `split` has no images.
    """
    return 100 * float(right(model, split, batch_size).mean()) if len(split) else None


@torch.inference_mode()
def right(model: nn.Module, split: Split, batch_size: int = 250) -> np.ndarray:
    """Which images of `split` `model` predicts correctly, in the training precision: bool [N]."""
    device, dtype = device_and_precision()
    home = next(model.parameters()).device
    model.eval().to(device)
    found = [np.zeros(0, bool)]
    for x, y in batches(split, batch_size):
        x = x.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            found.append((model(x).argmax(1).cpu() == y).numpy())
    model.to(home)
    return np.concatenate(found)

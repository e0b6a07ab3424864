"""The training loop that all training stages share: one-cycle SGD, mixed precision, a checkpoint every epoch, resume."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.pointwise import as_products
from data.loader import Augment, Split, batches
from pipeline.config import Config
from pipeline.console import progress

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Epoch(TypedDict):
    """What is kept of an epoch: the mean training loss, and top-1 in percent where there are held-out images."""

    loss: float
    val_top1: float | None


class Schedule(Config):
    """SGD with Nesterov momentum, linear warm-up then cosine to zero. `warmup` is a share of all steps.

    `epochs` suit many images; of few, epochs are added until `min_steps` batches were seen. No epochs stay none.
    """

    epochs: int = Field(ge=0)
    min_steps: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, gt=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.15
    seed: int = 0
    augment: Augment | None = Augment()


def fit(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    images: Path,
    out: Path,
    label: str,
    before_step: Callable[[float], None] = lambda share: None,
    by_index: bool = False,
    lr_of: Callable[[str], float] | None = None,
    decode: bool = True,
) -> dict[str, Any]:
    """Train `model` in place and leave it with the weights of the epoch that was best on the held-out slice (of the last
    epoch where nothing is held out).

    `loss(model, x, y)` takes float32 [N, C, H, W] and the int64 [N] labels, or with `by_index` where in the training split
    the images are; `before_step` is told the share of training done.
    A loss that does not look at x saves the time to `decode` the images. Parameters that need no gradient stay as they are;
    `lr_of` gives the peak learning rate of the one with that name.
    After every epoch `out/epoch.pt` is replaced; when it is there already, training continues after it.
    Raises ValueError when the loss is no longer finite.
    """
    device, dtype = device_and_precision()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks memory_format
    optimizer = optimizer_for(model, schedule, lr_of or (lambda name: schedule.lr))
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    train, val = Split(images, "train"), Split(images, "val")
    steps = max(1, len(train) // schedule.batch_size)
    epochs, first = epochs_of(schedule, steps), 0
    history: list[Epoch] = []
    saved, best = out / "epoch.pt", out / "best.safetensors"
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history, first = state["history"], len(state["history"])
    before_step(first / max(1, epochs))
    with progress() as bar, as_products(model, device):
        task = bar.add_task(label, total=epochs * steps, completed=first * steps)
        for epoch in range(first, epochs):
            torch.manual_seed(schedule.seed * 1000 + epoch)
            split = Split(images, "train", schedule.augment, schedule.seed * 1000 + epoch)
            if by_index:
                split.labels = np.arange(len(split))
            split.decode = decode
            model.train()
            total = torch.zeros((), device=device)
            for step, (x, y) in enumerate(batches(split, schedule.batch_size, shuffle=True)):
                set_lr(optimizer, schedule.warmup, epoch * steps + step, epochs * steps)
                before_step((epoch + step / steps) / epochs)
                x, y = x.to(device, memory_format=torch.channels_last), y.to(device)
                with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                    value = loss(model, x, y)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(value).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
                total += value.detach()
                bar.advance(task)
                if step % 50 == 49 or step == steps - 1:
                    check_finite(float(total), schedule, epoch, step)
            history.append({"loss": float(total) / steps, "val_top1": top1(model, val)})
            bar.console.print(f"  {label}: epoch {epoch + 1}/{epochs}, {told(history[-1])}")
            if best_epoch(history) == len(history):
                save_file({k: v.contiguous() for k, v in model.state_dict().items()}, best)
            temporary = saved.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}, temporary)
            temporary.replace(saved)
    if history:
        model.load_state_dict(load_file(best))
    model.eval()
    return {
        "epochs": epochs,
        "history": history,
        "best_epoch": best_epoch(history),
        "precision": str(dtype).removeprefix("torch."),
    }


def tidy(out: Path) -> None:
    """Remove what only an interrupted stage needs; the last thing a training stage does."""
    for name in ("epoch.pt", "best.safetensors", "teacher.npy", "features.npy"):
        (out / name).unlink(missing_ok=True)


def dataset_of(images: Path) -> dict[str, Any]:
    """The description of `images` (dataset.json).

    Raises ValueError when there is nothing to train on: no training images, or fewer than two classes to tell apart.
    """
    dataset: dict[str, Any] = json.loads((images / "dataset.json").read_text())
    classes = dataset["classes"]
    if not dataset["trainable"]:
        raise ValueError(f"DATA {dataset['name']} has no labelled training images; expected train/<class>/* to train on")
    if len(classes) < 2:
        found = f"only one class ({classes[0]})" if classes else "no classes"
        raise ValueError(f"DATA {dataset['name']} has {found}; expected at least 2 to tell apart: add folders train/<class>/")
    return dataset


def epochs_of(schedule: Schedule, steps: int) -> int:
    """How often to go through the training images when that takes `steps` batches."""
    return max(schedule.epochs, math.ceil(schedule.min_steps / steps)) if schedule.epochs else 0


def told(epoch: Epoch) -> str:
    held_out = "nothing held out" if epoch["val_top1"] is None else f"held-out top-1 {epoch['val_top1']:.2f} %"
    return f"loss {epoch['loss']:.3f}, {held_out}"


def best_epoch(history: list[Epoch]) -> int:
    """1-based; the last of equals and where nothing is held out, 0 when nothing was trained."""
    return max(range(len(history)), key=lambda i: (history[i]["val_top1"] or 0.0, i), default=-1) + 1


def check_finite(total: float, schedule: Schedule, epoch: int, step: int) -> None:
    if not math.isfinite(total):
        raise ValueError(
            f"the loss became {total} in epoch {epoch + 1}, by step {step + 1}; expected a finite loss: "
            f"lower the learning rate (now {schedule.lr}) with --set <stage>.lr=…"
        )


def device_and_precision() -> tuple[torch.device, torch.dtype]:
    """CUDA when there is one; bf16 where the hardware multiplies it, fp16 on older GPUs, else float32."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


def optimizer_for(model: nn.Module, schedule: Schedule, lr_of: Callable[[str], float]) -> torch.optim.SGD:
    """SGD without weight decay on norms and biases; a group of parameters for every pair of learning rate and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr_of(name), decay), []).append(parameter)
    optimizer = torch.optim.SGD(
        [{"params": found, "lr": lr, "peak_lr": lr, "weight_decay": decay} for (lr, decay), found in groups.items()],
        momentum=schedule.momentum,
        nesterov=True,
        fused=True,
    )
    for group in optimizer.param_groups:  # fused SGD wants them all at once, those of skipped blocks too
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, share: float, step: int, steps: int) -> None:
    """Every group's part of its own peak: rising for `share` of the steps, then falling."""
    warmup = share * steps
    rising = (step + 1) / max(1.0, warmup)
    falling = 0.5 * (1 + math.cos(math.pi * max(0.0, step - warmup) / max(1.0, steps - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * min(1.0, rising, falling)


@torch.inference_mode()
def top1(model: nn.Module, split: Split, batch_size: int = 250) -> float | None:
    """Percent of `split` that `model` gets right, in the training precision; for choices, never for the gate.

    None when `split` has no images.
    """
    if not len(split):
        return None
    device, dtype = device_and_precision()
    home = next(model.parameters()).device
    model.eval().to(device)
    right = 0
    for x, y in batches(split, batch_size):
        x = x.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            right += int((model(x).argmax(1).cpu() == y).sum())
    model.to(home)
    return 100 * right / len(split)

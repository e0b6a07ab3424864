"""The training loop that all training stages share: one-cycle SGD, mixed precision, a checkpoint every epoch, resume."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from compress.average import Average
from compress.device import device_and_precision, device_batches, to_device
from compress.follow import changes, facts_of
from compress.gradients import Gradients
from compress.minutes import Pace, minutes_notes, pace_of
from compress.mix import changed, check_sizes
from compress.on_cpu import quick_on_cpu
from compress.on_gpu import quick_on_gpu
from compress.parallel import averaging, check_batch, mean_over_ranks, on_all_ranks, whole_batch_norm
from compress.schedule import Schedule, epochs_of, optimizer_for, set_lr
from compress.top1 import top1
from core import ranks, stop
from core.console import progress
from data.loader import Batch, Split
from data.policy import Policy
from models.blocks import stochastic_depth

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
SEEDS = 10**6  # between the seeds of two ranks, for dropout


class Epoch(TypedDict):
    """The mean training loss, top-1 in percent where there are held-out images, and what `Task.after_epoch` measured."""

    loss: float
    val_top1: float | None
    measured: NotRequired[dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What is trained.

    model        trained in place; parameters that need no gradient stay as they are
    loss         loss(model, x, y), of float32 images [N, C, H, W] and int64 labels [N]; float32 probabilities [N, classes]
                 where `Schedule.mixup` or `Schedule.cutmix` mixes images
    images       folder of the index stage
    label        names the training on the console and in notes
    before_step  called before every step, with the share of the training that is done
    by_index     y are positions in the training split instead of labels
    lr_of        the peak learning rate of the parameter with that name; None: the schedule's for all
    decode       False saves the time to decode images that the loss does not read
    partly       there are steps that do not use all parameters that are trained
    after_epoch  measures the model after every epoch
    """

    model: nn.Module
    loss: Loss
    images: Path
    label: str
    before_step: Callable[[float], None] = lambda share: None
    by_index: bool = False
    lr_of: Callable[[str], float] | None = None
    decode: bool = True
    partly: bool = False
    after_epoch: Callable[[nn.Module], dict[str, float]] | None = None


def fit(task: Task, schedule: Schedule, out: Path, since: float | None = None) -> dict[str, Any]:
    """Train the model of `task`. At the end it has the weights of the last epoch, with `schedule.ema` averaged ones.

    The learning rate ends at zero, so the last epoch is the best one but for chance. An epoch that was chosen on the held-out
    images would flatter the student there, and a user's checkpoint may know these images by heart.

    The minutes of `schedule` count from `since`, the time.perf_counter() when the stage began; None: from now.
    Every epoch replaces `out`/epoch.pt; when this file is there at the start, the training continues after it. A signal
    (core/stop.py) saves it after the present step. At the end, `out`/gradients.json has the norms of the gradients per layer
    and epoch. On several ranks (core/ranks.py) each computes its part of every batch; the main process writes the files.
    Raises ValueError when the loss is no longer finite, when there are more ranks than images in a batch, and for settings that
    do not fit the images or the model.
    """
    model = task.model
    since = time.perf_counter() if since is None else since
    _, dtype = device_and_precision()
    device = to_device(model)
    optimizer = optimizer_for(model, schedule, task.lr_of or (lambda name: schedule.lr))
    train, val = Split(task.images, "train"), Split(task.images, "val")
    steps = max(1, len(train) // schedule.batch_size)
    batch = min(schedule.batch_size, len(train))
    check_batch(batch, schedule.accumulate, task.label)
    check_sizes(schedule, train.spec["input_size"])
    classes = len(train.dataset["classes"])
    average = Average(model, schedule.ema) if schedule.ema else None
    gradients = Gradients(model)
    history: list[Epoch] = []
    done, total = 0, torch.zeros((), device=device)  # steps of the present epoch, and their losses
    random: Tensor | None = None  # the state of the random numbers before the next step
    saved = out / "epoch.pt"

    def planned() -> tuple[int, list[str]]:
        """The number of steps of the whole training, and notes about it."""
        wanted = epochs_of(schedule, steps) * steps
        minutes = schedule.minutes or schedule.most_minutes
        if minutes is None or not wanted:
            return wanted, []
        pace = pace_on(task, schedule, 60 * minutes)
        left = since + 60 * minutes - time.perf_counter()
        fitting = pace.steps_within(left, steps)
        total = fitting if schedule.minutes else min(wanted, fitting)
        return total, minutes_notes(task.label, pace, steps, total, minutes)

    if ranks.agreed(saved.exists()):
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average:
            average.values = state["average"]
        gradients.epochs, gradients.read = state["gradients"]
        history, total_steps, notes = state["history"], state["steps"], state["notes"]
        done, total, random = state["epoch"]
    else:
        total_steps, notes = ranks.agreed(planned())
    train_step = step_of(model, task.loss, optimizer, batch, task.partly, schedule.accumulate, schedule.clip)
    epochs, first = math.ceil(total_steps / steps), len(history)
    task.before_step((first * steps + done) / max(1, total_steps))

    def save() -> None:
        state: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
        state |= {"steps": total_steps, "notes": notes, "average": average.values if average else None}
        state |= {"gradients": (gradients.epochs, gradients.read), "epoch": (done, total, torch.get_rng_state())}
        if ranks.is_main():
            temporary = saved.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(saved)

    with quick(model, device, schedule), progress() as bar, stop.after_steps(save) as after_step:
        row = bar.add_task(task.label, total=total_steps, completed=first * steps + done)
        steady = epochs_from(task, schedule, first, epochs, done)
        for epoch in range(first, epochs):
            torch.manual_seed(schedule.seed * 1000 + epoch + SEEDS * ranks.rank())
            random = random if done else torch.get_rng_state()
            model.train()
            of_epoch = min(steps, total_steps - epoch * steps)
            for step, (x, y) in enumerate(islice(steady, of_epoch - done), start=done):
                if random is not None:  # not before: the loader draws from them, too
                    torch.set_rng_state(random.cpu())
                    random = None
                set_lr(optimizer, schedule.warmup, epoch * steps + step, total_steps, schedule.drops)
                share = (epoch * steps + step) / total_steps
                task.before_step(share)
                total += train_step(*changed(schedule, classes, share, x, y))
                gradients.after(step, of_epoch)
                if average:
                    average.update(model, epoch * steps + step)
                bar.advance(row)
                if step % 50 == 49 or step == of_epoch - 1:
                    check_finite(mean_over_ranks(total), schedule, epoch, step)
                done = step + 1
                after_step()
            gradients.finish_epoch()
            with average.inside(model) if average else nullcontext():
                history.append({"loss": mean_over_ranks(total) / of_epoch, "val_top1": top1(model, val)})
                if task.after_epoch:
                    history[-1]["measured"] = task.after_epoch(model)
            bar.console.print(f"  {task.label}: epoch {epoch + 1}/{epochs}, {described(history[-1])}")
            done, total = 0, torch.zeros((), device=device)
            save()
    if average:
        model.load_state_dict(average.values)
    model.eval()
    if ranks.is_main():
        gradients.save(out)
    return {
        "epochs": epochs if total_steps == epochs * steps else round(total_steps / steps, 2),
        "history": history,
        "augmentation": changes(facts_of(train.dataset), schedule),
        "precision": str(dtype).removeprefix("torch."),
        "notes": notes,
        "processes": ranks.size(),
    }


def epochs_from(task: Task, schedule: Schedule, first: int, epochs: int, after: int = 0) -> Iterator[Batch]:
    """The batches of the epochs `first` … `epochs` - 1, one after the other, without the first `after` ones."""
    split = Split(task.images, "train", schedule.augment)
    if task.by_index:
        split.labels = np.arange(len(split))
    split.decode = task.decode
    policy = Policy(schedule.policy, len(split), schedule.policy_layers, schedule.policy_magnitude) if schedule.policy else None
    seeds = [schedule.seed * 1000 + number for number in range(first, epochs)]
    return device_batches(split, schedule.batch_size, policy, shuffle=True, divided="batches", seeds=seeds, after=after)


def pace_on(task: Task, schedule: Schedule, given: float) -> Pace:
    """The pace of the training `task` on this machine; `given` are the seconds that it has. The model does not change."""
    model = task.model
    device = to_device(model)
    train, val = Split(task.images, "train"), Split(task.images, "val")
    batch, classes = min(schedule.batch_size, len(train)), len(train.dataset["classes"])
    unchanging = optimizer_for(model, schedule, lambda name: 0.0)
    still = step_of(model, task.loss, unchanging, batch, task.partly, schedule.accumulate, schedule.clip)

    def trial(share: float, x: Tensor, y: Tensor) -> Tensor:
        task.before_step(share)
        return still(*changed(schedule, classes, share, x, y))

    with quick(model, device, schedule):
        return pace_of(model, trial, lambda: epochs_from(task, schedule, 0, 1), lambda: top1(model, val), given)


@contextmanager
def quick(model: nn.Module, device: torch.device, schedule: Schedule) -> Iterator[None]:
    """Inside, `model` trains on `device` as fast as that can; several processes see batch norm as `schedule` says."""
    with (
        whole_batch_norm(model, device, schedule.sync_batch_norm),
        quick_on_cpu(model, device),
        quick_on_gpu(model, device, schedule.accumulate == 1),
        stochastic_depth(model, schedule.stochastic_depth),
    ):
        yield


def step_of(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    batch: int | None = None,
    partly: bool = False,
    accumulate: int = 1,
    clip: float | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that makes one training step on a batch (x, y), in mixed precision, and returns the loss before the step.

    On several ranks, (x, y) is the part of this rank of a `batch` of so many images; its loss is weighted so that the mean over
    the ranks is the loss of the whole batch. `partly` as in `Task`, `accumulate` and `clip` as in `Schedule`.
    """
    device, dtype = device_and_precision()
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    loss_of = on_all_ranks(model, loss, partly)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(x: Tensor, y: Tensor) -> Tensor:
        weight = ranks.size() / (batch or len(x))
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        parts = list(zip(x.tensor_split(accumulate), y.tensor_split(accumulate), strict=True))
        for number, (part, its) in enumerate(parts, start=1):
            with averaging(loss_of, number == len(parts)):
                with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                    value: Tensor = loss_of(part, its) * (len(part) * weight)
                scaler.scale(value).backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, clip)
        scaler.step(optimizer)
        scaler.update()
        return total

    return step


def tidy(out: Path) -> None:
    """Remove the files that only an interrupted stage needs; a training stage calls this last."""
    for name in ("epoch.pt", "teacher.npy", "features.npy"):
        (out / name).unlink(missing_ok=True)


def dataset_of(images: Path) -> dict[str, Any]:
    """dataset.json of `images`; ValueError when there is nothing to train on: no training images, or fewer than two classes."""
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


def check_finite(total: float, schedule: Schedule, epoch: int, step: int) -> None:
    if not math.isfinite(total):
        raise ValueError(
            f"the loss became {total} in epoch {epoch + 1}, by step {step + 1}; expected a finite loss: "
            f"lower the learning rate (now {schedule.lr}) with --set <stage>.lr=…"
        )

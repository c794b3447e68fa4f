"""What the training loop costs over a bare PyTorch loop: time of an epoch of ResNet-20, ours / bare.

    python benchmarks/training_loop.py

Same model, data, augmentation, optimizer and schedule, 32-bit floats, no validation. The two take turns step by
step, so that a noisy machine disturbs both; the ratio is the median of the epochs' ratios of processor time on one
thread, which other programs hardly touch; the wall clock's is shown too. The first epoch, in which both set up and
warm up, is left out. Exits 1 when the ratio is above 1.03.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from lessen import models
from lessen.core.processor import name as cpu
from lessen.core.run import Run
from lessen.measure.machine import cpus
from lessen.ops import layers, train
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

STEPS, BATCH, EPOCHS, MOST = 4, 128, 21, 1.03
PLAN = train.Plan(epochs=EPOCHS, batch=BATCH, lr=0.1, momentum=0.9, weight_decay=5e-4)


def bare(model: nn.Module, task: ImageTask) -> Iterator[None]:
    """What one writes by hand: cosine SGD over shuffled, augmented batches; pauses after every step."""
    x, y = task.split("train")
    optimizer = torch.optim.SGD(model.parameters(), lr=PLAN.lr, momentum=PLAN.momentum, weight_decay=PLAN.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(EPOCHS):
        total = 0.0
        for index in torch.randperm(len(y), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(task.augment(x[index], generator)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            yield


def take_turns(task: ImageTask) -> tuple[np.ndarray, np.ndarray]:
    """Times of our loop's steps and of the bare loop's: (epochs, steps, 2), processor and wall seconds."""
    torch.manual_seed(0)
    model, other = (layers.own(models.build("resnet20", classes=10)) for _ in range(2))
    by_hand, marks = bare(other, task), [_now()]

    def turn(_: nn.Module, step: int) -> None:
        marks.append(_now())
        next(by_hand)
        marks.append(_now())

    train.fit(model, task, PLAN, Run(), hooks=[turn])
    spent = np.diff(np.array(marks), axis=0).reshape(EPOCHS, STEPS, 2, 2)
    return spent[:, :, 0], spent[:, :, 1]


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def main() -> int:
    torch.set_num_threads(1)
    random, n = np.random.default_rng(0), STEPS * BATCH
    x, y = random.integers(0, 256, (n, 3, 32, 32), np.uint8), np.arange(n) % 10
    images = Images(x, y, x[:10], y[:10], classes=tuple("0123456789"))
    ours, theirs = (t.sum(1)[1:] for t in take_turns(ImageTask(images, Settings(crop=4, flip=True, validation=0))))
    ratio = 0.0
    for clock, name in ((1, "wall"), (0, "processor")):  # the last one counts
        a, b = statistics.median(theirs[:, clock]), statistics.median(ours[:, clock])
        low, ratio, high = statistics.quantiles(ours[:, clock] / theirs[:, clock], n=4)
        print(f"{name:<10} bare {a:.3f} s, ours {b:.3f} s, ratio {ratio:.3f} (quartiles {low:.3f} to {high:.3f})")
    print(f"n = {EPOCHS - 1} epochs of {STEPS} steps each, ResNet-20, batch {BATCH}")
    print(f"{cpu()}, {len(cpus())} cores, 1 thread, torch {torch.__version__}")
    if ratio > MOST:
        print(f"FAILED: the ratio must be at most {MOST:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

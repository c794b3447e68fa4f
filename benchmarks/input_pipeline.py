"""Images per second of the batched input pipeline against a DataLoader with per-image tensor transforms.

    python benchmarks/input_pipeline.py

Both crop (pad 4), flip and normalize 32 px colour images into shuffled float32 batches, in this process, on one
thread. Rounds alternate, so that a noisy machine disturbs both; the ratio is the median of the rounds' ratios.
Exits 1 when it is under 5.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from lessen.core.processor import name as cpu
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

N, BATCH, PAD, ROUNDS, LEAST = 10_000, 128, 4, 9, 5.0


class PerImage(Dataset):
    """What training scripts usually do: one image at a time, as float tensors."""

    def __init__(self, x: Tensor, y: Tensor, mean: Tensor, std: Tensor) -> None:
        self.x, self.y, self.mean, self.std = x, y, mean.view(3, 1, 1), std.view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image = pad(self.x[i].float().div_(255), (PAD, PAD, PAD, PAD))
        top, left = torch.randint(2 * PAD + 1, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image - self.mean) / self.std, self.y[i]


def batched(task: ImageTask, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """The training loop's way: shuffled positions, then one augmentation a batch."""
    x, y = task.split("train")
    for index in torch.randperm(len(y), generator=generator).split(BATCH):
        yield task.augment(x.index_select(0, index), generator), y.index_select(0, index)


def rate(batches: Iterator[tuple[Tensor, Tensor]] | DataLoader) -> float:
    """Images per second of one pass."""
    start, seen = time.perf_counter(), 0
    for x, _ in batches:
        seen += len(x)
    return seen / (time.perf_counter() - start)


def main() -> int:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (N, 3, 32, 32), np.uint8), np.arange(N) % 10
    images = Images(x, y, x[:10], y[:10], classes=tuple("0123456789"))
    task = ImageTask(images, Settings(crop=PAD, edge="zero", flip=True, validation=0))
    loader = DataLoader(PerImage(*task.split("train"), task.mean, task.std), BATCH, shuffle=True)
    generator = torch.Generator().manual_seed(0)
    rounds = [(rate(batched(task, generator)), rate(loader)) for _ in range(ROUNDS + 1)][1:]  # the first warms up
    ratios = sorted(ours / theirs for ours, theirs in rounds)
    ratio, (low, _, high) = statistics.median(ratios), statistics.quantiles(ratios, n=4)
    print(f"batched      {statistics.median(ours for ours, _ in rounds):>9,.0f} images/s")
    print(f"DataLoader   {statistics.median(theirs for _, theirs in rounds):>9,.0f} images/s")
    print(f"ratio        {ratio:.1f} (quartiles {low:.1f} to {high:.1f}, n = {ROUNDS} rounds of {N:,} images each)")
    print(f"{cpu()}, 1 thread, batch {BATCH}, torch {torch.__version__}")
    if ratio < LEAST:
        print(f"FAILED: the ratio must be at least {LEAST:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

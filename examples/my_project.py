"""A task and a model of your own: lessen compress 'my_project:task/my_project:net(hidden=16)' 'Int8()' -o out"""

import numpy as np
from torch import Tensor, nn

from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask


class Task(ImageTask):
    """Scored by the mean of the classes' recalls, which a rare class counts in as much as a common one."""

    def score(self, outputs: Tensor, y: Tensor) -> float:
        right = outputs.argmax(1) == y
        return sum(right[y == k].float().mean().item() for k in y.unique()) / len(y.unique())


def task(n: int = 400) -> Task:
    """Which half of a grey image is brighter? Any arrays do: x (n, c, h, w) uint8, y (n,) whole numbers from 0."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 200, (2 * n, 1, 8, 8), np.uint8), random.integers(0, 2, 2 * n)
    x[y == 0, :, :, :4] += 40
    x[y == 1, :, :, 4:] += 40
    how = "Finetune(epochs=5, lr=0.1, batch=32)"  # a recipe that trains a fresh model well
    images = Images(x[:n], y[:n], x[n:], y[n:], classes=("left", "right"), baseline=how)
    return Task(images, Settings(crop=1))


def net(shape: tuple[int, ...], classes: int, hidden: int = 8) -> nn.Module:
    """Images (n, *shape) float32 -> logits (n, classes); these two arguments come from the task, the rest from you."""
    return nn.Sequential(
        nn.Conv2d(shape[0], hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * hidden, classes),
    )  # fmt: skip

"""A task of 4 classes of 8 x 8 noise around fixed patterns, and nets small enough to train within a test."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lessen.core.record import Cost
from lessen.core.task import Split, SplitName, Task
from lessen.ops.modes import evaluating
from lessen.ops.unanswered import settled


class TinyTask(Task):
    """`n` training samples, `held` validation samples; a sample is its class's pattern plus noise."""

    text, fingerprint, license, baseline = "tiny()", "tiny", "none", ""
    classes, shape = ("a", "b", "c", "d"), (1, 8, 8)

    def __init__(self, n: int = 96, held: int = 64) -> None:
        g = torch.Generator().manual_seed(0)
        patterns = torch.randint(60, 196, (4, 1, 8, 8), generator=g)
        self.splits = {}
        for name, size in (("train", n), ("validation", held)):
            y = torch.arange(size) % 4
            noise = torch.randint(-60, 60, (size, 1, 8, 8), generator=g)
            self.splits[name] = Split((patterns[y] + noise).to(torch.uint8), y)

    def split(self, name: SplitName) -> Split:
        return self.splits[name]

    def inputs(self, x: Tensor) -> Tensor:
        return (x.float() - 128) / 64

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        moved = torch.randint(2, (len(x), 1, 1, 1), generator=generator, device=x.device) == 1
        return self.inputs(torch.where(moved, x.roll(1, 3), x))

    def loss(self, outputs: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return nn.functional.cross_entropy(outputs, y, label_smoothing=smoothing)

    def score(self, outputs: Tensor, y: Tensor) -> float:
        return (outputs.argmax(1) == y).float().mean().item()

    def preprocess(self) -> dict[str, Any]:
        return {}

    def build(self, model: str) -> nn.Module:
        return net()

    def copy(self, model: nn.Module) -> nn.Module:
        return copy.deepcopy(model)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield

    def cost(self, model: nn.Module) -> Cost:
        n = sum(p.numel() for p in model.parameters())
        return Cost(parameters=n, nonzeros=n, macs=0, weight_bits=32 * n)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, name: SplitName) -> float | None:
        x, y = self.split(name)
        with evaluating(model):
            return self.score(settled(model(self.inputs(x)), y), y) if len(y) else None


def net(seed: int = 0) -> nn.Sequential:
    """Two convolutions with batch norm and dropout, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 4),
        )  # fmt: skip

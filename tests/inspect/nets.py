"""Nets for scans, small enough to try everything."""

from __future__ import annotations

import torch
from torch import nn

from lessen.ops import layers


class Residual(nn.Module):
    """A stem, a block beside a shortcut, in-place activations, a head: all that a scan must get right."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.one, self.two = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.norm, self.add, self.pool = nn.BatchNorm2d(6), layers.Add(), nn.AdaptiveAvgPool2d(2)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(inplace=True), nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.relu1(self.stem_norm(self.stem(x)))
        y = self.norm(self.two(self.relu2(self.one(x))))
        return self.head(torch.flatten(self.pool(self.relu3(self.add(x, y))), 1))


class Branching(nn.Module):
    """A forward that depends on values: torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 4)

    def forward(self, x):
        x = self.one(x)
        return self.head(torch.flatten(x.relu() if x.sum() > 0 else x, 1))


class Writing(nn.Module):
    """Adds in place to a value that is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(144, 4)

    def forward(self, x):
        x = self.one(x)
        x.add_(self.two(x))
        return self.head(torch.flatten(x, 1))


def make(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A fresh net with batch norms that have seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn_like(module.running_mean)
                module.running_var = torch.rand_like(module.running_var) + 0.5
                nn.init.normal_(module.bias)
    return layers.own(model).eval()


def data(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as stored (n, 1, 8, 8) uint8, and labels of four classes."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 8, 8), generator=g).to(torch.uint8), torch.randint(0, 4, (n,), generator=g)


def inputs(x: torch.Tensor) -> torch.Tensor:
    return (x.float() - 128) / 64

"""DenseNet-BC: every layer reads all earlier ones of its block (Huang et al. 2017, arXiv:1608.06993)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from lessen.core.errors import BadField
from lessen.core.technique import Range
from lessen.models.blocks import Classifier, Width, conv, kaiming, scaled
from lessen.ops.layers import Cat


class Dense(nn.Module):
    """x followed by `growth` new channels: bn, relu, 1x1 to 4 * growth, bn, relu, 3x3."""

    def __init__(self, inn: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_activated(inn, 4 * growth, 1), *_activated(4 * growth, growth, 3))
        self.cat = Cat()

    def forward(self, x: Tensor) -> Tensor:
        return self.cat(x, self.body(x))


def densenet(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Range("weighted layers, 6n + 4", 10, 1204)] = 100,
    growth: Annotated[int, Range("channels that each layer adds", 1, 256)] = 12,
    width: Width = 1.0,
) -> nn.Module:
    """Three blocks of (depth - 4) / 6 layers; each transition halves channels and size. `width` scales the growth."""
    if (depth - 4) % 6:
        raise BadField(f"densenet.depth = {depth} is not 6n + 4; write 40, 100, 190 or 250")
    growth = scaled(growth, width)
    inn, side = 2 * growth, min(shape[1:])
    features = nn.Sequential()
    features.add_module("stem", conv(shape[0], inn))
    for b in (1, 2, 3):
        block = nn.Sequential()
        for _ in range((depth - 4) // 6):
            block.append(Dense(inn, growth))
            inn += growth
        features.add_module(f"block{b}", block)
        if b < 3:
            halved = nn.AvgPool2d(2) if side >= 2 else nn.Identity()
            features.add_module(f"transition{b}", nn.Sequential(*_activated(inn, inn // 2, 1), halved))
            inn, side = inn // 2, max(1, side // 2)
    features.add_module("norm", nn.BatchNorm2d(inn))
    features.add_module("relu", nn.ReLU())
    return kaiming(Classifier(features, nn.Linear(inn, classes)))


def _activated(inn: int, out: int, kernel: int) -> tuple[nn.Module, ...]:
    return nn.BatchNorm2d(inn), nn.ReLU(), conv(inn, out, kernel)

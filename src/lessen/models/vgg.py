"""VGG with batch norm for small images (Simonyan & Zisserman 2015, arXiv:1409.1556).

Three public forms share the name. The default is RepDistiller's: pools after stages 1 to 3, so that stages 4 and 5
see 4x4 maps at 32 px, and one Linear. chenyaofo's is `pools=(1, 2, 3, 4, 5), head=(512, 512)`, weiaicunzai's
`pools=(1, 2, 3, 4, 5), head=(4096, 4096)`. Convolutions have a bias, as in all three.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import nn

from lessen.core.technique import Doc, Range
from lessen.models.blocks import Classifier, Dropout, Width, kaiming, scaled

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[Literal[8, 11, 13, 16, 19], Doc("weighted layers; 8 has one Linear and seven are left out")] = 16,
    width: Width = 1.0,
    pools: Annotated[tuple[int, ...], Range("stages with a 2x2 max pool after them", 1, 5)] = (1, 2, 3),
    head: Annotated[tuple[int, ...], Range("channels of hidden Linear layers", 1, 65536)] = (),
    dropout: Dropout = 0.5,
) -> nn.Module:
    """A pool is left out where the map would vanish; `dropout` acts after hidden Linear layers."""
    features, inn, side = nn.Sequential(), shape[0], min(shape[1:])
    for stage, (channels, convolutions) in enumerate(zip(CHANNELS, CONVOLUTIONS[depth], strict=True), 1):
        for i in range(1, convolutions + 1):
            out = scaled(channels, width)
            features.add_module(f"conv{stage}_{i}", nn.Conv2d(inn, out, 3, padding=1))
            features.add_module(f"norm{stage}_{i}", nn.BatchNorm2d(out))
            features.add_module(f"relu{stage}_{i}", nn.ReLU())
            inn = out
        if stage in pools and side >= 2:
            features.add_module(f"pool{stage}", nn.MaxPool2d(2))
            side //= 2
    return kaiming(Classifier(features, _head(inn, [scaled(h, width) for h in head], classes, dropout)))


def _head(inn: int, hidden: list[int], classes: int, dropout: float) -> nn.Sequential:
    head = nn.Sequential()
    for i, out in enumerate([*hidden, classes], 1):
        linear = nn.Linear(inn, out)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)
        head.add_module(f"linear{i}", linear)
        if i <= len(hidden):
            head.add_module(f"relu{i}", nn.ReLU())
            head.add_module(f"dropout{i}", nn.Dropout(dropout))
        inn = out
    return head

"""A plain convolutional net for small grey digits: about 100,000 parameters, trained in seconds on a CPU."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from lessen.core.technique import Range
from lessen.models.blocks import Classifier, Width, conv_norm, kaiming, scaled


def cnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Range("convolutions of each stage", 1, 16)] = 1,
    width: Width = 1.0,
) -> nn.Module:
    """Stages of 32, 64 and 128 channels with 2x2 max pools between them, left out where the map would vanish."""
    features, inn, side = nn.Sequential(), shape[0], min(shape[1:])
    for s, channels in enumerate((32, 64, 128), 1):
        for i in range(1, depth + 1):
            out = scaled(channels, width)
            features.add_module(f"conv{s}_{i}", conv_norm(inn, out))
            inn = out
        if s < 3 and side >= 2:
            features.add_module(f"pool{s}", nn.MaxPool2d(2))
            side //= 2
    return kaiming(Classifier(features, nn.Linear(inn, classes)))

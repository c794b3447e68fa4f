"""What families share: channels that scale, convolution with batch norm, and a pooled classifier."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor, nn

from lessen.core.technique import Range

STEP = 8  # of channels that `divisible` gives

Width = Annotated[float, Range("channels times this", 0.01, 16)]
Depth = Annotated[float, Range("blocks of every stage times this, rounded up", 0.01, 16)]
Dropout = Annotated[float, Range("share of values dropped in training", 0.0, 0.95)]


def scaled(channels: int, width: float, step: int = 1) -> int:
    """channels * width to the nearest multiple of `step`, at least one step."""
    return max(step, int(channels * width / step + 0.5) * step)


def divisible(channels: float) -> int:
    """The nearest multiple of 8 that loses at most 10 % (Sandler et al. 2018)."""
    nearest = max(STEP, int(channels + STEP / 2) // STEP * STEP)
    return nearest + STEP if nearest < 0.9 * channels else nearest


def repeats(blocks: int, depth: float) -> int:
    """blocks * depth, rounded up (Tan & Le 2019)."""
    return max(1, math.ceil(round(blocks * depth, 6)))  # 3 * 1.1 is a hair above 3.3: round before ceil


def conv(inn: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A padded convolution without bias."""
    return nn.Conv2d(inn, out, kernel, stride, kernel // 2, groups=groups, bias=False)


def conv_norm(
    inn: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution, batch norm and, if there is one, activation."""
    block = nn.Sequential()
    block.add_module("conv", conv(inn, out, kernel, stride, groups))
    block.add_module("norm", nn.BatchNorm2d(out))
    if act is not None:
        block.add_module("act", act())
    return block


class Classifier(nn.Module):
    """features (n, c, h, w) -> mean over h and w -> head (n, classes)."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.features(x))))


def kaiming(model: nn.Module) -> nn.Module:
    """Convolutions from N(0, 2 / fan_out), biases zero (He et al. 2015); other layers keep torch's own start.

    Within groups: torch's `kaiming_normal_` counts all outputs, which starts depthwise filters near zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel() / module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model

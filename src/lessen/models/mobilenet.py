"""MobileNetV2 for 32 px: inverted residuals, linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381)."""

from __future__ import annotations

from torch import Tensor, nn

from lessen.models.blocks import Classifier, Depth, Dropout, Width, conv_norm, divisible, kaiming, repeats
from lessen.ops.layers import Add

# expansion, channels, blocks, stride; ImageNet's strides are 2 in the stem and in the second row too
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class Inverted(nn.Module):
    """Widen by a 1x1, filter each channel by a 3x3, narrow by a linear 1x1; added to x where shapes agree."""

    def __init__(self, inn: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = inn * expansion
        self.body = nn.Sequential()
        if expansion > 1:
            self.body.add_module("expand", conv_norm(inn, mid, 1, act=nn.ReLU6))
        self.body.add_module("depthwise", conv_norm(mid, mid, 3, stride, groups=mid, act=nn.ReLU6))
        self.body.add_module("project", conv_norm(mid, out, 1, act=None))
        self.add = Add() if stride == 1 and inn == out else None

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.add is None else self.add(self.body(x), x)


def mobilenetv2(
    shape: tuple[int, ...], classes: int, *, depth: Depth = 1.0, width: Width = 1.0, dropout: Dropout = 0.2
) -> nn.Module:
    """chenyaofo's form: 3x3 stem of stride 1, 4x4 maps at the end of 32 px; channels in multiples of 8."""
    inn = divisible(32 * width)
    features = nn.Sequential()
    features.add_module("stem", conv_norm(shape[0], inn, act=nn.ReLU6))
    for s, (expansion, channels, blocks, stride) in enumerate(STAGES, 1):
        out, stage = divisible(channels * width), nn.Sequential()
        for i in range(repeats(blocks, depth)):
            stage.append(Inverted(inn, out, stride if i == 0 else 1, expansion))
            inn = out
        features.add_module(f"stage{s}", stage)
    last = divisible(1280 * max(1.0, width))  # the paper keeps the last layer wide in narrow nets
    features.add_module("last", conv_norm(inn, last, 1, act=nn.ReLU6))
    linear = nn.Linear(last, classes)
    nn.init.normal_(linear.weight, 0, 0.01)
    nn.init.zeros_(linear.bias)
    return kaiming(Classifier(features, nn.Sequential(nn.Dropout(dropout), linear)))

"""EfficientNet: inverted residuals with squeeze-and-excitation, scaled in width and depth together (Tan & Le 2019,
arXiv:1905.11946). Stem and second stage have stride 1, so that 32 px end in 4x4 maps."""

from __future__ import annotations

from torch import Tensor, nn

from lessen.models.blocks import Classifier, Depth, Dropout, Width, conv_norm, divisible, kaiming, repeats
from lessen.ops.layers import Add, Mul

# expansion, channels, blocks, kernel, stride
STAGES = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 1), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)  # fmt: skip


class Excite(nn.Module):
    """x times a gate in 0..1 for each channel, computed from the channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()
        self.mul = Mul()

    def forward(self, x: Tensor) -> Tensor:
        return self.mul(x, self.gate(self.expand(self.act(self.reduce(self.pool(x))))))


class MBConv(nn.Module):
    """Expand, filter each channel, excite, project; added to x where shapes agree."""

    def __init__(self, inn: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = inn * expansion
        self.body = nn.Sequential()
        if expansion > 1:
            self.body.add_module("expand", conv_norm(inn, mid, 1, act=nn.SiLU))
        self.body.add_module("depthwise", conv_norm(mid, mid, kernel, stride, groups=mid, act=nn.SiLU))
        self.body.add_module("excite", Excite(mid, max(1, inn // 4)))
        self.body.add_module("project", conv_norm(mid, out, 1, act=None))
        self.add = Add() if stride == 1 and inn == out else None

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.add is None else self.add(self.body(x), x)


def efficientnet(
    shape: tuple[int, ...], classes: int, *, depth: Depth = 1.0, width: Width = 1.0, dropout: Dropout = 0.2
) -> nn.Module:
    """B0 is width 1.0, depth 1.0; B1 is 1.0, 1.1; B2 is 1.1, 1.2. Without stochastic depth."""
    inn = divisible(32 * width)
    features = nn.Sequential()
    features.add_module("stem", conv_norm(shape[0], inn, act=nn.SiLU))
    for s, (expansion, channels, blocks, kernel, stride) in enumerate(STAGES, 1):
        out, stage = divisible(channels * width), nn.Sequential()
        for i in range(repeats(blocks, depth)):
            stage.append(MBConv(inn, out, kernel, stride if i == 0 else 1, expansion))
            inn = out
        features.add_module(f"stage{s}", stage)
    last = 4 * inn
    features.add_module("last", conv_norm(inn, last, 1, act=nn.SiLU))
    return kaiming(Classifier(features, nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))))

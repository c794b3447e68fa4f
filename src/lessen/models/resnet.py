"""Residual networks (He et al. 2016, arXiv:1512.03385): CIFAR's of depth 6n + 2, and ResNet-18/34/50 for 32 px."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from lessen.core.errors import BadField
from lessen.core.technique import Doc, Range
from lessen.models.blocks import Classifier, Depth, Width, conv_norm, kaiming, repeats, scaled
from lessen.ops.layers import Add


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a 1x1 projection where the shape changes."""

    def __init__(self, body: nn.Sequential, inn: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = body
        same = stride == 1 and inn == out
        self.shortcut = nn.Identity() if same else conv_norm(inn, out, 1, stride, act=None)
        self.add = Add()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.add(self.body(x), self.shortcut(x)))


def basic(inn: int, out: int, stride: int) -> Residual:
    """Two 3x3 convolutions."""
    return Residual(nn.Sequential(conv_norm(inn, out, 3, stride), conv_norm(out, out, act=None)), inn, out, stride)


def bottleneck_block(inn: int, out: int, stride: int) -> Residual:
    """1x1 down to a quarter of `out`, 3x3, 1x1 up."""
    mid = max(1, out // 4)
    body = nn.Sequential(conv_norm(inn, mid, 1), conv_norm(mid, mid, 3, stride), conv_norm(mid, out, 1, act=None))
    return Residual(body, inn, out, stride)


def resnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Range("weighted layers, 6n + 2", 8, 1202)] = 20,
    width: Width = 1.0,
    stem: Annotated[int, Range("channels of the first convolution", 1, 4096)] = 16,
    stages: Annotated[tuple[int, int, int], Range("channels of the three stages", 1, 4096)] = (16, 32, 64),
) -> nn.Module:
    """RepDistiller's CIFAR ResNet: three stages, projections where the channels or the size change."""
    if (depth - 2) % 6:
        raise BadField(f"resnet.depth = {depth} is not 6n + 2; write 8, 14, 20, 32, 44, 56 or 110, or use resnet18")
    blocks = [(depth - 2) // 6] * 3
    return _network(shape, classes, scaled(stem, width), [scaled(c, width) for c in stages], blocks, bottleneck=False)


def resnet32px(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Depth = 1.0,
    width: Width = 1.0,
    blocks: Annotated[tuple[int, int, int, int], Range("residual blocks of each stage", 1, 256)] = (2, 2, 2, 2),
    bottleneck: Annotated[bool, Doc("1x1, 3x3, 1x1 blocks")] = False,
) -> nn.Module:
    """ImageNet's ResNet with a 3x3 stem of stride 1 and no first pool (weiaicunzai, kuangliu)."""
    stages = [scaled(c, width) * (4 if bottleneck else 1) for c in (64, 128, 256, 512)]
    return _network(shape, classes, scaled(64, width), stages, [repeats(n, depth) for n in blocks], bottleneck)


def _network(
    shape: tuple[int, ...], classes: int, stem: int, stages: list[int], blocks: list[int], bottleneck: bool
) -> nn.Module:
    block = bottleneck_block if bottleneck else basic
    features, inn = nn.Sequential(), stem
    features.add_module("stem", conv_norm(shape[0], stem))
    for s, (out, count) in enumerate(zip(stages, blocks, strict=True), 1):
        stage = nn.Sequential()
        for i in range(count):
            stage.append(block(inn, out, 2 if s > 1 and i == 0 else 1))
            inn = out
        features.add_module(f"stage{s}", stage)
    return kaiming(Classifier(features, nn.Linear(inn, classes)))

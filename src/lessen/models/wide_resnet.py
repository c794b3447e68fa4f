"""Wide residual networks WRN-d-k: pre-activation blocks with k times the channels (Zagoruyko & Komodakis 2016,
arXiv:1605.07146), in RepDistiller's form."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from lessen.core.errors import BadField
from lessen.core.technique import Range
from lessen.models.blocks import Classifier, Dropout, Width, conv, kaiming, scaled
from lessen.ops.layers import Add


class PreActivation(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))); a projection, where channels change, reads the activated input."""

    def __init__(self, inn: int, out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inn)
        self.relu1 = nn.ReLU()
        self.conv1 = conv(inn, out, 3, stride)
        self.norm2 = nn.BatchNorm2d(out)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = conv(out, out)
        self.projects = stride != 1 or inn != out
        self.shortcut = conv(inn, out, 1, stride) if self.projects else nn.Identity()
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.norm1(x))
        y = self.conv2(self.dropout(self.relu2(self.norm2(self.conv1(active)))))
        return self.add(y, self.shortcut(active if self.projects else x))


def wrn(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Range("weighted layers, 6n + 4", 10, 1204)] = 16,
    widen: Annotated[float, Range("channels of the three stages times this", 0.01, 64)] = 2,
    width: Width = 1.0,
    dropout: Dropout = 0.0,
) -> nn.Module:
    """Three stages of 16, 32 and 64 times `widen` channels; `width` scales these and the stem."""
    if (depth - 4) % 6:
        raise BadField(f"wrn.depth = {depth} is not 6n + 4; write 10, 16, 22, 28 or 40")
    inn = scaled(16, width)
    features = nn.Sequential()
    features.add_module("stem", conv(shape[0], inn))
    for s, channels in enumerate((16, 32, 64), 1):
        out, stage = scaled(channels, widen * width), nn.Sequential()
        for i in range((depth - 4) // 6):
            stage.append(PreActivation(inn, out, 2 if s > 1 and i == 0 else 1, dropout))
            inn = out
        features.add_module(f"stage{s}", stage)
    features.add_module("norm", nn.BatchNorm2d(inn))
    features.add_module("relu", nn.ReLU())
    return kaiming(Classifier(features, nn.Linear(inn, classes)))

"""Nets as users write them: layers that stand twice, tied weights, torch's fused paths, auxiliary heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, int, int]


def shared_activation(shape: Shape, classes: int) -> nn.Sequential:
    """One activation module, used twice."""
    act = nn.ReLU()
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, padding=1), act, nn.Conv2d(8, 8, 3, padding=1), act, nn.Flatten(),
        nn.Linear(8 * shape[1] * shape[2], classes),
    )  # fmt: skip


class Alias(nn.Module):
    """One Linear under two names, run twice."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, self.a = nn.Linear(shape[1] * shape[2], 32), nn.Linear(32, 32)
        self.b, self.act, self.head = self.a, nn.ReLU(), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.b(self.act(self.a(self.act(self.stem(x.flatten(1))))))))


class InPlace(nn.Module):
    """The sum reads what the ReLU has overwritten."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(shape[0], 16, 3, padding=1), nn.ReLU(inplace=True)
        self.second, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(self.act(x))
        return self.head((x + y).mean((2, 3)))


class Tied(nn.Module):
    """Two layers with one weight; with norms, each of its own."""

    def __init__(self, shape: Shape, classes: int, norms: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(shape[0], 16, 3, padding=1)
        self.a, self.b = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.b.weight = self.a.weight
        self.norm_a, self.norm_b = (nn.BatchNorm2d(16) if norms else nn.Identity() for _ in "ab")
        self.acts, self.head = nn.ModuleList(nn.ReLU() for _ in range(3)), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.acts[0](self.stem(x))
        x = self.acts[1](self.norm_a(self.a(x)))
        return self.head(self.acts[2](self.norm_b(self.b(x))).mean((2, 3)))


class TiedTokens(nn.Module):
    """Two Linear layers with one weight, over tokens: exporters transpose it."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(shape[0], 24, 2, 2), nn.Linear(24, 24), nn.Linear(24, 24)
        self.b.weight = self.a.weight
        self.act_a, self.act_b, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.act_b(self.b(self.act_a(self.a(x)))).mean(1))


class Encoder(nn.Module):
    """Patches through torch's own encoder layers, one alone and one in a stack."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(shape[0], 32, 2, 2)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.stack = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), 1, enable_nested_tensor=True
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.patches(x).flatten(2).transpose(1, 2))
        padding = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return self.head(self.stack(x, src_key_padding_mask=padding).mean(1))


class Cosine(nn.Module):
    """A head that reads the weight of its layer and never calls it."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(shape[0], 8, 3, padding=1), nn.ReLU()
        self.head = nn.Linear(8 * shape[1] * shape[2], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)).flatten(1)
        return 8 * F.linear(F.normalize(x), F.normalize(self.head.weight))

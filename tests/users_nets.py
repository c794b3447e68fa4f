"""Nets as users write them: layers that stand twice, tied weights, torch's fused paths, auxiliary heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

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


class OddNorm(nn.Module):
    """A batch norm without statistics of its own."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], 8, 3, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()
        self.head = nn.Linear(8 * shape[1] * shape[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.norm(self.conv(x))).flatten(1))


def computed(shape: Shape, classes: int, by: str = "weight_norm") -> nn.Module:
    """A convolution whose weight is computed, with a batch norm behind it."""
    conv: Any = nn.Conv2d(shape[0], 8, 3, padding=1)
    if by == "parametrized":
        parametrizations.weight_norm(conv)
    else:
        getattr(torch.nn.utils, by)(conv)
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, classes))


class Half(nn.Module):
    """Weights of 16 bits."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(shape[0], 8, 3, padding=1), nn.Linear(8 * 64, classes)
        self.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x.bfloat16()).flatten(1)).float()


class Auxiliary(nn.Module):
    """A second head, in training alone."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(shape[0], 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head, self.other = nn.Linear(8 * 64, classes), nn.Linear(8 * 64, classes)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.conv(x)).flatten(1)
        return (self.head(y), self.other(y)) if self.training else self.head(y)


class Transposed(nn.Module):
    """Layers of other kinds than ours, one of the user's own among them, and a tensor that it keeps."""

    class Centered(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.up = self.Centered(shape[0], 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 8, 2, 2)
        self.norm, self.act, self.head = nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8 * 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.act(self.up(self.norm(self.conv(x)))).flatten(1)
        return self.head(self.kept)

"""Nets as users write them: layers that stand twice, tied weights, torch's fused paths, auxiliary heads."""

from __future__ import annotations

from torch import Tensor, nn

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

"""A vision transformer for small images (Dosovitskiy et al. 2021, arXiv:2010.11929), of ViT-Lite-7/4's size
(Hassani et al. 2021, arXiv:2104.05704); tokens are averaged, as in SimpleViT (Beyer et al. 2022, arXiv:2205.01580).

Queries, keys and values are three Linear layers, so that every weight is one that techniques know.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from lessen.core.errors import BadField
from lessen.core.technique import Range
from lessen.models.blocks import Width, scaled
from lessen.ops.layers import Add


class Attention(nn.Module):
    """Every token (n, t, d) becomes a mean of all tokens' values, weighted by softmax(q . k / sqrt(d / heads)).

    The number of heads is q's width over `head_dim`, so that whole heads can be cut.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.head_dim, self.scale = dim // heads, (dim // heads) ** -0.5
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.softmax = nn.Softmax(-1)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        weights = self.softmax(q @ k.transpose(-2, -1) * self.scale)
        return self.project((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(n, t, heads * head_dim) -> (n, heads, t, head_dim)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class Encoder(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.add1 = Add()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.add2 = Add()

    def forward(self, x: Tensor) -> Tensor:
        x = self.add1(x, self.attention(self.norm1(x)))
        return self.add2(x, self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Patches (n, t, d) plus a learned position each, encoders, mean over tokens, Linear."""

    def __init__(self, channels: int, tokens: int, classes: int, patch: int, dim: int, encoders: nn.Sequential) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, dim, patch, patch)
        self.position = nn.Parameter(torch.zeros(1, tokens, dim))
        self.place = Add()
        self.encoders = encoders
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.encoders(self.place(x, self.position))
        return self.head(self.norm(x).mean(1))


def vit(
    shape: tuple[int, ...],
    classes: int,
    *,
    patch: Annotated[int, Range("side of a patch in pixels", 1, 64)] = 4,
    depth: Annotated[int, Range("encoders", 1, 64)] = 7,
    heads: Annotated[int, Range("attention heads", 1, 64)] = 4,
    dim: Annotated[int, Range("channels of a token", 1, 4096)] = 256,
    mlp: Annotated[float, Range("hidden channels of the MLP, as a multiple of dim", 0.01, 16)] = 2.0,
    width: Width = 1.0,
) -> nn.Module:
    """`width` scales `dim`, which is rounded to a multiple of `heads`."""
    channels, high, wide = shape
    if high % patch or wide % patch:
        fits = [p for p in range(1, min(high, wide) + 1) if high % p == 0 and wide % p == 0]
        raise BadField(f"vit.patch = {patch} does not divide {high} x {wide} pixels; write one of {fits}")
    dim = scaled(dim, width, heads)
    encoders = nn.Sequential(*(Encoder(dim, heads, scaled(dim, mlp)) for _ in range(depth)))
    model = ViT(channels, high // patch * (wide // patch), classes, patch, dim, encoders)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(model.position, std=0.02)
    return model

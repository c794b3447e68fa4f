"""Random changes of image batches as tensor code on the batch's device, from an explicit generator.

Each takes x (n, c, h, w) uint8 and gives uint8 back, drawing once per image; `normalize` is the one step to
float32, and `mixup` and `cutmix`, which blend samples, come behind it. The generator may live on the CPU while x is on
an accelerator: both then see the same draws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad as zero_pad

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma of red, green, blue


def crop(x: Tensor, pad: int, generator: Generator, edge: str = "reflect", mirror: bool = False) -> Tensor:
    """Move each image by up to `pad` pixels each way; what comes in at the edge is its reflection, or "zero".

    mirror: flip too, in the same pass over memory, which takes half of the time of `flip` afterwards.
    """
    n, c, h, w = x.shape
    up, left = _integers((2, n, 1), -pad, pad, generator).to(x.device)
    rows, columns = up + torch.arange(h, device=x.device), left + torch.arange(w, device=x.device)  # (n, h), (n, w)
    if mirror:
        columns = torch.where(_coin(n, generator).to(x.device)[:, None], columns.flip(1), columns)
    if edge == "zero":
        x, rows, columns = zero_pad(x, (pad, pad, pad, pad)), rows + pad, columns + pad
    else:
        rows, columns = _reflect(rows, h), _reflect(columns, w)
    index = (rows[:, :, None] * x.shape[3] + columns[:, None, :]).view(n, 1, h * w)
    return x.flatten(2).gather(2, index.expand(n, c, h * w)).view(n, c, h, w)


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror left and right with probability 1/2."""
    chosen = _coin(len(x), generator).to(x.device).nonzero().flatten()
    return x.index_copy(0, chosen, x.index_select(0, chosen).flip(3))


def cutout(x: Tensor, size: int, generator: Generator, fill: Tensor | int = 0) -> Tensor:
    """Paint over a square of `size` pixels whose centre is anywhere (DeVries & Taylor 2017, arXiv:1708.04552).

    fill: a number, or (c,) uint8, best the data's mean, which is zero once normalized.
    """
    n, _, h, w = x.shape
    top = (_integers((n, 1), 0, h - 1, generator) - size // 2).to(x.device)
    left = (_integers((n, 1), 0, w - 1, generator) - size // 2).to(x.device)
    rows, columns = torch.arange(h, device=x.device) - top, torch.arange(w, device=x.device) - left
    hole = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None, :]
    paint = torch.as_tensor(fill, dtype=x.dtype, device=x.device).reshape(1, -1, 1, 1)
    return torch.where(hole, paint, x)


def jitter(x: Tensor, strength: float, generator: Generator) -> Tensor:
    """Scale brightness, contrast (about the image's mean grey) and saturation by factors in 1 +- strength.

    In this order, clamped to 0..255 after each and rounded once; grey images have no saturation to change.
    """
    factors = _uniform((3, len(x), 1, 1, 1), 1 - strength, 1 + strength, generator).to(x.device)
    y = (x.float() * factors[0]).clamp_(0, 255)
    y = torch.lerp(_grey(y).mean((2, 3), keepdim=True), y, factors[1]).clamp_(0, 255)
    if x.shape[1] == 3:
        y = torch.lerp(_grey(y), y, factors[2]).clamp_(0, 255)
    return y.round_().to(torch.uint8)


def mixup(x: Tensor, y: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    """Blend each sample with another of the batch (Zhang et al. 2018, arXiv:1710.09412).

    x: (n, ...) float, already normalized. Returns (x, y_a, y_b, weight) with one weight ~ Beta(alpha, alpha)
    for the batch; the loss is weight * loss(y_a) + (1 - weight) * loss(y_b).
    """
    draws = np.random.default_rng(int(_integers((1,), 0, 2**62, generator)))  # torch's own Beta takes no generator
    weight = float(draws.beta(alpha, alpha))
    other = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    return torch.lerp(x[other], x, weight), y, y[other], weight


def cutmix(x: Tensor, probability: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Put a box of another sample of the batch into each with this probability (Yun et al. 2019, arXiv:1905.04899).

    x: (n, c, h, w). Each sample has a box of its own, of a share of the image drawn evenly (their alpha of 1) and of
    the image's proportions, whose centre is anywhere, so that some of it may lie outside. Returns (x, other, kept):
    the sample (n,) int64 that each box is from, and the share (n,) of its pixels that each sample keeps; the loss is
    kept * loss(y) + (1 - kept) * loss(y[other]).
    """
    n, _, h, w = x.shape
    side = _uniform((n,), 0, 1, generator).sqrt() * (_uniform((n,), 0, 1, generator) < probability)
    middle = _integers((n,), 0, h - 1, generator), _integers((n,), 0, w - 1, generator)
    rows, columns = (_span(at, side, size) for at, size in zip(middle, (h, w), strict=True))
    box = (rows[:, :, None] & columns[:, None, :]).to(x.device)
    other = torch.randperm(n, generator=generator, device=generator.device).to(x.device)
    return torch.where(box[:, None], x[other], x), other, 1 - box.flatten(1).float().mean(1)


def _span(middle: Tensor, side: Tensor, size: int) -> Tensor:
    """(n, size) bool: the positions within round(side * size) about each middle."""
    length = (side * size).round().long()
    start = (middle - length // 2)[:, None]
    at = torch.arange(size, device=middle.device)
    return (at >= start) & (at < start + length[:, None])


def normalize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 -> float32 (x / 255 - mean) / std per channel, with mean and std (c,) on the scale 0..1."""
    scale = (1 / (255 * std)).to(x.device).reshape(1, -1, 1, 1)
    shift = (-mean / std).to(x.device).reshape(1, -1, 1, 1)
    return x.float().mul_(scale).add_(shift)


def _reflect(index: Tensor, n: int) -> Tensor:
    """Fold positions outside 0..n-1 back at the first and the last, which are not repeated."""
    return (n - 1) - ((n - 1) - index.abs()).abs()


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _integers(shape: tuple[int, ...], low: int, high: int, generator: Generator) -> Tensor:
    """Uniform in low..high, both ends, drawn where the generator lives."""
    return torch.randint(low, high + 1, shape, generator=generator, device=generator.device)


def _coin(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) < 0.5


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)

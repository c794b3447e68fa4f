"""What a student is taught by its teacher's layers, as pure functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def as_maps(features: Tensor) -> Tensor:
    """Maps (n, c, h, w) as they are; tokens (n, t, d) -> (n, d, side, side), or (n, d, t, 1) where t is no square;
    vectors (n, d) -> (n, d, 1, 1)."""
    if features.dim() == 4:
        return features
    if features.dim() == 2:
        return features[:, :, None, None]
    side = math.isqrt(features.shape[1])
    grid = (side, side) if side * side == features.shape[1] else (features.shape[1], 1)
    return features.transpose(1, 2).unflatten(2, grid)


def as_vectors(features: Tensor) -> Tensor:
    """Vectors (n, d) as they are, the mean over all places of maps or tokens."""
    return as_maps(features).mean((2, 3))


def alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as maps (n, c, h, w), averaged over areas to the smaller height and width."""
    a, b = as_maps(student), as_maps(teacher)
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return _pooled(a, size), _pooled(b, size)


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else F.adaptive_avg_pool2d(maps, size)


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of (n, c, h, w), the mean over all n * c * h * w values, as in RepDistiller.

    FitNets itself halves the sum over values (Romero et al. 2015, arXiv:1412.6550, equation 3).
    """
    return F.mse_loss(student.float(), teacher.float())


def attention(maps: Tensor) -> Tensor:
    """Where a layer looks: mean over channels of squares of (n, c, h, w), flat and of length 1: (n, h * w).

    Zagoruyko & Komodakis 2017, arXiv:1612.03928, equation 1; a map of zeros stays.
    """
    return F.normalize(maps.float().square().mean(1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of both attentions, the mean over samples and places; maps (n, c, h, w) of one size.

    The form of the authors' code and of RepDistiller, whose weight is 1000; equation 2 has the length of the
    difference in place of its square.
    """
    return F.mse_loss(attention(student), attention(teacher))


def contrast(positive: Tensor, negatives: Tensor, log_noise: float) -> Tensor:
    """Noise-contrastive estimation: which of 1 + k candidates stands for the same sample? The mean over n samples.

    positive (n,), negatives (n, k): logarithms of the model's likelihoods p; log_noise: log(k / N), k times the
    chance of one of N samples under the noise. -log p / (p + k/N) - sum of log (k/N) / (q + k/N).
    Tian et al. 2020, arXiv:1910.10699, equation 18; Gutmann & Hyvarinen 2010.
    """
    return -(F.logsigmoid(positive - log_noise) + F.logsigmoid(log_noise - negatives).sum(1)).mean()


def unlike(labels: Tensor, order: Tensor, starts: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """k samples (n, k) for each label (n,), uniform over all samples of other labels, with replacement.

    order (N,): samples sorted by label; starts (classes + 1,): where each label begins in it, and N.
    """
    begin, end = starts[labels, None], starts[labels + 1, None]
    others = len(order) - (end - begin)
    share = torch.rand(len(labels), k, generator=generator, device=order.device, dtype=torch.float64)
    place = (share * others).long().clamp(max=others - 1)
    return order[place + (end - begin) * (place >= begin)]

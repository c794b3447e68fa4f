"""How large the gradient of a learned scale is: scales and weights move by like shares (Esser et al. 2020, LSQ,
arXiv:1902.08153, 2.2).

LSQ wants R = (|gradient of s| / s) / (|gradient of x| / |x|) near 1. It divides by sqrt(N Qp), for N values that share
a scale of largest integer Qp, which takes slopes to be about 1 and values to be about sqrt(Qp) steps. A clipped value
has the slope Qp, though, and one in a row of 8 bits makes R 50, or 800. So slopes and values are taken as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 12**-0.5  # root mean square of what rounding moves, in steps: the slope where nothing is clipped


def scale_gradient(
    grad: Tensor, slope: Tensor, x: Tensor, scale: Tensor, columns: Tensor | None = None, samples: int = 1
) -> Tensor:
    """Of the scale, shaped like it, from that of what was made of x; slope: how much of that the scale moves; used up.

    scale broadcasts to x, or is (out, groups) with the group of each of x's columns. samples: whose values x holds; N
    counts those of one, as a gradient is a mean over samples, too: else steps would shrink where batches grow.
    """
    n = x.new_tensor(x.numel() / scale.numel()) if columns is None else torch.bincount(columns, minlength=len(scale[0]))
    root = n.sqrt()
    steep = torch.maximum(_norm(slope, scale, columns), ROUNDING * root)  # where all is exact, noise is not blown up
    large = _norm(x, scale, columns) / scale
    return _sum(slope.mul_(grad), scale, columns) * root * samples**0.5 / (steep * large).clamp_(min=1e-12)


def _norm(values: Tensor, scale: Tensor, columns: Tensor | None) -> Tensor:
    if scale.numel() == 1:  # without a second tensor of an activation's size
        return torch.linalg.vector_norm(values).reshape(scale.shape)
    return _sum(values.square(), scale, columns).sqrt_()


def _sum(values: Tensor, scale: Tensor, columns: Tensor | None) -> Tensor:
    """Over all that share a scale."""
    if columns is None:
        return values.sum_to_size(scale.shape)
    return torch.zeros_like(scale).index_add_(1, columns, values.flatten(1))

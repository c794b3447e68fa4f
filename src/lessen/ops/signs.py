"""Weights of two or three levels, as pure tensor functions with clipped straight-through gradients.

Binary: a channel is alpha * sign(w), alpha = mean |w| being the nearest of all (Rastegari et al. 2016, XNOR-Net,
arXiv:1603.05279). Ternary: 0 within 0.7 mean |w|, else alpha * sign(w), alpha the mean of what lives (Li & Liu 2016,
TWN, arXiv:1605.04711). The gradient passes straight through and stops at a clip (Courbariaux et al. 2016, BNN,
arXiv:1602.02830), which here is in units of alpha: the same whatever the size of a layer's weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 0.7  # of mean |w|, within which a ternary weight is 0
CLIP = 3.0  # times alpha


def ternary_threshold(rows: Tensor) -> Tensor:
    """(out, columns) -> (out,): 0.7 mean |w| of each row's weights that are not zero."""
    return THRESHOLD * mean_beyond(rows)


def mean_beyond(rows: Tensor, threshold: Tensor | None = None) -> Tensor:
    """(out, columns) -> (out,): mean |w| of the weights of each row beyond its threshold; masked zeros never count.

    >>> mean_beyond(torch.tensor([[1.0, -3.0, 0.0, 0.0]])).tolist()
    [2.0]
    """
    size = rows.abs()
    beyond = size > (0.0 if threshold is None else threshold[:, None])
    return (size * beyond).sum(1) / beyond.sum(1).clamp(min=1)


def levels(x: Tensor, threshold: Tensor | None = None) -> Tensor:
    """-1 or 1, 0 counting as positive; with a threshold that broadcasts to x also 0, within it.

    >>> levels(torch.tensor([-0.2, 0.0, 2.0])).tolist(), levels(torch.tensor([-0.2, 2.0]), torch.tensor(0.5)).tolist()
    ([-1.0, 1.0, 1.0], [0.0, 1.0])
    """
    sign = torch.where(x >= 0, 1.0, -1.0)
    return sign if threshold is None else sign * (x.abs() > threshold)


def scaled_levels(x: Tensor, scale: Tensor, threshold: Tensor | None = None, *, bounded: bool = True) -> Tensor:
    """scale * levels(x, threshold); scale and threshold broadcast to x.

    Gradient of x: 1 within CLIP * scale. Beyond it 0 or, where x is `bounded` (a weight, which clipping after each step
    would hold there), 0 only for what leads further out. Of the scale: exact.
    """
    if not (torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad)):
        return scale * levels(x, threshold)
    none = threshold is None
    return _Levels.apply(x, scale, torch.zeros(()) if none else threshold, none, bounded)  # type: ignore[no-any-return]


def damped(scale: Tensor, served: float) -> Tensor:
    """The scale itself with its gradient times 1/sqrt(served), the values that share it: what LSQ's scales get."""
    return scale.detach() + (scale - scale.detach()) * served**-0.5


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, threshold: Tensor, none: bool, bounded: bool) -> Tensor:  # type: ignore[override]
        found = levels(x, None if none else threshold)
        ctx.save_for_backward(x, scale, found)
        ctx.bounded = bounded
        return scale * found

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, scale, found = ctx.saved_tensors
        passes = x.abs() <= CLIP * scale
        if ctx.bounded:
            passes = passes | (grad * x > 0)  # a step against the gradient leads back
        grad_scale = None
        if ctx.needs_input_grad[1]:
            grad_scale = (grad * found).sum_to_size(scale.shape)
        return grad * passes, grad_scale, None, None, None

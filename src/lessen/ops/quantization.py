"""Affine quantization as pure tensor functions, with straight-through and learned-step gradients.

Learned steps: Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153.
Integers q and reals x are tied by x = (q - zero) * scale. A weight (out, in, kh, kw) is seen as rows (out, columns) in
C order; a scale serves a whole row, or `group` consecutive columns of it. Which ranges to choose: ops/ranges.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest integer: symmetric -127..127 when signed, 0..255 when not (for 8 bits)."""
    return (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def weight_scale(weight: Tensor, bits: int) -> Tensor:
    """Symmetric scale of every output channel by its largest magnitude: (out, ...) -> (out,).

    A channel of zeros gets scale 1, so that it stays zeros.
    """
    top = weight.detach().flatten(1).abs().amax(1)
    return torch.where(top > 0, top / limits(bits, signed=True)[1], torch.ones_like(top))


def columns_of(n: int, group: int) -> Tensor:
    """The group (n,) of each of n columns; the last group is shorter where `group` does not divide n.

    >>> columns_of(5, 2).tolist()
    [0, 0, 1, 1, 2]
    """
    return torch.arange(n) // group


def spread(scale: Tensor, weight: Tensor, columns: Tensor | None = None) -> Tensor:
    """Scales (out,), or (out, groups) with the group of each column, so that it broadcasts to weight (out, ...)."""
    if columns is None:
        return scale.reshape(-1, *[1] * (weight.dim() - 1))
    return scale[:, columns].reshape(weight.shape)


def range_to_affine(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of unsigned integers that cover [low, high] and hold 0 exactly."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    top = limits(bits, signed=False)[1]
    scale = ((high - low) / top).clamp(min=torch.finfo(torch.float32).eps)
    return scale, torch.round(-low / scale).clamp(0, top)


def quantize(x: Tensor, scale: Tensor, zero: Tensor | float, low: int, high: int) -> Tensor:
    """Reals to integers (kept as float): round(x / scale) + zero, clipped to [low, high]."""
    return x.div(scale).round_().add_(zero).clamp_(low, high)  # in one piece of memory: half the time of four


def fake_quantize(
    x: Tensor, scale: Tensor, zero: Tensor | float, low: int, high: int, served: float | None = None
) -> Tensor:
    """What dequantizing the integers gives; `scale` must broadcast to x.

    Gradient: 1 for x inside the range and 0 outside; for the scale LSQ's, damped by 1/sqrt(served * high), where
    `served` is how many values share a scale: told by the shapes, unless the scale was spread over its group before.
    """
    if x.dtype in (torch.bfloat16, torch.float16):  # from mixed precision: too coarse to be rounded to 8 bits again
        x = x.float()
    if not (torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad)):
        return quantize(x, scale, zero, low, high).sub_(zero).mul_(scale)
    zero = torch.as_tensor(zero, dtype=x.dtype, device=x.device)
    return _LearnedStep.apply(x, scale, zero, low, high, served or x.numel() / scale.numel())  # type: ignore[no-any-return]


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, served: float) -> Tensor:  # type: ignore[override]
        q = quantize(x, scale, zero, low, high)
        ctx.save_for_backward(x, scale, zero, q)
        ctx.limits = low, high, served
        return (q - zero).mul_(scale)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, scale, zero, q = ctx.saved_tensors
        low, high, served = ctx.limits
        v = x.div(scale).add_(zero)
        inside = v.clamp(low - 0.5, high + 0.5) == v
        grad_x = grad * inside if ctx.needs_input_grad[0] else None
        grad_scale = None
        if ctx.needs_input_grad[1]:
            slope = torch.where(inside, v, zero).neg_().add_(q)  # q - v, or where it was clipped q - zero
            damp = (served * high) ** -0.5
            grad_scale = slope.mul_(grad).sum_to_size(scale.shape) * damp
        return grad_x, grad_scale, None, None, None, None

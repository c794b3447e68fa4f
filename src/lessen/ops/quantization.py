"""Affine quantization as pure tensor functions, with straight-through and learned-step gradients.

Learned steps: Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153.
Integers q and reals x are tied by x = (q - zero) * scale. A weight (out, in, kh, kw) is seen as rows (out, columns) in
C order; a scale serves a whole row, or `group` consecutive columns of it. Which ranges to choose: ops/ranges.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lessen.ops.learned_steps import scale_gradient

BEYOND = 0.5  # steps outside unsigned integers up to which values round to one of them


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest integer: symmetric -127..127 when signed, 0..255 when not (for 8 bits)."""
    return (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


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
    x: Tensor, scale: Tensor, zero: Tensor | float, low: int, high: int, columns: Tensor | None = None, samples: int = 1
) -> Tensor:
    """What dequantizing the integers gives; scale and zero broadcast to x, or are (out, groups) with x's `columns`.

    Gradient: 1 for x inside and 0 for x that is clipped; for the scale LSQ's, of the size that `learned_steps` gives.
    As LSQ has it, x is clipped from the last integer on. With a zero point, which is rounded, either end is up to half
    a step off, and x is inside while it rounds to an integer there: else an image's blackest pixels would be clipped.
    """
    if x.dtype in (torch.bfloat16, torch.float16):  # from mixed precision: too coarse to be rounded to 8 bits again
        x = x.float()
    zero = torch.as_tensor(zero, dtype=x.dtype, device=x.device)
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        if scale.numel() == zero.numel() == 1 and low == 0 and x.device.type == "cpu":
            return _OneStep.apply(x, scale, zero, low, high, samples)  # type: ignore[no-any-return]
        return _LearnedStep.apply(x, scale, zero, low, high, columns, samples)  # type: ignore[no-any-return]
    scale, zero = _spread(scale, x, columns), _spread(zero, x, columns)
    return quantize(x, scale, zero, low, high).sub_(zero).mul_(scale)


def _spread(value: Tensor, x: Tensor, columns: Tensor | None) -> Tensor:
    return value if columns is None or value.dim() == 0 else spread(value, x, columns)


class _OneStep(torch.autograd.Function):
    """`_LearnedStep` for unsigned integers of one scale, as activations have them, which are large: half the time, by
    few passes over memory and nothing kept but x. On a CPU alone, since it needs the ends as numbers."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, samples: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, scale)
        ctx.ends, ctx.samples = (low - zero.item(), high - zero.item()), samples
        return x.div(scale).round_().clamp_(*ctx.ends).mul_(scale)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, scale = ctx.saved_tensors
        low, high = ctx.ends
        inside = torch.ops.aten.hardtanh_backward  # its first argument where the second is inside, else 0: in one pass
        v, grad_x, grad_scale = x.div(scale), None, None
        if ctx.needs_input_grad[0]:
            grad_x = inside(grad, v, low - BEYOND, high + BEYOND)
        if ctx.needs_input_grad[1]:
            slope = inside(v, v, low - BEYOND, high + BEYOND).neg_().add_(v.round_().clamp_(low, high))
            grad_scale = scale_gradient(grad, slope, x, scale, None, ctx.samples)
        return grad_x, grad_scale, None, None, None, None


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, columns: Tensor | None, samples: int
    ) -> Tensor:
        each, zero = _spread(scale, x, columns), _spread(zero, x, columns)
        q = quantize(x, each, zero, low, high)
        ctx.save_for_backward(x, scale, zero, q, columns)
        ctx.limits, ctx.samples = (low, high), samples
        return (q - zero).mul_(each)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, scale, zero, q, columns = ctx.saved_tensors
        low, high = ctx.limits
        v = x.div(_spread(scale, x, columns)).add_(zero)
        beyond = 0.0 if low < 0 else BEYOND  # signed integers have no zero point
        inside = v.clamp(low - beyond, high + beyond) == v
        grad_x = grad * inside if ctx.needs_input_grad[0] else None
        grad_scale = None
        if ctx.needs_input_grad[1]:
            slope = torch.where(inside, v, zero).neg_().add_(q)  # q - v, or where it was clipped q - zero
            grad_scale = scale_gradient(grad, slope, x, scale, columns, ctx.samples)
        return grad_x, grad_scale, None, None, None, None, None

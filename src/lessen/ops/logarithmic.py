"""Powers of two as levels: fine near zero, coarse far out, and a product is a shift (Miyashita et al. 2016,
arXiv:1603.01025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lessen.ops.learned_steps import scale_gradient
from lessen.ops.quantization import spread

BORDER = 0.5**0.5  # of mantissas in [0.5, 1): two neighbours' geometric mean


def exponents(x: Tensor) -> Tensor:
    """log2 of magnitudes, rounded: exact at the borders, as log2 itself is not on every path. Of 0 it is -1."""
    mantissa, exponent = torch.frexp(x.abs())
    return exponent - 1 + (mantissa >= BORDER)


def largest(bits: int) -> int:
    """The largest of the levels that `bits` hold where the smallest is 1: 0 and a sign and 2^(bits-1) - 1 exponents.

    >>> [largest(bits) for bits in (2, 3, 4)]
    [1, 4, 64]
    """
    return 1 << (2 ** (bits - 1) - 2)


def powers(x: Tensor, bits: int) -> Tensor:
    """Each value, in units of the smallest level, as 0 or +-2^k with k from 0 to 2^(bits-1) - 2, for bits 2 to 4.

    >>> powers(torch.tensor([0.6, 0.8, -3.0, 9.0]), 3).tolist()
    [0.0, 1.0, -4.0, 4.0]
    """
    levels = torch.tensor([0, *(1 << k for k in range(2 ** (bits - 1) - 1))], dtype=x.dtype, device=x.device)
    place = (exponents(x) + 1).clamp(0, len(levels) - 1)
    return torch.where(x == 0, 0.0, levels[place]) * torch.sign(x)


def fake_powers(x: Tensor, scale: Tensor, bits: int, columns: Tensor | None = None) -> Tensor:
    """What multiplying the powers of x / scale by the scale again gives; `scale` broadcasts to x, or is (out, groups).

    columns: the group of each of x's columns. Gradient: 1 for x up to the largest level's border and 0 beyond; for the
    scale as LSQ's, what rounding moves in units of the scale, of the size that `learned_steps` gives.
    """
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        return _LearnedPowers.apply(x, scale, bits, columns)  # type: ignore[no-any-return]
    each = scale if columns is None else spread(scale, x, columns)
    return powers(x / each, bits) * each


class _LearnedPowers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, bits: int, columns: Tensor | None) -> Tensor:  # type: ignore[override]
        each = scale if columns is None else spread(scale, x, columns)
        level = powers(x / each, bits)
        ctx.save_for_backward(x, scale, each, level, columns)
        ctx.top = largest(bits)
        return level * each

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, scale, each, level, columns = ctx.saved_tensors
        v = x / each
        inside = v.abs() < ctx.top / BORDER
        grad_x = grad * inside if ctx.needs_input_grad[0] else None
        grad_scale = None
        if ctx.needs_input_grad[1]:
            slope = torch.where(inside, level - v, level)
            grad_scale = scale_gradient(grad, slope, x, scale, columns)
        return grad_x, grad_scale, None, None


def logarithmic(x: Tensor, bits: int, top: Tensor | float | None = None) -> Tensor:
    """Each value as 0 or +-2^e, e the rounded log2: a sign and 2^(bits-1) - 1 exponents up to that of `top`.

    top: of the largest magnitude, that of x where none is given; what lies below the smallest level becomes 0.
    Gradient: straight through.

    >>> logarithmic(torch.tensor([1.0, -0.4, 0.2, 0.01]), 3).tolist()
    [1.0, -0.5, 0.25, 0.0]
    """
    size = x.detach().abs()
    top = size.amax() if top is None else torch.as_tensor(top, dtype=x.dtype, device=x.device)
    highest = exponents(top.clamp(min=torch.finfo(x.dtype).tiny))
    lowest = highest - (2 ** (bits - 1) - 2)
    exponent = exponents(size.clamp(min=torch.finfo(x.dtype).tiny))
    level = torch.where(exponent < lowest, 0.0, torch.exp2(torch.minimum(exponent, highest).to(x.dtype)))
    level = torch.where((size == 0) | (top == 0), 0.0, level) * torch.sign(x.detach())
    return x + (level - x).detach() if x.requires_grad else level

"""Powers of two as levels: fine near zero, coarse far out, and a product is a shift (Miyashita et al. 2016,
arXiv:1603.01025).
"""

from __future__ import annotations

import torch
from torch import Tensor


def logarithmic(x: Tensor, bits: int, top: Tensor | float | None = None) -> Tensor:
    """Each value as 0 or +-2^e, e the rounded log2: a sign and 2^(bits-1) - 1 exponents up to that of `top`.

    top: of the largest magnitude, that of x where none is given; what lies below the smallest level becomes 0.
    Gradient: straight through.

    >>> logarithmic(torch.tensor([1.0, -0.4, 0.2, 0.01]), 3).tolist()
    [1.0, -0.5, 0.25, 0.0]
    """
    size = x.detach().abs()
    top = size.amax() if top is None else torch.as_tensor(top, dtype=x.dtype, device=x.device)
    highest = torch.log2(top.clamp(min=torch.finfo(x.dtype).tiny)).round()
    lowest = highest - (2 ** (bits - 1) - 2)
    exponent = torch.log2(size.clamp(min=torch.finfo(x.dtype).tiny)).round()
    level = torch.where(exponent < lowest, 0.0, torch.exp2(exponent.clamp(max=highest)))
    level = torch.where((size == 0) | (top == 0), 0.0, level) * torch.sign(x.detach())
    return x + (level - x).detach() if x.requires_grad else level

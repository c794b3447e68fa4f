"""How alike two maps or two predictions are, a number for every sample.

SSIM: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity". Jensen-Shannon:
Lin 1991, doi:10.1109/18.61115.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # of Wang et al.


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between a and b (n, ...), flattened: (n,); NaN where either is all zero.

    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    tensor([0.7071,    nan])
    """
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).float()


def ssim(a: Tensor, b: Tensor, span: float = 1.0) -> Tensor:
    """Mean structural similarity of maps a and b (n, h, w) whose values lie in a range of `span`: (n,).

    Gaussian windows of 11 x 11 where they fit, without a border; on maps below 11 the largest odd side that fits.
    """
    side = min(WINDOW, *(s - 1 + s % 2 for s in a.shape[1:]))
    kernel = _gaussian(side).to(a.device)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x[:, None], kernel)[:, 0]

    a, b = a.double(), b.double()
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    local = (2 * ma * mb + c1) * (2 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return local.flatten(1).mean(1).float()


def _gaussian(side: int) -> Tensor:
    """(1, 1, side, side), sum 1."""
    line = torch.exp(-((torch.arange(side, dtype=torch.float64) - side // 2) ** 2) / (2 * SIGMA**2))
    return (line / line.sum()).outer(line / line.sum())[None, None]


def unit(maps: Tensor) -> Tensor:
    """Maps (n, h, w) >= 0, each divided by its largest value; a map of zeros stays."""
    top = maps.flatten(1).amax(1)
    return maps / torch.where(top > 0, top, 1.0)[:, None, None]


def kl(logits: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(other)) in nats, logits (n, classes): (n,)."""
    p, q = F.log_softmax(logits.double(), 1), F.log_softmax(other.double(), 1)
    return (p.exp() * (p - q)).sum(1).clamp(min=0).float()


def js(logits: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of both predictions in nats, between 0 and ln 2: (n,)."""
    p, q = F.log_softmax(logits.double(), 1), F.log_softmax(other.double(), 1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=torch.float64))
    halves = ((x.exp() * (x - middle)).sum(1) for x in (p, q))
    return (sum(halves, torch.zeros(())) / 2).clamp(min=0).float()

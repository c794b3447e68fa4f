"""Whether shares mean what they say: calibration error, Brier score, log loss and the curve behind them.

Expected calibration error: Naeini et al. 2015, Guo et al. 2017 (arXiv:1706.04599), over bins of equal width or of
equal count (Nguyen & O'Connor 2015, arXiv:1508.05154). What a perfectly calibrated model would show by chance is told
by consistency resampling (Bröcker & Smith 2007, doi:10.1175/WAF993.1).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 10
DRAWS, SEED = 1000, 0  # of what is resampled
Kind = Literal["mass", "width"]


class Bin(NamedTuple):
    """Predictions of similar confidence: between which ends, how many, mean confidence, and how many were right."""

    low: float
    high: float
    n: int
    confidence: float
    right: int


def top(logits: Tensor) -> Tensor:
    """Probability of the predicted class, logits (n, classes): (n,) float64."""
    return logits.double().softmax(1).amax(1)


def bins(confidence: Tensor, right: Tensor, count: int = BINS, kind: Kind = "mass") -> list[Bin]:
    """Bins of predictions by confidence (n,) in [0, 1] and whether each is right (n,) bool; empty ones are left out.

    kind: as many predictions in each ("mass"; equal confidences may stand in two), or bins of equal width.

    >>> bins(torch.tensor([0.5, 0.75]), torch.tensor([False, True]), 1)
    [Bin(low=0.5, high=0.75, n=2, confidence=0.625, right=1)]
    """
    confidence = confidence.double()
    found = []
    for part, rows in enumerate(_members(confidence, count, kind)):
        if len(rows):
            held = confidence[rows]
            ends = (part / count, (part + 1) / count) if kind == "width" else (float(held.min()), float(held.max()))
            found.append(Bin(*ends, len(rows), round(float(held.mean()), 12), int(right[rows].sum())))
    return found


def _members(confidence: Tensor, count: int, kind: Kind) -> list[Tensor]:
    if kind == "mass":
        return list(confidence.argsort(stable=True).tensor_split(min(count, max(1, len(confidence)))))
    index = (confidence * count).ceil().long().clamp(1, count) - 1  # (0, 0.1], (0.1, 0.2] ... as Guo et al.
    return [(index == i).nonzero()[:, 0] for i in range(count)]


def error(found: list[Bin]) -> float:
    """Expected calibration error: mean |confidence - share of right answers| of bins, weighted by their n.

    >>> error([Bin(0, 1, 4, 0.75, 3), Bin(0, 1, 4, 1.0, 3)])
    0.125
    """
    n = sum(b.n for b in found)
    return sum(abs(b.n * b.confidence - b.right) for b in found) / n if n else float("nan")


def ece(confidence: Tensor, right: Tensor, count: int = BINS, kind: Kind = "mass") -> float:
    """Expected calibration error of predictions, see `bins`."""
    return error(bins(confidence, right, count, kind))


def expected(confidence: Tensor) -> Tensor:
    """Calibration errors (DRAWS,) of a perfectly calibrated model with these confidences (n,), bins of equal count.

    Of n predictions none is zero: this is the scale on which an error means something.
    """
    confidence, random = confidence.double(), torch.Generator().manual_seed(SEED)
    members = _members(confidence, BINS, "mass")
    right = (torch.rand(DRAWS, len(confidence), generator=random, dtype=torch.float64) < confidence).double()
    return sum((((confidence - right)[:, rows]).sum(1).abs() for rows in members), torch.zeros(DRAWS)) / len(confidence)


def resampled(confidence: Tensor, right: Tensor) -> tuple[float, float]:
    """95 % bootstrap interval (Efron 1979) of the calibration error over samples, bins of equal count as they are.

    Resampling adds noise to an error that noise already raises, so the draws are moved down by what they rose
    (basic interval), never below zero.
    """
    confidence, random, n = confidence.double(), torch.Generator().manual_seed(SEED), len(confidence)
    gaps = torch.zeros(n, BINS, dtype=torch.float64)
    for i, rows in enumerate(_members(confidence, BINS, "mass")):
        gaps[rows, i] = (confidence - right.double())[rows]
    whole = gaps.sum(0).abs().sum() / n
    picked = torch.randint(n, (DRAWS, n), generator=random)
    found = torch.stack([gaps[rows].sum(0).abs().sum() / n for rows in picked])
    low, high = found.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return max(0.0, 2 * float(whole) - high), max(0.0, 2 * float(whole) - low)


def brier(logits: Tensor, y: Tensor) -> Tensor:
    """Sum of squared distances of all shares from the truth, logits (n, classes): (n,), between 0 and 2."""
    p = logits.double().softmax(1)
    return (p - F.one_hot(y, p.shape[1])).square().sum(1)


def nll(logits: Tensor, y: Tensor) -> Tensor:
    """-ln of the share of the right class, logits (n, classes): (n,) nats."""
    return F.cross_entropy(logits.double(), y, reduction="none")

"""Which range should the integers cover? Wide ranges round coarsely, narrow ones clip; each rule settles that its way.

minmax covers all; percentile leaves out a share; mse has the least squared error (Banner et al. 2019,
arXiv:1810.05723); kl the least loss of information (Migacz 2017, "8-bit Inference with TensorRT").
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lessen.ops import logarithmic
from lessen.ops import quantization as q

Rule = Literal["minmax", "percentile", "mse", "kl"]
Levels = Literal["uniform", "log"]  # equal steps, or powers of two, which are symmetric
BINS = 2048
THRESHOLDS = 200  # that kl tries
LEAST = 1 / 16  # of the range is the least that kl covers; TensorRT's rule begins at 128 of 2048 bins whatever the bits
TOPS = torch.cat([torch.linspace(1.0, 0.05, 39), torch.tensor([0.02, 0.01])])  # shares of the largest that mse tries


# --- rows of weights, each with a scale of its own


def affine(
    rows: Tensor, bits: int, *, symmetric: bool = True, rule: Rule = "minmax", share: float = 1.0,
    levels: Levels = "uniform",
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Scale (n,), and zero point (n,) unless symmetric, of every row (n, m); share is percentile's.

    A row of zeros gets scale 1, so that it stays zeros. kl counts equal steps, whatever the levels are.

    >>> affine(torch.tensor([[0.5, -1.27], [0.0, 0.0]]), 8)
    (tensor([0.0100, 1.0000]), None)
    """
    rows = rows.detach().float()
    low, high = ends(rows, symmetric, share if rule == "percentile" else 1.0)
    if rule == "mse":
        ratio = _least_squares(rows, low, high, bits, symmetric, levels)[:, 0]
        low, high = low * ratio, high * ratio
    elif rule == "kl":
        top = torch.maximum(-low, high) * _information(rows, low, high, bits)
        low, high = torch.maximum(low, -top), torch.minimum(high, top)
    dead = (low == 0) & (high == 0)
    if symmetric:
        return torch.where(dead, 1.0, high / _top(bits, levels)), None
    scale, zero = q.range_to_affine(low, high, bits)
    return torch.where(dead, 1.0, scale), zero


def ends(rows: Tensor, symmetric: bool, share: float) -> tuple[Tensor, Tensor]:
    """Ends (n,) of each row's range around 0, without the share of its values that lies furthest out."""
    outside = round(rows.shape[1] * (1 - share))
    if symmetric:
        high = rows.abs().kthvalue(rows.shape[1] - outside, 1).values if outside else rows.abs().amax(1)
        return -high, high
    outside //= 2
    low, high = rows.kthvalue(1 + outside, 1).values, rows.kthvalue(rows.shape[1] - outside, 1).values
    return low.clamp(max=0), high.clamp(min=0)


def _top(bits: int, levels: Levels) -> int:
    """The largest symmetric integer."""
    return logarithmic.largest(bits) if levels == "log" else q.limits(bits, signed=True)[1]


def _least_squares(
    rows: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool, levels: Levels = "uniform"
) -> Tensor:
    """The share (n, 1) of each row's range with the least squared error: a coarse grid, then a fine one around it.

    The largest power of two may stand beyond the largest value, up to where it rounds to the next.
    """
    most = 2**0.5 if levels == "log" else 1.0
    best = torch.ones(len(rows), 1, device=rows.device)
    least = torch.full_like(best, torch.inf)

    def look(ratio: Tensor) -> None:
        nonlocal best, least
        if symmetric:
            scale, zero = (high[:, None] * ratio / _top(bits, levels)).clamp(min=1e-30), 0.0
        else:
            scale, zero = q.range_to_affine(low[:, None] * ratio, high[:, None] * ratio, bits)
        if levels == "log":
            found = logarithmic.powers(rows / scale, bits) * scale
        else:
            found = q.fake_quantize(rows, scale, zero, *q.limits(bits, signed=symmetric))
        error = (found - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, ratio, best), torch.minimum(error, least)

    with torch.no_grad():
        for ratio in (TOPS * most).tolist():
            look(torch.full_like(best, ratio))
        for step in (0.0125, 0.005):
            center = best.clone()
            for sign in (-1, 1):
                look((center + sign * step).clamp(0.005, most))
    return best


def _information(rows: Tensor, low: Tensor, high: Tensor, bits: int) -> float:
    """One share for all rows: a row alone has too few values for a histogram, so all are put on one scale."""
    top = torch.maximum(-low, high)[:, None].clamp(min=1e-30)
    return entropy_threshold(magnitudes((rows / top).flatten(), 1.0), 2 ** (bits - 1))


# --- histograms of activations


class Histogram(NamedTuple):
    """Counts (BINS,) of the values between low and high that are not zero: any scale holds zero exactly."""

    counts: Tensor
    low: float
    high: float

    @classmethod
    def empty(cls, low: float, high: float) -> Histogram:
        return cls(torch.zeros(BINS), low, high)

    def add(self, values: Tensor) -> None:
        """Count more values, in place."""
        values = values.detach().flatten().float()
        if self.high > self.low:
            self.counts.add_(torch.histc(values[values != 0], BINS, self.low, self.high))

    def centers(self) -> Tensor:
        return self.low + (torch.arange(BINS) + 0.5) * ((self.high - self.low) / BINS)

    def span(self, rule: Literal["mse", "kl"], bits: int) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that the integers should cover."""
        if not self.counts.any():
            return torch.tensor(self.low), torch.tensor(self.high)
        return self._least_squares(bits) if rule == "mse" else self._least_information(bits)

    def _least_squares(self, bits: int) -> tuple[Tensor, Tensor]:
        x, weight = self.centers(), self.counts / self.counts.sum()
        best = (1.0, 1.0)
        for width, steps in ((1.0, 24), (0.06, 13)):
            near = [(b + width * (torch.linspace(0, 1, steps) - (1 if width == 1.0 else 0.5))) for b in best]
            lows, highs = torch.meshgrid(*(n.clamp(0.01, 1.0) for n in near), indexing="ij")
            low = (min(self.low, 0.0) * lows).reshape(-1, 1)
            high = (max(self.high, 0.0) * highs).reshape(-1, 1)
            scale, zero = q.range_to_affine(low, high, bits)
            error = (q.fake_quantize(x, scale, zero, *q.limits(bits, signed=False)) - x).square() @ weight
            at = int(error.argmin())
            best = float(lows.flatten()[at]), float(highs.flatten()[at])
        return torch.tensor(min(self.low, 0.0) * best[0]), torch.tensor(max(self.high, 0.0) * best[1])

    def _least_information(self, bits: int) -> tuple[Tensor, Tensor]:
        top = max(-self.low, self.high)
        index = (self.centers().abs() / top * BINS).long().clamp(max=BINS - 1)
        counts = torch.zeros(BINS).index_add_(0, index, self.counts)
        levels = 2 ** (bits - 1) if self.low < 0 < self.high else 2**bits
        reach = top * entropy_threshold(counts, levels)
        return torch.tensor(max(self.low, -reach)), torch.tensor(min(self.high, reach))


def magnitudes(values: Tensor, top: float) -> Tensor:
    """Counts (BINS,) of |values| over 0 to top, without zeros."""
    values = values.abs()
    return torch.histc(values[values > 0], BINS, 0.0, top)


def entropy_threshold(counts: Tensor, levels: int) -> float:
    """The share of the range at which clipping loses the least information, from counts (bins,) of magnitudes.

    For each threshold the clipped histogram, its tail on the last bin, is compared with what `levels` steps keep of
    the unclipped part: Kullback-Leibler divergence, a ten-thousandth of the mass where the second has none. Where
    levels are few, a spike near zero that has nearly a level for each bin would win over all else: hence LEAST.
    """
    counts = counts.double()
    bins, total = len(counts), float(counts.sum())
    if total == 0 or levels >= bins:
        return 1.0
    best, least = bins, float("inf")
    start = max(levels, round(bins * LEAST))
    for top in torch.linspace(start, bins, min(THRESHOLDS, bins - start + 1)).round().long().unique().tolist():
        inside = counts[:top]
        reference = inside.clone()
        reference[-1] += total - float(inside.sum())
        step = torch.arange(top) * levels // top
        mass = torch.zeros(levels, dtype=torch.float64).index_add_(0, step, inside)
        used = torch.zeros(levels, dtype=torch.float64).index_add_(0, step, (inside > 0).double())
        kept = torch.where(inside > 0, (mass / used.clamp(min=1))[step], 0.0)
        p, r = reference / total, (kept / kept.sum().clamp(min=1e-30)).clamp(min=1e-4 / bins)
        loss = float(torch.where(p > 0, p * torch.log(p.clamp(min=1e-30) / r), 0.0).sum())
        if loss < least:
            best, least = top, loss
    return best / bins

"""A tensor as it is, clipped at a percentile, and on a logarithmic scale: histogram, box, and what rounding leaves."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lessen.ops import histograms, outliers, ranges
from lessen.ops import quantization as q
from lessen.ops.calibration import batch_span
from lessen.ops.distortion import Distortion
from lessen.ops.logarithmic import logarithmic

BINS = 60
SHARE = 0.999  # that clipping keeps: the percentile rule
BOX = (0.0005, 0.25, 0.5, 0.75, 0.9995)  # between the smallest and the largest


class Shape(NamedTuple):
    """Histogram without zeros (edges bins + 1), and smallest value, 0.05 %, quartiles, 99.95 %, largest value."""

    edges: list[float]
    counts: list[int]
    box: list[float]
    kurtosis: float


def clipped(values: Tensor, share: float = SHARE) -> Tensor:
    """Values (n,) held within the range that leaves (1 - share) / 2 of them outside at each end.

    >>> clipped(torch.tensor([-9.0, 1.0, 2.0, 9.0]), 0.5).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    return values.clamp(*batch_span(values, share))


def shapes(values: Tensor, low: float, high: float) -> dict[str, Shape]:
    """Of sampled values (n,), whose whole lies between low and high: plain, clipped, and log2 of magnitudes."""
    living = values[values != 0]
    return {
        "plain": shape(values, low, high),
        "clipped": shape(clipped(values)),
        "log": shape(living.abs().log2() if len(living) else torch.zeros(1)),
    }


def shape(values: Tensor, low: float | None = None, high: float | None = None) -> Shape:
    """Of values (n,); low, high: ends that are known better than from these."""
    low, high = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    ends = torch.tensor([low, high]).to(values)
    edges = histograms.edges([values, ends], BINS)
    box = [low, *(float(outliers.quantile(values, share)) for share in BOX), high]
    return Shape(edges, histograms.counts(values, edges), box, outliers.kurtosis(values))


def rounded(values: Tensor, bits: int, *, rows: bool) -> dict[str, float]:
    """SQNR in dB of quantizing: over the whole range, clipped by the percentile rule, and to powers of two.

    rows: weights (out, n) with a symmetric range each; otherwise activations (n,) with one range and a zero point.
    """
    apart = clipped(values.flatten()).reshape(values.shape)
    logs = logarithmic(values, bits, values.abs().amax(1, keepdim=True) if rows else None)
    found = {"plain": _uniform(values, values, bits, rows), "clipped": _uniform(values, apart, bits, rows), "log": logs}
    told = {name: Distortion.of(values, y).sqnr_db for name, y in found.items()}
    return {name: value if not math.isnan(value) else math.inf for name, value in told.items()}


def _uniform(values: Tensor, within: Tensor, bits: int, rows: bool) -> Tensor:
    """Values rounded in the range of `within`."""
    if rows:
        scale, _ = ranges.affine(within, bits)
        return q.fake_quantize(values, scale[:, None], 0.0, *q.limits(bits, signed=True))
    scale, zero = q.range_to_affine(within.min(), within.max(), bits)
    return q.fake_quantize(values, scale, zero, *q.limits(bits, signed=False))

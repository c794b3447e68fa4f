"""Histograms that can be laid over each other: one set of bins for all, zeros counted apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def edges(values: Sequence[Tensor], bins: int) -> list[float]:
    """bins + 1 edges of equal width from the smallest to the largest value that is not zero; -1 to 1 without any.

    >>> edges([torch.tensor([0.0, 1.0]), torch.tensor([3.0])], 2)
    [1.0, 2.0, 3.0]
    """
    known = [v for v in values if torch.count_nonzero(v)]
    low = min((float(v[v != 0].min()) for v in known), default=-1.0)
    high = max((float(v[v != 0].max()) for v in known), default=1.0)
    if low == high:
        low, high = low - abs(low) / 2, high + abs(high) / 2
    return [low + (high - low) * i / bins for i in range(bins)] + [high]


def counts(values: Tensor, edges: Sequence[float]) -> list[int]:
    """How many of the values that are not zero fall into each bin; a value at an inner edge counts above it."""
    flat = values[values != 0].flatten().double().cpu()
    inner = torch.tensor(list(edges[1:-1]), dtype=torch.float64)
    return torch.bincount(torch.bucketize(flat, inner, right=True), minlength=len(edges) - 1).tolist()

"""How sure a mean over samples is (Efron 1979, percentile bootstrap)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES, CHUNK = 10_000, 2_000_000


class Estimate(NamedTuple):
    """Mean of n values and its 95 % interval; NaN where there are none."""

    mean: float
    low: float
    high: float
    n: int


def mean(values: Tensor, seed: int = 0) -> Estimate:
    """Mean of values (n,), NaN left out; of one value nothing is known of the spread.

    >>> mean(torch.tensor([2.0, 2.0, float("nan")]))
    Estimate(mean=2.0, low=2.0, high=2.0, n=2)
    """
    known = values[~values.isnan()].double().cpu()
    n = len(known)
    if n < 2:
        return Estimate(float(known.mean()) if n else math.nan, math.nan, math.nan, n)
    random = torch.Generator().manual_seed(seed)
    parts = max(1, math.ceil(RESAMPLES * n / CHUNK))  # bounds memory where there are many values
    drawn = [known[torch.randint(n, (RESAMPLES // parts, n), generator=random)].mean(1) for _ in range(parts)]
    low, high = torch.cat(drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(known.mean()), low, high, n)

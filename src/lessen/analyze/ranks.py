"""Do two orders agree: Spearman's rank correlation with a p value by permutation, and how sure a ranking is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

EXACT = 8  # up to so many values all orders are tried: 40,320
RESAMPLES = 1_000


class Correlation(NamedTuple):
    """Spearman's rho, its two-sided p value and the number of pairs; rho is NaN where one side does not vary."""

    rho: float
    p: float
    n: int

    def __str__(self) -> str:
        return f"Spearman {self.rho:+.2f}, p = {self.p:.2g}, n = {self.n}"


def spearman(a: Sequence[float], b: Sequence[float], *, draws: int = 9_999, seed: int = 0) -> Correlation:
    """Rank correlation of two columns. p: the share of orders at least as extreme, all of them up to 8 pairs.

    The usual t approximation is wrong for so few layers.

    >>> spearman([1, 2, 3, 4], [10, 20, 30, 40])
    Correlation(rho=1.0, p=0.08333333333333333, n=4)
    """
    from itertools import permutations

    import numpy as np

    x, y = (_unit(np.asarray(v, float)) for v in (a, b))
    n = len(x)
    if n < 3 or not x.any() or not y.any():
        return Correlation(math.nan, 1.0, n)
    rho = float(x @ y)
    if n <= EXACT:
        orders = np.array(list(permutations(range(n))))
        return Correlation(_tidy(rho), float((np.abs(y[orders] @ x) >= abs(rho) - 1e-12).mean()), n)
    random = np.random.default_rng(seed)
    extreme = sum(abs(x @ random.permutation(y)) >= abs(rho) - 1e-12 for _ in range(draws))
    return Correlation(_tidy(rho), (int(extreme) + 1) / (draws + 1), n)


def interval(found: Correlation) -> tuple[float, float]:
    """95 % interval of a rank correlation (Bonett & Wright 2000, doi:10.1007/BF02294183); NaN below 5 pairs.

    >>> [round(end, 2) for end in interval(Correlation(0.5, 0.1, 12))]
    [-0.14, 0.85]
    """
    if found.n < 5 or math.isnan(found.rho):
        return math.nan, math.nan
    rho = max(-0.9999, min(0.9999, found.rho))
    reach = 1.959964 * math.sqrt((1 + rho * rho / 2) / (found.n - 3))
    return math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)


class Steadiness(NamedTuple):
    """How sure a ranking of rows is over resampled samples.

    places: (low, high) of every row's place, 1 the largest value, in 95 % of the draws. rho: median Spearman of a
    draw's ranking with the one of all samples. low: the rho that 95 % of the draws reach.
    """

    places: list[tuple[int, int]]
    rho: float
    low: float


def steadiness(values: np.ndarray) -> Steadiness:
    """Bootstrap over the samples of values (rows, samples), ranked by their means over the samples."""
    import numpy as np

    n = values.shape[1]
    random = np.random.default_rng(0)
    weights = random.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    means = weights @ values.T  # (RESAMPLES, rows)
    places = np.stack([places_of(row) for row in means])
    low, high = np.quantile(places, [0.025, 0.975], axis=0)
    whole = _unit(values.mean(1))
    agree = np.array([_unit(row) @ whole for row in means])
    spans = [(math.floor(a), math.ceil(b)) for a, b in zip(low, high, strict=True)]
    return Steadiness(spans, float(np.median(agree)), float(np.quantile(agree, 0.05)))


def places_of(values: Any) -> Any:
    """Place of each value, 1 the largest; equal ones share the mean of theirs."""
    import numpy as np
    from scipy.stats import rankdata

    return rankdata(-np.round(values, 12))  # sums of the same shares in another order are equal


def _unit(values: Any) -> Any:
    """Centred ranks of length 1; zeros where nothing varies."""
    import numpy as np

    ranks = places_of(values)
    ranks = ranks.mean() - ranks
    length = np.sqrt(ranks @ ranks)
    return ranks / length if length > 0 else ranks


def _tidy(rho: float) -> float:
    return round(max(-1.0, min(1.0, rho)), 12)

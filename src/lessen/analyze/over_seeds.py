"""One number a seed: its mean with a t interval, its paired differences, and one correction over all that are tested.

Student 1908, doi:10.1093/biomet/6.1.1; Holm 1979, Scand. J. Statist. 6. A difference is of the same seed in both, so
that what a seed does to both drops out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lessen.analyze.power import smallest_effect
from lessen.analyze.statistics import LEVEL, holm, seed_mean


class Mean(NamedTuple):
    """Of `values`, one a seed and NaN where there is none; low, high: 95 % t interval, NaN for one seed."""

    value: float
    low: float
    high: float
    values: tuple[float, ...]


class Gap(NamedTuple):
    """A number minus another of the same seeds; `values` by seed, NaN where one is not known.

    p: of the paired t-test; None for one seed, and where all seeds show the same, whose spread is unknown. p_holm:
    corrected over `tests`. smallest: the true difference that would come out clear in 80 of 100 such studies, even if
    it were the only one of all the tests that is real.
    """

    value: float
    low: float
    high: float
    values: tuple[float, ...]
    p: float | None = None
    p_holm: float | None = None
    smallest: float | None = None

    @property
    def clear(self) -> bool:
        return self.p_holm is not None and self.p_holm <= LEVEL


def mean(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Mean | None:
    """Mean over seeds, its interval cut at least and most; None where no seed has a value.

    >>> mean([1.0, 2.0, 3.0]).low.__round__(4)
    -0.4841
    """
    known = _known(values)
    if not known:
        return None
    d = seed_mean(known, max(map(abs, known)))
    if len(known) == 1:
        return Mean(d.value, math.nan, math.nan, tuple(values))
    return Mean(d.value, max(least, d.low), min(most, d.high), tuple(values))


def gap(ours: Sequence[float], theirs: Sequence[float]) -> Gap | None:
    """Paired by seed, not yet corrected; None where no seed has both."""
    values = tuple(a - b for a, b in zip(ours, theirs, strict=True))
    known = _known(values)
    if not known:
        return None
    d = seed_mean(known, max(abs(v) for v in (*ours, *theirs) if math.isfinite(v)))
    if len(known) == 1:
        return Gap(d.value, math.nan, math.nan, values)
    return Gap(d.value, d.low, d.high, values, d.p if d.error > 0 else None)


def corrected(gaps: Sequence[Gap | None]) -> list[Gap | None]:
    """All of a page, each with p_holm and smallest over those that have a p."""
    tested = [i for i, g in enumerate(gaps) if g and g.p is not None]
    found = list(gaps)
    for i, p in zip(tested, holm([_p(gaps[i]) for i in tested]), strict=True):
        one = gaps[i]
        assert one is not None
        found[i] = one._replace(p_holm=p, smallest=_smallest(_known(one.values), len(tested)))
    return found


def _p(one: Gap | None) -> float:
    assert one is not None and one.p is not None
    return one.p


def _smallest(values: Sequence[float], tests: int) -> float:
    from statistics import stdev

    return smallest_effect(stdev(values), len(values), len(values) - 1, alpha=LEVEL / tests)


def _known(values: Sequence[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]

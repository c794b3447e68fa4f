"""How sure a number is: intervals of shares, spreads over seeds, differences with the smallest that could be seen.

Wilson 1927 for shares; for differences the pigeonhole bootstrap (Owen 2007, arXiv:0711.3114), which resamples
seeds and test images together, since both are samples and three seeds alone have only ten resamples. A t-test (Student
1908, doi:10.1093/biomet/6.1.1) divides by the spread that it saw; a few values that happen to be equal show none, which
is no proof that there is none. So without a spread nothing is clear, and an interval gets no width of zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from lessen.analyze.power import smallest_effect

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05  # of all tests of one question together
ROUNDING = 1e-9  # a spread of so small a part of the values is none


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, `right` of `n`.

    >>> low, high = wilson(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.5958, 0.9821)
    """
    if not (n > 0 and 0 <= right <= n and 0 < confidence < 1):
        raise ValueError(f"no share: {right} of {n} at confidence {confidence}")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (right + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * right * (n - right) / n + z2 * z2 / 4) / (n + z2)
    # rounding must not move the ends that are exact
    return (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)


class Summary(NamedTuple):
    """Mean, sample standard deviation (NaN for one value: nothing is known of the spread) and count."""

    mean: float
    sd: float
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Mean and spread of repeated runs.

    >>> summary([1.0, 2.0, 3.0])
    Summary(mean=2.0, sd=1.0, n=3)
    """
    if not values:
        raise ValueError("no values to summarize")
    return Summary(fmean(values), stdev(values) if len(values) > 1 else math.nan, len(values))


class Difference(NamedTuple):
    """Score of recipe A minus score of recipe B over the same seeds and the same test images.

    low, high: 95 % of the bootstrap's means. With few seeds they are too narrow, because resampling s seeds shows
    only (s - 1) / s of their variance; so `clear` also asks for a t-test with the seeds' degrees of freedom. They are
    -1 and 1 where nothing is known: of one seed's score, of scores that differ by the same at every seed, of one image.
    """

    value: float
    low: float
    high: float
    error: float  # standard error, by analysis of variance; 0 where no spread was seen, infinite where none can be
    freedom: int  # its degrees of freedom (Satterthwaite), between seeds - 1 and images - 1
    seeds: int
    images: int  # 0: from the seeds' scores alone

    @property
    def p(self) -> float:
        """Of the two-sided t-test that the true difference is zero; 1 without a spread, as there is no test then."""
        from scipy.special import stdtr

        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error)) if self.error > 0 else 1.0

    @property
    def clear(self) -> bool:
        """The interval lacks zero, and so does the t interval; never without a spread."""
        from scipy.special import stdtrit

        beyond = abs(self.value) > stdtrit(self.freedom, 0.975) * self.error
        return self.error > 0 and bool(beyond) and not self.low <= 0 <= self.high

    def smallest(self, tests: int = 1) -> float:
        """The true difference that would come out clear in 80 of 100 such studies; NaN where no spread was seen.

        Of several tests: even if it were the only one that is real, as Holm's correction asks of it the level / tests.
        """
        return smallest_effect(self.error, 1, self.freedom, alpha=LEVEL / tests) if self.error > 0 else math.nan

    def __str__(self) -> str:
        seeds = "1 seed, so other seeds may differ" if self.seeds == 1 else f"{self.seeds} seeds"
        images = f"{self.images} images" if self.images else "their scores alone"
        limit = f"; a difference below {100 * self.smallest():.2f} points would usually not have been seen"
        return (
            f"{100 * self.value:+.2f} points (95 % {100 * self.low:+.2f} to {100 * self.high:+.2f}; {seeds}; "
            f"{images}), {'clear' if self.clear else 'not clear'}{limit if self.smallest() > 0 else ''}"
        )


def paired_difference(a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> Difference:
    """Compare two recipes by their right answers: a and b are (seeds, images), 1 or True where right.

    Row s of both comes from seed s, column i from test image i. Each resample draws seeds and images, both with
    replacement, and keeps the pairs; everything random follows from `seed`. One image tells nothing of others. Where
    no spread is seen, as when all images are lost at every seed, the interval reaches at least as far as Wilson's of so
    many images, with the difference read as a share of the way from -1 to 1.
    """
    import numpy as np

    if a.shape != b.shape or a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"answers must be two arrays (seeds, images) of one shape; got {a.shape} and {b.shape}")
    d = np.asarray(a, np.int8) - np.asarray(b, np.int8)
    value, (seeds, images) = float(d.mean()), d.shape
    if images == 1:
        return Difference(value, -1.0, 1.0, math.inf, 1, seeds, 1)
    low, high = map(float, np.quantile(_bootstrap(d, resamples, seed), [0.025, 0.975]))
    error, freedom = _standard_error(d)
    if error == 0 and value:
        ends = [2 * end - 1 for end in wilson(round(images * (1 + value) / 2), images)]
        low, high = min(low, ends[0]), max(high, ends[1])
    return Difference(value, low, high, error, freedom, seeds, images)


def seed_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """The same from the seeds' scores alone, for want of the answers: a paired t interval, `images` is 0.

    What other test images would show is not in it. One seed has no interval and is never clear, nor has a difference
    that is the same at every seed.

    >>> seed_difference([0.9, 0.8, 0.7], [0.8, 0.6, 0.4]).p.__round__(4)
    0.0742
    """
    scale = max(map(abs, (*a, *b)), default=0.0)
    found = seed_mean([x - y for x, y in zip(a, b, strict=True)], scale)
    unknown = found.error == 0 and abs(found.value) > ROUNDING * scale
    return found._replace(low=-1.0, high=1.0) if unknown else found


def seed_mean(values: Sequence[float], scale: float) -> Difference:
    """Mean of one value a seed with its t interval; one seed's is -1 to 1. scale: of the values, or of those that they
    are the differences of, by which rounding is told from a spread."""
    from scipy.special import stdtrit

    mean, sd, n = summary(values)
    if n == 1:
        return Difference(mean, -1.0, 1.0, math.inf, 1, 1, 0)
    error = sd / math.sqrt(n)
    error = error if error > ROUNDING * scale else 0.0
    half = float(stdtrit(n - 1, 0.975)) * error
    return Difference(mean, mean - half, mean + half, error, n - 1, n, 0)


def mean_interval(right: np.ndarray, images: int = 0) -> tuple[float, float]:
    """95 % t interval of a recipe's mean score, seeds and test images both drawn; right is (seeds, images).

    Seeds' scores alone are (seeds, 1), each a share of so many `images`. Where neither seeds nor images show a spread,
    as when all answers are right, Wilson's interval of that share of the images stands: other images may be answered
    wrongly, though what other seeds would show is not in it.
    """
    from scipy.special import stdtrit

    error, freedom = _standard_error(right)
    mean, n = float(right.mean()), images or right.shape[1]
    if error == 0:
        return wilson(round(mean * n), n)
    half = float(stdtrit(freedom, 0.975)) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def holm(ps: Sequence[float]) -> list[float]:
    """P values that keep their level over all tests of one question (Holm 1979, Scand. J. Statist. 6).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    found, least = [1.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = least
    return found


def _bootstrap(d: Any, resamples: int, seed: int) -> Any:
    """Means (resamples,) of d (seeds, images) with rows and columns drawn with replacement.

    Images whose columns are equal are one kind, so a draw of images is a multinomial draw of kinds: the same
    distribution as drawing images, at the cost of at most 3^seeds kinds.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    seeds, images = d.shape
    kinds, counts = np.unique(d, axis=1, return_counts=True)
    rows = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    total = np.empty(resamples)
    step = max(1, 2_000_000 // len(counts))  # bounds memory where there are many seeds, hence many kinds
    for start in range(0, resamples, step):
        part = slice(start, start + step)
        columns = random.multinomial(images, counts / images, len(total[part])) / images
        total[part] = ((rows[part] @ kinds) * columns).sum(1)
    return total


def _standard_error(d: Any) -> tuple[float, int]:
    """Standard error of the mean of d (seeds, images), both random, and its degrees of freedom; 0 without a spread.

    The variance is the sum of what the seeds' means and the images' means show; what both show is counted twice,
    on the safe side. The degrees of freedom are Satterthwaite's, rounded down.
    """
    seeds, images = d.shape
    parts = [
        (float(d.mean(other).var(ddof=1)) / n, n - 1) for other, n in ((1, seeds), (0, images)) if n > 1
    ]  # (variance of the mean, degrees of freedom)
    variance = math.fsum(v for v, _ in parts)
    if variance <= (ROUNDING * float(abs(d).max())) ** 2:
        return 0.0, max((n for _, n in parts), default=0)
    return math.sqrt(variance), max(1, int(variance**2 / math.fsum(v * v / n for v, n in parts)))

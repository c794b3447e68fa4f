"""Which options no other beats in every respect, and which to ship (Kung et al. 1975, J. ACM 22)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ROUNDING = 1e-12  # 0.97 - 0.96 is a hair more than 0.01


def front(points: Sequence[Sequence[float]], minimize: Sequence[bool] = (True, False)) -> list[int]:
    """Indices of the points that no other point dominates, best in the first coordinate first.

    A point dominates another when it is nowhere worse and somewhere better; so equal points do not dominate
    each other, and both stay. A point with a NaN is on no front.

    >>> front([(10, 0.9), (20, 0.95), (30, 0.95), (20, 0.8)])
    [0, 1]
    """
    costs = {
        i: tuple(float(v) if low else -float(v) for v, low in zip(point, minimize, strict=True))
        for i, point in enumerate(points)
    }
    costs = {i: cost for i, cost in costs.items() if all(v == v for v in cost)}
    kept: list[int] = []
    for i in sorted(costs, key=lambda i: (costs[i], i)):  # whoever dominates a point sorts before it
        if not any(_dominates(costs[j], costs[i]) for j in kept):
            kept.append(i)
    return kept


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


class Option(NamedTuple):
    """What shipping one recipe costs: drop of the validation score from the baseline's (0.01 is one point, less
    than 0 is a gain), bytes of the runnable files, and time (milliseconds, or a ratio; None where not measured)."""

    drop: float
    size: float
    time: float | None = None


class Choice(NamedTuple):
    """Positions among the options; None where none qualifies."""

    smallest: int | None
    fastest: int | None
    most_accurate: int | None


def recommend(
    options: Sequence[Option],
    baseline: Option,
    *,
    max_drop: float = 0.01,
    max_size: float | None = None,
    max_time: float | None = None,
) -> Choice:
    """The smallest, the fastest and the most accurate option within the allowed drop; each has to be smaller
    (faster, smaller) than the baseline and within the limits. Ties go to the smaller drop, then fewer bytes.

    >>> recommend([Option(0.002, 50, 0.4), Option(0.03, 20, 0.2), Option(-0.001, 90, 1.1)], Option(0, 100, 1))
    Choice(smallest=0, fastest=0, most_accurate=2)
    """

    def allowed(o: Option) -> bool:
        slow = max_time is not None and o.time is not None and o.time > max_time
        return o.drop == o.drop and not slow and (max_size is None or o.size <= max_size)

    able = [i for i, o in enumerate(options) if allowed(o)]
    near = [i for i in able if options[i].drop <= max_drop + ROUNDING]
    smaller = [i for i in near if options[i].size < baseline.size]
    limit = -math.inf if baseline.time is None else baseline.time
    times = {i: t for i in near if (t := options[i].time) is not None and t < limit}
    return Choice(
        smallest=min(smaller, key=lambda i: (options[i].size, options[i].drop), default=None),
        fastest=min(times, key=lambda i: (times[i], options[i].drop, options[i].size), default=None),
        most_accurate=min(smaller, key=lambda i: (options[i].drop, options[i].size), default=None),
    )

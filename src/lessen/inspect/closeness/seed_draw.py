"""A dot a seed and a bar for the interval, each measure on an axis of its own: pictures of a page without a script."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lessen.analyze.over_seeds import Mean
    from lessen.inspect.closeness.seeds import Line

STEPS = (1, 2, 5, 10)
PARTS = 4  # of the axis at most that a step leaves


class Axis(NamedTuple):
    """From low to high, both at a round number."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Axis:
        """The shortest that holds them all.

        >>> Axis.around([0.12, 0.87])
        Axis(low=0.0, high=1.0)
        """
        known = [v for v in values if math.isfinite(v)] or [0.0]
        span = max(max(known) - min(known), 1e-6)
        ten = 10.0 ** math.floor(math.log10(span / PARTS))
        step = next(s * ten for s in STEPS if s * ten * PARTS >= span * (1 - 1e-9))
        low = math.floor(min(known) / step + 1e-9)
        high = max(math.ceil(max(known) / step - 1e-9), low + 1)
        return cls(round(low * step, 12), round(high * step, 12))

    def at(self, value: float) -> float:
        """Percent of the width."""
        return round(100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low), 2)


class Drawn(NamedTuple):
    """In percent of the width: dots, the mean, and the interval's ends, which are the mean's where there is none."""

    dots: tuple[float, ...]
    at: float
    low: float
    high: float


def axis(line: Line) -> Axis:
    """Of all that the line shows."""
    shown = [m for m in (*line.means, line.original, line.between) if m]
    return Axis.around([*(v for m in shown for v in (*m.values, m.low, m.high)), *_controls(line)])


def _controls(line: Line) -> list[float]:
    return [line.another.value] if line.another else []


def drawn(m: Mean, on: Axis) -> Drawn:
    low, high = (m.value if math.isnan(end) else end for end in (m.low, m.high))
    return Drawn(tuple(on.at(v) for v in m.values if math.isfinite(v)), *map(on.at, (m.value, low, high)))


SHARES = Axis(0.0, 1.0)

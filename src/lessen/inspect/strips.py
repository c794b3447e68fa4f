"""Errors along depth, small histograms, box plots and clouds as SVG paths: pictures of a page that needs no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lessen.inspect.stage_errors import Propagated, StageRow
    from lessen.ops.spreads import Shape

HEIGHT = 40.0
STEP, MOST = 10, 80.0  # dB between two lines of the axis, and what is drawn at most
SERIES: dict[str, tuple[str, str]] = {
    "alone": ("alone, its input exact", "quantize"), "accumulated": ("accumulated", "prune"),
    "output": ("at the answer, when only it is quantized", "distill"),
}  # fmt: skip


def known(value: float) -> bool:
    """Whether there is a number to show."""
    return math.isfinite(value)


class Scale(NamedTuple):
    """An axis of decibels; more error lies to the left."""

    low: float
    high: float

    @classmethod
    def of(cls, one: Propagated) -> Scale:
        levels = [min(v, MOST) for row in one.rows for name in SERIES if math.isfinite(v := getattr(row, name).sqnr_db)]
        low, high = min(levels, default=0.0), max(levels, default=STEP)
        return cls(STEP * math.floor(low / STEP), STEP * max(math.ceil(high / STEP), math.floor(low / STEP) + 1))

    def at(self, value: float) -> float:
        """Percent of the width."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def ticks(self) -> list[int]:
        return list(range(int(self.low), int(self.high) + 1, STEP))


def depth(one: Propagated, name: str, scale: Scale) -> str:
    """One series as the `d` of a line through all stages, a unit high each; broken where there is no error."""
    return _line([_level(row, name, scale) for row in one.rows])


def dots(one: Propagated, name: str, scale: Scale) -> str:
    """The same as points: paths without a length, which round ends make visible."""
    found = ((_level(row, name, scale), i + 0.5) for i, row in enumerate(one.rows))
    return "".join(f"M{x:.2f} {y:g}h0" for x, y in found if x is not None)


def _level(row: StageRow, name: str, scale: Scale) -> float | None:
    value = getattr(row, name).sqnr_db
    return scale.at(value) if math.isfinite(value) else None


def _line(levels: Sequence[float | None]) -> str:
    points = [(x, i + 0.5) for i, x in enumerate(levels)]
    return "".join(
        f"M{a:.2f} {y:g}L{b:.2f} {z:g}" for (a, y), (b, z) in pairwise(points) if a is not None and b is not None
    )


def bars(shape: Shape) -> str:
    """A histogram as the `d` of a path, a unit a bin; heights are roots of shares, so that thin tails are seen.

    >>> from lessen.ops.spreads import Shape
    >>> bars(Shape([0, 1, 2], [1, 4], [], 3.0))
    'M0 40V20.80H1 V1.60H2V40'
    """
    top = math.sqrt(max(shape.counts, default=0))
    if not top:
        return ""
    steps = " ".join(f"V{HEIGHT * (1 - 0.96 * math.sqrt(n) / top):.2f}H{x}" for x, n in enumerate(shape.counts, 1))
    return f"M0 {HEIGHT:g}{steps}V{HEIGHT:g}"


def box(shape: Shape, low: float, high: float) -> dict[str, float]:
    """Where a box plot's marks lie in percent of low to high: ends, whiskers, quartiles."""
    names = ("least", "from", "left", "middle", "right", "to", "most")
    span = (high - low) or 1.0
    return {name: 100 * (v - low) / span for name, v in zip(names, shape.box, strict=True)}


def around(shape: Shape) -> tuple[float, float]:
    """An axis with zero in the middle that holds all values."""
    top = max(abs(shape.box[0]), abs(shape.box[-1])) or 1.0
    return -top, top


def cloud(x: Sequence[float], y: Sequence[float]) -> str:
    """Points of two columns in a square of 100, from the smallest to the largest of each, as paths without a length.

    >>> cloud([1, 3], [0, 5])
    'M0.0 100.0h0M100.0 0.0h0'
    """
    across, up = (_unit(values) for values in (x, y))
    return "".join(f"M{100 * across(a):.1f} {100 - 100 * up(b):.1f}h0" for a, b in zip(x, y, strict=True))


def _unit(values: Sequence[float]) -> Callable[[float], float]:
    low = min(values, default=0.0)
    span = (max(values, default=0.0) - low) or 1.0
    return lambda value: (value - low) / span


def worst(seen: Sequence, n: int = 6) -> Iterator:
    """The n tensors with the heaviest tails, in the model's order."""
    ranked = sorted(seen, key=lambda s: s.kurtosis if s.kurtosis == s.kurtosis else 0, reverse=True)[:n]
    return (s for s in seen if any(s is r for r in ranked))

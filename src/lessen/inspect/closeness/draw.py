"""Reliability, heat maps and maps of attention as SVG and PNG: pictures of a page that needs no script."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from lessen.analyze.statistics import wilson

if TYPE_CHECKING:
    from lessen.inspect.closeness.answers import Answers
    from lessen.inspect.closeness.found import Close
    from lessen.ops.bootstrap import Estimate

CELL = 10  # units of a heat map's square


class Dot(NamedTuple):
    """A bin in percent of the picture's sides; top and bottom are the 95 % interval of its share of right answers."""

    x: float
    y: float
    top: float
    bottom: float
    n: int


def least(found: Close) -> float:
    """Where all reliability diagrams of the page start: below every bin, in steps of a tenth."""
    lowest = min(min(b.confidence, b.right / b.n) for own in found.answers for b in own.bins)
    return min(0.9, math.floor(10 * lowest) / 10)


def dots(own: Answers, low: float) -> list[Dot]:
    """Share of right answers over confidence, both from `low` to 1."""

    def at(value: float) -> float:
        return round(100 * (value - low) / (1 - low), 2)

    found = []
    for b in own.bins:
        bottom, top = wilson(b.right, b.n)
        found.append(Dot(at(b.confidence), 100 - at(b.right / b.n), 100 - at(top), 100 - at(max(bottom, low)), b.n))
    return found


class Cell(NamedTuple):
    """A square of a heat map: its corner, CKA as text, and as opacity in 0 to 1."""

    x: int
    y: int
    text: str
    strength: float


def cells(matrix: tuple[tuple[float, ...], ...]) -> list[Cell]:
    """The original's layers from left to right, the other model's from bottom to top, as the input stands below."""
    rows = len(matrix[0]) if matrix else 0
    return [
        Cell(CELL * i, CELL * (rows - 1 - k), _short(value), round(min(1.0, max(0.0, value or 0.0)), 3))
        for i, line in enumerate(matrix)
        for k, value in enumerate(v if math.isfinite(v) else 0.0 for v in line)
    ]


def _short(value: float) -> str:
    """Two digits without the zero before the point; a number of chance around zero is 0."""
    text = f"{max(0.0, value):.2f}"
    return "1" if text == "1.00" else text.lstrip("0") if text != "0.00" else "0"


class Bar(NamedTuple):
    """A mean and its interval in percent of the width."""

    low: float
    at: float
    high: float


def bar(e: Estimate) -> Bar:
    """Of a share, or of a likeness between 0 and 1."""
    low, high = (e.mean if math.isnan(end) else end for end in (e.low, e.high))
    return Bar(*(round(100 * min(1.0, max(0.0, v)), 2) for v in (low, e.mean, high)))

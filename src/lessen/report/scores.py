"""The scale of scores in the questions' pictures: logarithmic in the share of wrong answers.

At 98 % a point matters as much as ten do at 80 %, and both must be seen in one picture.
"""

from __future__ import annotations

from collections.abc import Iterable

LABELS = (99.99, 99.98, 99.95, 99.9, 99.8, 99.5, 99, 98, 95, 90, 80, 50, 0)  # scores that may be marked, in percent
FEWEST = 3  # marks; below that the scale between two is too narrow for them


def wrong(score: float, n: int) -> float:
    """Percent of wrong answers; of none, half an answer, for a logarithm has no zero."""
    return 100 * max(1 - score, 0.5 / max(n, 1))


def span(values: Iterable[float]) -> tuple[float, float]:
    """The drawn range of percents wrong, with some air: lowest, highest."""
    found = [v for v in values if v > 0] or [1.0, 10.0]
    low, high = min(found), max(found)
    air = max((high / low) ** 0.06, 1.06)
    return low / air, min(high * air, 100.0)


def ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Percents wrong and the scores that they stand for."""
    marks = [round(100 - label, 2) for label in LABELS if low <= 100 - label <= high]
    if len(marks) < FEWEST:
        step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if (high - low) / s <= 6)
        marks = [round(i * step, 6) for i in range(1, int(high / step) + 1) if i * step >= low]
    return marks, [f"{100 - mark:g}" for mark in marks]

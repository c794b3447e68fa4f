"""Where the points of a curve stand in a picture, and how its axis is marked; the same in every kind of picture."""

from __future__ import annotations

import math
from typing import NamedTuple

from lessen.analyze.comparison import AXES
from lessen.analyze.findings import Finding
from lessen.report import words
from lessen.report.phrases import position

TITLES = {
    "sparsity": "zeros among all values, %, biases included (scaled by what is left)",
    "parameters": "parameters", "bits": "bits of all values as stored", "bytes": "runnable files",
    "macs": "multiply-accumulates a sample",
    "nonzero macs": "multiply-accumulates a sample, zero weights left out",
    "latency": "latency at the first batch size, baseline = 1",
}  # fmt: skip


class Axis(NamedTuple):
    """A scale with its marks; logarithmic where x is a cost."""

    title: str
    log: bool
    low: float
    high: float  # low > high: reversed
    marks: list[float]
    labels: list[str]


def at(finding: Finding, x: float) -> float:
    """The place of an x: sparsity stands where what is left of the model does."""
    return max(1 - x, 1e-4) if finding.x == "sparsity" else x


def axis(finding: Finding) -> Axis:
    """Of all points; marks at the values of the first arm, as far as they keep apart."""
    places = [at(finding, p.x) for p in finding.points if p.x is not None] or [1.0]
    log = finding.x in AXES and min(places) > 0
    title = TITLES.get(finding.x, finding.x)
    scale = math.log10 if log else float
    low, high = scale(min(places)), scale(max(places))
    air = max(0.06 * (high - low), 0.02 if log else 0.5 if high == low else 0)
    low, high = low - air, high + air
    marks: list[float] = []
    labels: list[str] = []
    for p in finding.points:
        if p.x is None:
            continue
        place = at(finding, p.x)
        if all(abs(scale(place) - scale(m)) > 0.12 * (high - low) for m in marks):
            marks.append(place)
            labels.append(_label(finding, p.x))
    ends = (10**low, 10**high) if log else (low, high)
    left, right = ends[::-1] if finding.x == "sparsity" else ends
    return Axis(title, log, left, right, marks, labels)


def _label(finding: Finding, x: float) -> str:
    text = position(finding, x).replace(words.THIN, " ")
    return text.removesuffix(" %")  # which the title says


def look(i: int) -> tuple[int, int]:
    """Colour and shape, each of six, of the i-th arm: 36 arms can be told apart.

    >>> [look(i) for i in (0, 5, 6)]
    [(0, 0), (5, 5), (0, 1)]
    """
    return i % 6, (i + i // 6) % 6

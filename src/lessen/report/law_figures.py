"""A law's figure as plotly data: sizes as points with their spread, fitted curves, and who is best as a strip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lessen.analyze.findings import Finding
from lessen.analyze.scaling import Fit, Held
from lessen.report.axes import Axis
from lessen.report.figures import Figure

STRIP = 0.035  # of the picture's height
FAINT = 0.3  # opacity of the strip where it is not sure
STEPS = 60  # points of a curve


def curve(fit: Fit, sizes: Sequence[float]) -> tuple[list[float], list[float]]:
    """Bits and percents wrong of a fitted curve, between the smallest and the largest of the sizes."""
    if fit.why or not sizes:
        return [], []
    low, high = math.log(min(sizes)), math.log(max(sizes))
    x = [math.exp(low + i * (high - low) / (STEPS - 1)) for i in range(STEPS)]
    return x, [100 * (fit.at(v) or 0.0) for v in x]


def spans(front: Sequence[Held], scale: Axis) -> list[tuple[float, float, Held]]:
    """Where on the axis each budget's best reaches: half way to its neighbours; the ends as far as the axis."""
    middles = [math.sqrt(a.budget * b.budget) for a, b in pairwise(front)]
    if not front:
        return []
    ends = [front[0].budget, *middles, max(front[-1].budget, scale.high)]
    return [(a, b, held) for (a, b), held in zip(pairwise(ends), front, strict=True)]


def strip(f: Finding, scale: Axis, colours: Sequence[str]) -> list[Figure]:
    """Shapes along the lower edge, each in the colour of the arm that is best there."""
    front = f.law.front if f.law else ()
    return [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": STRIP,
         "line": {"width": 0}, "fillcolor": colours[f.arms.index(held.arm)], "opacity": 1 if held.sure else FAINT}
        for low, high, held in spans(front, scale)
    ]  # fmt: skip

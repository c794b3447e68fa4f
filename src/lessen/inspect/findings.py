"""What a scan says in words: who is sensitive, whether that follows depth, and how sure the ranking is.

A layer's sensitivity is its mean drop of the score over the grid of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from lessen.analyze.ranks import Correlation, interval, spearman
from lessen.inspect.bits import bits

if TYPE_CHECKING:
    import numpy as np

HOLDS = 0.95  # of the dense score: the line of the MIT 6.5940 lab
CLEAR = 0.05  # p value
CLIPPING = ("clip_weights", "clip_outputs")  # ratios are shares of values outside the range
WORDS = {
    "prune": "weights set to zero", "channels": "channels removed", "rank": "singular values removed",
    "bits": "weights in fewer bits", "clip_weights": "weights clipped", "clip_outputs": "outputs clipped",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a scan. layers: all that change together; place 1 is the most sensitive."""

    path: str
    layers: tuple[str, ...]
    weights: int
    share: float  # of all weights
    scores: tuple[float, ...]  # one a ratio
    drop: float  # mean over the grid
    holds: float  # largest ratio up to which at least 95 % of the dense score stays; 0 when none
    place: float
    places: tuple[int, int]  # in 95 % of the draws of images


@dataclass(frozen=True)
class Scan:
    """All layers at all ratios, on validation."""

    kind: str
    ratios: tuple[float, ...]
    dense: float
    images: int
    rows: tuple[Row, ...]
    depth: Correlation  # of a layer's position with its sensitivity
    size: Correlation  # of its number of weights with its sensitivity
    agreement: float  # median Spearman of the ranking on resampled images with this one
    agreement_low: float  # reached by 95 % of the draws
    passes: int
    notes: tuple[str, ...] = ()

    @property
    def ranked(self) -> list[Row]:
        """Most sensitive first."""
        return sorted(self.rows, key=lambda row: row.place)

    def drops(self) -> list[list[float]]:
        """Score lost at option 0 (as it is) and at every ratio; a gain counts as no loss, it is luck."""
        lost = [[0.0, *(max(0.0, self.dense - score) for score in row.scores)] for row in self.rows]
        if self.kind == "bits":  # 3 are stored as 4: where they score more it is luck too
            lost = [list(accumulate(row, max)) for row in lost]
        return lost

    def amount(self, ratio: float) -> str:
        """A ratio as people read it."""
        return amount(self.kind, ratio)


def build(
    kind: str, ratios: Sequence[float], paths: Sequence[tuple[str, ...]], weights: Sequence[int], total: int,
    dense: np.ndarray, changed: np.ndarray, notes: Sequence[str],
) -> Scan:  # fmt: skip
    """A scan from right answers: dense (images,), changed (rows, ratios, images)."""
    from lessen.analyze.ranks import places_of, steadiness

    lost = (dense.astype(float) - changed).mean(1)  # (rows, images), over the grid
    drops, sure, scores = lost.mean(1), steadiness(lost), changed.mean(2)
    places, base = places_of(drops), float(dense.mean())
    rows = tuple(
        Row(
            path[0], tuple(path), n, n / total, tuple(map(float, line)), float(drop), _holds(ratios, line, base),
            float(place), span,
        )
        for path, n, line, drop, place, span in zip(paths, weights, scores, drops, places, sure.places, strict=True)
    )  # fmt: skip
    return Scan(
        kind, tuple(ratios), base, len(dense), rows, spearman(range(len(rows)), list(drops)),
        spearman(weights, list(drops)), sure.rho, sure.low, changed.shape[0] * changed.shape[1], tuple(notes),
    )  # fmt: skip


def _holds(ratios: Sequence[float], scores: Sequence[float], dense: float) -> float:
    held = 0.0
    for ratio, score in zip(ratios, scores, strict=True):
        if score < HOLDS * dense:
            break
        held = ratio
    return held


def between(a: Scan, b: Scan) -> Correlation:
    """Rank correlation of two scans over the layers that both name."""
    found = [{path: row.drop for row in scan.rows for path in row.layers} for scan in (a, b)]
    both = [path for path in found[0] if path in found[1]]
    return spearman([found[0][path] for path in both], [found[1][path] for path in both])


def sentences(scan: Scan) -> list[str]:
    """The findings of one scan, most important first."""
    depth = _steadier(scan) if scan.kind in CLIPPING else _depth(scan)
    return [_extremes(scan), depth, _certainty(scan), *scan.notes]


def _extremes(scan: Scan) -> str:
    most, least = scan.ranked[0], scan.ranked[-1]
    if most.drop == least.drop:
        return f"All layers are equally sensitive: each loses {points(most.drop)} on average over the grid."
    return (
        f"Most sensitive: {named(most)}, which loses {points(most.drop)} on average over the grid "
        f"and {_held(scan, most)}. "
        f"Least sensitive: {named(least)}, which {_loses(least.drop)} and {_held(scan, least)}."
    )


def _held(scan: Scan, row: Row) -> str:
    if not row.holds:
        return f"falls below {percent(HOLDS)} of the dense score at once"
    unit = "a coverage of " * (scan.kind in CLIPPING)
    limit = f"up to a ratio of {row.holds:g}" if rising(scan.kind) else f"down to {unit}{scan.amount(row.holds)}"
    return f"keeps {percent(HOLDS)} of the dense score {limit}"


def _loses(drop: float) -> str:
    return f"loses {points(drop)}" if drop > 0 else "loses nothing"


def _depth(scan: Scan) -> str:
    depth, size = scan.depth, scan.size
    if math.isnan(depth.rho):
        return "Whether early or late layers are the sensitive ones cannot be said: too few of them, or too alike."
    if depth.p >= CLEAR:
        return f"Neither early nor late layers are clearly the sensitive ones (depth and sensitivity: {depth})."
    early = depth.rho < 0
    text = f"{'Early' if early else 'Late'} layers are the sensitive ones (depth and sensitivity: {depth}). "
    if size.rho < 0 and size.p < CLEAR:
        rows = scan.rows if early else scan.rows[::-1]
        half = rows[: (len(rows) + 1) // 2]
        return text + (
            f"The likely reason is size: the {'first' if early else 'last'} half of them holds "
            f"{percent(sum(r.share for r in half))} of the weights, so the same ratio leaves little to make up for "
            f"what went (weights and sensitivity: {size})."
        )
    why = "every later layer reads what they compute" if early else "no layer after them can make up for an error"
    return (
        text + f"Size does not clearly explain it (weights and sensitivity: {size}); the likely reason is that {why}."
    )


def _steadier(scan: Scan) -> str:
    """Whether clipping costs deeper layers less; clear is an interval without zero."""
    low, high = interval(scan.depth)
    if math.isnan(low):
        return "Whether deeper layers are steadier under clipping cannot be said: too few of them, or too alike."
    said = f"Spearman of depth with the drop {scan.depth.rho:+.2f}, 95 % {low:+.2f} to {high:+.2f}, n = {scan.depth.n}"
    if low <= 0 <= high:
        return f"Whether deeper layers are steadier under clipping is not clear: {said}."
    return f"Deeper layers are {'steadier' if high < 0 else 'less steady'} under clipping: {said}."


def _certainty(scan: Scan) -> str:
    row = max(scan.rows, key=lambda r: r.places[1] - r.places[0])
    first, last = row.places
    least = f"the least sure place is that of {row.path}, between {first} and {last} of {len(scan.rows)}"
    return (
        f"How far the ranking may be off: on resampled images it agrees with itself at Spearman {scan.agreement:.2f} "
        f"(median; {scan.agreement_low:.2f} or more in 95 % of the draws; {scan.images} images); "
        f"{least if first < last else 'every layer keeps its place'}."
    )


def named(row: Row) -> str:
    """The layer, with those that change with it."""
    return row.path if len(row.layers) == 1 else f"{row.path} (with {', '.join(row.layers[1:])})"


def amount(kind: str, ratio: float) -> str:
    """A ratio of a scan as people read it.

    >>> amount("bits", 0.875), amount("bits", 0), amount("rank", 0.2), amount("clip_outputs", 0.005)
    ('4 bits', 'float', '0.2', '99.5 %')
    """
    if kind in CLIPPING:
        return f"{100 * (1 - ratio):g} %"
    if kind != "bits":
        return f"{ratio:g}"
    return f"{bits(ratio)} bits" if ratio else "float"


def rising(kind: str) -> bool:
    """Whether a scan's ratios are told as they are: bits and coverage are what stays.

    >>> rising("prune"), rising("bits")
    (True, False)
    """
    return kind != "bits" and kind not in CLIPPING


def percent(share: float) -> str:
    """A share as people read it.

    >>> percent(0.953)
    '95 %'
    """
    return f"{100 * share:.0f} %"


def points(drop: float) -> str:
    """A drop of the score in points of percent.

    >>> points(0.0123)
    '1.2 points'
    """
    return f"{100 * drop:.1f} points"

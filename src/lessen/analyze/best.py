"""Which value of a field is best, and how sure that is: what validation chooses in resamples of the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from lessen.analyze.points import Point
from lessen.core.record import Row
from lessen.core.trial import Trial

DRAWS = 2_000
LEVEL = 0.95


class Value(Row):
    """One value of x in an arm. share: of resamples in which validation chose it; ties count in parts."""

    recipe: str
    x: float
    share: float
    entropy: float | None  # of the teacher's softened shares in nats, mean over seeds; None where no step tells it


class Best(Row):
    """An arm's best value by mean validation score; low, high: the narrowest run of values that LEVEL of resamples
    choose from."""

    arm: str
    values: tuple[Value, ...]  # rising
    x: float
    recipe: str
    low: float
    high: float
    seeds: int


def bests(points: Sequence[Point], done: Mapping[tuple[str, int], Trial]) -> tuple[Best, ...]:
    """Of each arm, over the seeds that all its values have finished; an arm of one value or one seed has none."""
    found = []
    for arm in dict.fromkeys(p.arm for p in points):
        mine = sorted((p for p in points if p.arm == arm and p.x is not None), key=lambda p: p.x or 0.0)
        seeds = sorted(set.intersection(*(set(p.seeds) for p in mine))) if mine else []
        scores = _scores(mine, done, seeds)
        if len(mine) > 1 and len(seeds) > 1 and scores is not None:
            found.append(_best(arm, mine, scores, done, seeds))
    return tuple(found)


def _scores(mine: Sequence[Point], done: Mapping[tuple[str, int], Trial], seeds: Sequence[int]) -> np.ndarray | None:
    """Validation scores (values, seeds); None where a row has none."""
    rows = [[m.validation.value for s in seeds if (m := done[p.recipe, s].measurement) and m.validation] for p in mine]
    return np.array(rows) if rows and all(len(row) == len(seeds) for row in rows) else None


def _best(
    arm: str, mine: Sequence[Point], scores: np.ndarray, done: Mapping[tuple[str, int], Trial], seeds: Sequence[int]
) -> Best:
    drawn = np.random.default_rng(0).integers(0, len(seeds), (DRAWS, len(seeds)))
    means = scores[:, drawn].mean(2)  # (values, draws)
    top = means >= means.max(0) - 1e-12
    shares = (top / top.sum(0)).mean(1)
    low, high = _narrowest(shares)
    chosen = mine[int(scores.mean(1).argmax())]
    values = [
        Value(recipe=p.recipe, x=p.x or 0.0, share=float(share), entropy=_entropy([done[p.recipe, s] for s in seeds]))
        for p, share in zip(mine, shares, strict=True)
    ]
    return Best(
        arm=arm, values=tuple(values), x=chosen.x or 0.0, recipe=chosen.recipe, low=values[low].x, high=values[high].x,
        seeds=len(seeds),
    )  # fmt: skip


def _narrowest(shares: np.ndarray) -> tuple[int, int]:
    """First and last of the fewest neighbours that hold LEVEL of all shares; of several the fullest."""
    n, total = len(shares), np.concatenate([[0.0], np.cumsum(shares)])
    for length in range(1, n + 1):
        held = total[length:] - total[: n + 1 - length]
        if held.max() >= LEVEL - 1e-9:
            first = int(held.argmax())
            return first, first + length - 1
    return 0, n - 1


def _entropy(trials: Sequence[Trial]) -> float | None:
    """What the last step that tells it says."""
    known = [next((r.details["entropy"] for r in reversed(t.records) if "entropy" in r.details), None) for t in trials]
    said = [float(v) for v in known if v is not None]
    return statistics.fmean(said) if said and len(said) == len(trials) else None

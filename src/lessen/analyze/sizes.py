"""Arms of models of several sizes, as rows have them, made ready for a law of scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lessen.analyze import points, scaling
from lessen.analyze.points import Answers, Point
from lessen.analyze.scaling import Law
from lessen.core.trial import Trial


def law_of(found: Sequence[Point], done: Mapping[tuple[str, int], Trial], answers: Answers) -> Law | None:
    """The law over the seeds that every size has; None where there is no such seed.

    Seeds and test images are resampled where the answers of all are there, else the seeds' scores.
    """
    import numpy as np

    sized = [p for p in found if p.x and p.seeds]
    seeds = sorted(set.intersection(*(set(p.seeds) for p in sized))) if sized else []
    if not seeds:
        return None
    rows = {p.recipe: [done[p.recipe, s] for s in seeds] for p in sized}
    stacked = {recipe: points.counted(trials, answers) for recipe, trials in rows.items()}
    whole = [right for right in stacked.values() if right is not None]
    alone = len(whole) < len(stacked) or len({right.shape for right in whole}) > 1
    if alone:
        stacked = {
            r: np.array([[t.measurement.test.value if t.measurement else 0.0] for t in ts]) for r, ts in rows.items()
        }
    images = 0 if alone else whole[0].shape[1]
    least = 0.5 / next(t.measurement.test.n for ts in rows.values() for t in ts if t.measurement)
    draws = dict(zip(stacked, scaling.resampled(list(stacked.values()), least).T, strict=True))
    arms = []
    for name in dict.fromkeys(p.arm for p in found):
        mine = sorted((p for p in sized if p.arm == name), key=lambda p: p.x or 0)
        arms.append(scaling.Arm(
            name=name, bits=np.array([float(p.x or 0) for p in mine]),
            errors=np.array([max(least, 1 - float(stacked[p.recipe].mean())) for p in mine]),
            draws=np.array([draws[p.recipe] for p in mine]).T,
        ))  # fmt: skip
    return scaling.law(arms, len(seeds), images)

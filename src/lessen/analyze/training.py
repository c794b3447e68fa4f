"""What a recipe's own training did: its course, how steady it ended, when it had recovered, what it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from lessen.core.record import Record, Row
from lessen.core.text import parse_chain
from lessen.core.trial import Trial

LAST = 5  # epochs over which the end of a training is called steady
ROUNDING = 1e-12

Course = list[tuple[int, float]]  # epochs behind, validation score


class Effort(Row):
    """Epochs trained, the multiply-accumulates of their models in units of the baseline's training, seconds."""

    epochs: float
    share: float | None  # None where the baseline trained nothing
    seconds: float


def own(trial: Trial) -> tuple[Record, ...]:
    """The records of the recipe's own steps, without the baseline's."""
    count = len(parse_chain(trial.recipe))
    return trial.records[len(trial.records) - count :]


def course(records: Sequence[Record]) -> Course:
    """Validation score after every epoch; after a step that trains nothing, at the epochs that lie behind it.

    Scores are the training framework's. Empty where an epoch has none.
    """
    found, behind = [], 0
    for record in records:
        scores = [e.score for e in record.history] or [record.score]
        if any(score is None or not math.isfinite(score) for score in scores):
            return []
        first = behind + bool(record.history)
        found += [(first + i, score) for i, score in enumerate(scores)]
        behind += len(record.history)
    return found


def recovered(seen: Course, level: float) -> int | None:
    """Epochs after which the score never falls below `level` again; None where it ends below.

    >>> recovered([(1, 0.7), (2, 0.9), (3, 0.8), (4, 0.9), (5, 0.95)], 0.85)
    4
    """
    since = None
    for epoch, score in seen:
        if score < level - ROUNDING:
            since = None
        elif since is None:
            since = epoch
    return since


def unsteadiness(seen: Course) -> float | None:
    """Standard deviation of the score over the last epochs; None where fewer than two were trained.

    >>> unsteadiness([(1, 0.1), (2, 0.5), (3, 0.6), (4, 0.5), (5, 0.6), (6, 0.55)])
    0.05
    """
    scores = [score for epoch, score in seen if epoch > 0][-LAST:]
    return round(stdev(scores), 12) if len(scores) > 1 else None


def effort(trial: Trial) -> Effort:
    """What the recipe's own steps took. A step between two sizes of model counts their mean.

    A teacher's forward passes are not counted, and neither are zero weights left out: training is dense.
    """
    mine = own(trial)
    unit = _work(trial.records[: len(trial.records) - len(mine)])
    return Effort(
        epochs=sum(map(epochs, mine)), share=_work(mine) / unit if unit else None, seconds=sum(r.seconds for r in mine)
    )


def epochs(record: Record) -> int:
    """Epochs that a step trained, also those of models that it threw away."""
    return int(record.details.get("epochs_trained", len(record.history)))


def _work(records: Sequence[Record]) -> float:
    return math.fsum(epochs(r) * (r.before.macs + r.after.macs) / 2 for r in records)


class Band(Row):
    """One epoch over all seeds that trained it."""

    epoch: int
    mean: float
    low: float
    high: float


def bands(courses: Sequence[Course]) -> tuple[Band, ...]:
    """Mean, lowest and highest score by epoch; epoch 0 is what the first training started from, where it is known."""
    by_epoch: dict[int, list[float]] = {}
    for seen in courses:
        first: dict[int, float] = {}
        for epoch, score in seen:
            first.setdefault(epoch, score)
        for epoch, score in first.items():
            by_epoch.setdefault(epoch, []).append(score)
    return tuple(Band(epoch=e, mean=fmean(v), low=min(v), high=max(v)) for e, v in sorted(by_epoch.items()))

"""Scores of a file's outputs: the share of right answers, or the task's own score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lessen.analyze.statistics import wilson
from lessen.core.errors import LessenError
from lessen.core.record import Score
from lessen.core.task import SplitName, Task

RESAMPLES = 1_000


def top1(right: int, n: int) -> Score:
    """Right answers of n, with Wilson's 95 % interval."""
    low, high = wilson(right, n)
    return Score(value=right / n, low=low, high=high, n=n)


def own(task: Task, name: SplitName, outputs: np.ndarray) -> Score:
    """`task.score` of a file's outputs (n, classes) for a split, with the 95 % interval of a percentile bootstrap.

    That is 1,000 resamples of the samples (Efron 1979), drawn with seed 0; those without a score, as where a class is
    absent, are left out. It sees no more than these samples show: of answers that are all right it has no width.

    Where outputs are not all finite, a surely wrong answer stands in their place: no score counts them as right.
    Errors: LessenError for a score that fails or is no number from 0 to 1.
    """
    import torch

    from lessen.ops.unanswered import settled

    y = task.split(name).y
    x: Any = settled(torch.from_numpy(outputs), torch.as_tensor(y))
    x = x if isinstance(y, torch.Tensor) else x.numpy()
    try:
        value = float(task.score(x, y))
    except Exception as e:  # whatever the user's score raises
        why = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        raise LessenError(f"the task's {task.scored_by} fails on the {name} split: {why}") from e
    if not 0 <= value <= 1:
        raise LessenError(
            f"the task's {task.scored_by} gives {value:g} for the {name} split; a score is a number from 0 to 1"
        )
    low, high = _interval(task, x, y)
    return Score(value=value, low=min(low, value), high=max(high, value), n=len(y), by=task.scored_by)


def _interval(task: Task, x: Any, y: Any) -> tuple[float, float]:
    """The middle 95 % of the resamples' scores; 0 to 1 where none has one."""
    random, found = np.random.default_rng(0), list[float]()
    for _ in range(RESAMPLES):
        drawn = random.integers(len(y), size=len(y))
        try:
            found.append(float(task.score(x[drawn], y[drawn])))
        except Exception:  # whatever the user's score raises where a class is absent
            continue
    known = [score for score in found if math.isfinite(score)]
    low, high = np.quantile(known, [0.025, 0.975]).tolist() if known else (0.0, 1.0)
    return low, high

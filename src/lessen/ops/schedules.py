"""Learning rates over a run as pure functions of the step: a share of the peak, so that resuming needs no state.

Cosine: Loshchilov & Hutter 2017, arXiv:1608.03983. One cycle: Smith & Topin 2018, arXiv:1708.07120.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Name = Literal["cosine", "linear", "onecycle", "step", "constant"]
START, END = 1 / 25, 1 / 250_000  # where one cycle begins and ends, as shares of its peak
RISE = 0.3  # share of a one-cycle run that rises, when no warm-up is given
DROP, MILESTONES = 0.1, (0.5, 0.75)  # a step schedule's factor, and at which shares of the run


def schedule(name: Name, steps: int, warmup: int = 0) -> Callable[[int], float]:
    """Step 0..steps-1 -> share of the peak learning rate.

    The first `warmup` steps rise linearly to 1 (one cycle rises by a half cosine, for 30 % of the run when
    `warmup` is 0).

    >>> [round(schedule("step", 4)(i), 2) for i in range(4)]
    [1.0, 1.0, 0.1, 0.01]
    """
    warmup = min(warmup, steps)
    if name == "onecycle":
        return lambda step: _one_cycle(step, steps, warmup or RISE * steps)
    after: dict[str, Callable[[int], float]] = {
        "cosine": lambda step: (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2,
        "linear": lambda step: 1 - (step - warmup) / (steps - warmup),
        "step": lambda step: DROP ** sum(step >= m * steps for m in MILESTONES),
        "constant": lambda step: 1.0,
    }
    return lambda step: (step + 1) / warmup if step < warmup else after[name](step)


def _one_cycle(step: int, steps: int, rise: float) -> float:
    """torch's OneCycleLR: its peak is the last step of the rise."""
    top, last = max(rise - 1, 0.0), steps - 1
    if step <= top:
        return _blend(START, 1.0, step / top if top else 1.0)
    return _blend(1.0, END, (step - top) / (last - top))


def _blend(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

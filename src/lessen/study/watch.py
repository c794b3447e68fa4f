"""What a running study tells: the step it is at, each trial that ends, and what is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lessen.core.trial import Trial
from lessen.study.plan import Study


@dataclass(frozen=True)
class Now:
    """Where the study is. `step` counts from 1 to `steps`; the last two are packing and measuring."""

    recipe: str  # empty is the baseline; of several that share this step, the first
    seed: int
    step: int
    steps: int
    text: str  # the technique, "pack" or "measure"
    share: float = 0.0  # done of this step, 0 to 1
    note: str = ""  # for example "epoch 3/10 loss 0.41"
    left: Counter[str] = field(default_factory=Counter)  # kinds of work to do, this one included, by name


class Watch:
    """Says nothing; override what you want to see."""

    def started(self, study: Study, kept: list[Trial]) -> None:
        """Before the first step; `kept` are the rows of earlier runs."""

    def step(self, now: Now) -> None:
        """A step begins, goes on, or ends; called often."""

    def trial(self, trial: Trial) -> None:
        """A row was written."""

    def stopped(self) -> None:
        """After the last step, or when interrupted."""

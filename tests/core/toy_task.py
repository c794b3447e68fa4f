"""A task and two techniques without torch: the model is a list of numbers. What core promises holds for any task."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from lessen.core.errors import UnknownName
from lessen.core.record import Cost, Epoch
from lessen.core.run import Run
from lessen.core.task import Split, SplitName, Task
from lessen.core.technique import Doc, Range, Technique


class ToyTask(Task):
    """Models are lists of numbers; the score is the share of numbers that are not zero."""

    text, fingerprint, license, baseline = "toy()", "0", "none", ""
    classes, shape = ("a", "b"), (1,)

    def split(self, name: SplitName) -> Split:
        return Split([0.0], [0])

    def inputs(self, x: Any) -> Any:
        return x

    def augment(self, x: Any, generator: Any) -> Any:
        return x

    def loss(self, outputs: Any, y: Any, smoothing: float = 0.0) -> Any:
        return 0.0

    def score(self, outputs: Any, y: Any) -> float:
        return 0.0

    def preprocess(self) -> dict[str, Any]:
        return {}

    def build(self, model: str) -> Any:
        return [1.0, 2.0, 3.0]

    def copy(self, model: Any) -> Any:
        return list(model)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        state = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)

    def cost(self, model: Any) -> Cost:
        return Cost(parameters=len(model), nonzeros=sum(v != 0 for v in model), macs=0, weight_bits=32 * len(model))

    def evaluate(self, model: Any, name: SplitName) -> float | None:
        return sum(v != 0 for v in model) / len(model)


class Scale(Technique):
    """Multiplies every number."""

    paper = "nobody 2000"
    neutral = {"by": 1.0}

    by: Annotated[float, Range("factor", 0.0, 10.0)] = 2.0
    steps: Annotated[int, Range("how often", 1, 5)] = 1
    shares: Annotated[tuple[float, ...], Range("milestones", 0.0, 1.0)] = ()
    scope: Annotated[Literal["all", "first"], Doc("which numbers")] = "all"
    floor: Annotated[float | None, Range("smallest result, if any", 0.0, 1.0)] = None

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        for i in range(len(model) if self.scope == "all" else 1):
            model[i] *= self.by**self.steps
        run.notes.append("scaled")
        run.details["n"] = len(model)
        return model


class Shake(Technique):
    """Adds seeded noise, and keeps what the run told it."""

    paper = "nobody 2001"
    trains = True

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        run.details.update(done=list(run.done), origin=list(run.origin))
        run.history.append(Epoch(epoch=1, loss=0.0, score=None, lr=0.1, seconds=0.0))
        run.progress(1.0, "shaken")
        return [v + random.random() for v in model]


def find(name: str) -> type[Technique]:
    known = {"Scale": Scale, "Shake": Shake}
    if name not in known:
        raise UnknownName("technique", name, known)
    return known[name]

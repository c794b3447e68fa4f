"""One trial: a recipe and a seed, what its steps did and what its artifact measured. A row that never changes."""

from __future__ import annotations

from typing import Literal

from lessen.core.record import Measurement, Record, Row


class Trial(Row):
    """A row of a study. An empty recipe is the baseline of that seed."""

    study: str
    recipe: str
    seed: int
    status: Literal["done", "failed"]
    error: str = ""  # one line, when failed
    task: str
    task_fingerprint: str
    model: str
    final: bool = False  # trained on train + validation, after all choices were made
    records: tuple[Record, ...] = ()  # the baseline's training first, then one a step
    measurement: Measurement | None = None
    artifact: str = ""  # folder, relative to the run folder
    predictions: str = ""  # npz with `classes`, `targets` (n,) and `probabilities` (n, k) of test, relative
    seconds: float = 0.0
    finished: str = ""  # UTC, ISO 8601
    threads: int = 1

    @property
    def key(self) -> tuple[str, int]:
        return self.recipe, self.seed

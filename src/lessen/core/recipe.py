"""A recipe is techniques in order; its text is legal Python and means the same there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from lessen.core.record import Record
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.core.text import parse_chain


class Recipe(BaseModel):
    """Techniques in order: `ChannelPrune(ratio=0.4) >> Int8()`. An empty recipe changes nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    steps: tuple[Technique, ...] = ()

    @staticmethod
    def of(value: Recipe | Technique) -> Recipe:
        """A technique as a recipe of one step."""
        return value if isinstance(value, Recipe) else Recipe(steps=(value,))

    @staticmethod
    def parse(text: str, find: Callable[[str], type[Technique]]) -> Recipe:
        """Read the text; `find` turns a technique's name into its class (`lessen.recipe` fills it in).

        Errors: BadRecipe for text that cannot be read, UnknownName, BadField.
        """
        return Recipe(steps=tuple(find(call.name)(**call.args) for call in parse_chain(text)))

    def apply(self, model: Any, task: Task, *, seed: int = 0, run: Run | None = None) -> tuple[Any, tuple[Record, ...]]:
        """Apply every step in order; returns the changed model and one record a step."""
        run, records = replace(run or Run()), []
        run.origin = model if run.origin is None else run.origin
        for step in self.steps:
            before = model
            model, record = step.apply(model, task, seed=seed, run=run)
            records.append(record)
            run.origin = before if step.replaces else run.origin
            run.done = (*run.done, str(step))
        return model, tuple(records)

    def __rshift__(self, other: Technique | Recipe) -> Recipe:
        return Recipe(steps=self.steps + Recipe.of(other).steps)

    def __iter__(self) -> Iterator[Technique]:  # type: ignore[override]
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return " >> ".join(map(str, self.steps))

    __repr__ = __str__

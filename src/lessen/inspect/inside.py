"""What happens inside a model: errors of its quantized forms, its distributions and outliers, or both on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lessen.core.run import silent

if TYPE_CHECKING:
    from lessen.core.task import Task
    from lessen.inspect.side_by_side import Shown
    from lessen.inspect.stage_errors import Errors
    from lessen.inspect.tensors import Distributions


@dataclass(frozen=True)
class Inside:
    """What was found; None where it was not asked for."""

    model: str
    task: str
    errors: Errors | None = None
    distributions: Distributions | None = None

    @staticmethod
    def of(
        shown: Sequence[Shown], task: Task, *, errors: bool, distributions: bool, images: int | None = None,
        seed: int = 0, progress: Callable[[float, str], None] = silent,
    ) -> Inside:  # fmt: skip
        """Errors of all models after the first, distributions of the first."""
        from lessen.inspect import stage_errors, tensors

        model = shown[0].model
        return Inside(
            str(getattr(model, "builder", type(model).__name__)), task.text,
            stage_errors.errors(shown, task, images=images, seed=seed, progress=progress) if errors else None,
            tensors.distributions(model, task, images=images, seed=seed, progress=progress) if distributions else None,
        )  # fmt: skip

    def sentences(self) -> list[str]:
        """All findings in words."""
        return [sentence for part in (self.errors, self.distributions) if part for sentence in part.sentences()]

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        parts = {"errors": self.errors, "distributions": self.distributions}
        return {"model": self.model, "task": self.task} | {name: part.json() for name, part in parts.items() if part}

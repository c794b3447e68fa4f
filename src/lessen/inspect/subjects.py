"""What is looked at: private copies of models, and samples of the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen.core.errors import BadData

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from lessen.core.task import Task


def private(model: nn.Module, task: Task) -> nn.Module:
    """A copy of our layers in evaluation mode; nothing of it works in place, so values can be remembered."""
    from lessen.ops.layers import own

    copy = own(task.copy(model)).eval()
    for module in copy.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    return copy.requires_grad_(False)


def positions(task: Task, most: int | None, seed: int, purpose: str) -> np.ndarray:
    """At most so many validation samples, every class with its share; all of them for None. Errors: BadData."""
    import numpy as np

    y = task.split("validation").y
    if not len(y):
        raise BadData(f"{task.text} has no validation images to look at; leave final=True out")
    if most is None or most >= len(y):
        return np.arange(len(y))
    from lessen.tasks.dataset import draw

    return draw(y.numpy(), max(1, most), seed, purpose)[0]


def samples(task: Task, at: np.ndarray) -> tuple[Tensor, Tensor]:
    """Validation samples as stored, and their labels."""
    x, y = task.split("validation")
    return x[at], y[at]

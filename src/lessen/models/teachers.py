"""Where a teacher comes from: the model that came before, or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lessen.core.errors import BadField
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.models import pristine
from lessen.models.state import load_model
from lessen.ops import teaching

if TYPE_CHECKING:
    from torch import nn


def teacher(technique: str, folder: str, model: nn.Module, task: Task, run: Run) -> dict[str, nn.Module]:
    """By name: the model in an artifact's folder, or where that is empty the run's origin; private, evaluating.

    Errors: BadField for a folder that is not there, BadArtifact, or Refused for a teacher of other classes or inputs
    than the model's.
    """
    if folder and not Path(folder).is_dir():
        raise BadField(f"{technique} finds no teacher in '{folder}'; name the folder of an artifact, or leave it out")
    if folder:
        name, found = folder, load_model(Path(folder)).to(next(model.parameters()).device)
    else:
        name, found = pristine.text(run.origin) or type(run.origin).__name__, task.copy(run.origin).eval()
        if teaching.same(found, model):
            run.notes.append(f"the teacher is the model itself; put Student or a compression before {technique}")
    teaching.refuse_misfit(technique, name, found, model, task)
    return {name: found}

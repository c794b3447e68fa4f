"""A student learns its teacher's softened shares beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Teacher, Temperature
from lessen.core.technique import Range, Technique
from lessen.core.training import Augment, BatchSize, Decay, Epochs, Optimizer, Rate, Schedule, Smoothing, Warmup

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.ops.teaching import View
    from lessen.ops.train import Batch


class LogitDistill(Technique):
    """Trains on alpha * T^2 KL(teacher || student at T) + (1 - alpha) * cross-entropy.

    The teacher sees the same augmented batch in the same step.
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: Epochs = 10
    temperature: Temperature = 4.0
    alpha: Annotated[float, Range("share of the soft term; the rest is the labels'", 0.0, 1.0)] = 0.9
    teacher: Teacher = ""
    lr: Rate = 0.05
    batch: BatchSize = 128
    optimizer: Optimizer = "sgd"
    schedule: Schedule = "cosine"
    warmup: Warmup = 0.0
    weight_decay: Decay = 5e-4
    smoothing: Smoothing = 0.0
    augment: Augment = True

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.models.teachers import teacher
        from lessen.ops import losses, teaching, train

        def lesson(student: View, teachers: tuple[View, ...], batch: Batch, aids: nn.Module) -> Tensor:
            soft = losses.soft_targets(student.logits, teachers[0].logits, self.temperature)
            return self.alpha * soft + (1 - self.alpha) * task.loss(student.logits, batch.y, self.smoothing)

        known = teacher("LogitDistill", self.teacher, model, task, run)
        return teaching.teach(model, known, task, train.Plan.of(self), run, lesson)

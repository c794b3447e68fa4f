"""A student learns its teacher's softened shares beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Alpha, Standardize, Teacher, Temperature
from lessen.core.technique import Range, Technique

if TYPE_CHECKING:
    from torch import nn


class LogitDistill(Technique):
    """Trains on total * (alpha * T^2 KL(teacher || student at T) + (1 - alpha) * cross-entropy).

    The teacher sees the same augmented batch in the same step. The published weights of standardized logits, 9 and 1
    at T = 2, are `temperature=2.0, alpha=0.9, total=10.0, standardize=True` (Sun et al. 2024, arXiv:2403.01549).
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    temperature: Temperature = 4.0
    alpha: Alpha = 0.9
    total: Annotated[float, Range("both terms' weights together; 10 of alpha=0.9 is 9 and 1", 0.01, 1_000.0)] = 1.0
    standardize: Standardize = False
    teacher: Teacher = ""
    lr: training.Rate = 0.05
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    momentum: training.Momentum = 0.9
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"
    sizes: training.Sizes = ()
    unblended: training.Unblended = 0

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.models.teachers import teacher
        from lessen.ops import lessons, teaching, train

        lesson = lessons.shares_and_labels(
            task, self.temperature, self.alpha, total=self.total, standardize=self.standardize,
            smoothing=self.smoothing,
        )  # fmt: skip
        known = teacher("LogitDistill", self.teacher, model, task, run)
        softly = lessons.entropy(next(iter(known.values())), task, self.temperature, standardize=self.standardize)
        run.details["entropy"] = softly  # nats
        return teaching.teach(model, known, task, train.Plan.of(self), run, lesson)

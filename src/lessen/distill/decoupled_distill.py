"""What a teacher says of the true class and of all others are two lessons with weights of their own.

Zhao et al. 2022, DKD, arXiv:2203.08679. In LogitDistill a teacher that is sure of the true class hardly teaches how
the others compare; here that has a weight of its own, `beta`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Hard, Standardize, Teacher, Temperature
from lessen.core.technique import Range, Technique

if TYPE_CHECKING:
    from torch import nn


class DecoupledDistill(Technique):
    """Trains on hard * cross-entropy + w * T^2 (alpha * KL of true class or not + beta * KL among the other classes).

    w rises in a line from 0 to 1 over the first `rise` of the epochs. Published: alpha 1, beta 6 to 8, T 4, a rise of
    20 of 240 epochs. Of blended labels (mixup, CutMix) the largest share is the true class.
    """

    paper: ClassVar[str] = "Zhao et al. 2022, arXiv:2203.08679"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    temperature: Temperature = 4.0
    alpha: Annotated[float, Range("weight of the term of the true class", 0.0, 1_000.0)] = 1.0
    beta: Annotated[float, Range("weight of the term of the other classes", 0.0, 1_000.0)] = 8.0
    hard: Hard = 1.0
    rise: Annotated[float, Range("share of the epochs in which both terms' weights rise from 0", 0.0, 1.0)] = 0.1
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

        lesson = lessons.decoupled_and_labels(
            task, self.temperature, self.alpha, self.beta, hard=self.hard, rise=self.rise * self.epochs,
            standardize=self.standardize, smoothing=self.smoothing,
        )  # fmt: skip
        known = teacher("DecoupledDistill", self.teacher, model, task, run)
        return teaching.teach(model, known, task, train.Plan.of(self), run, lesson)

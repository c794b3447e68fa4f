"""Training on labels that leave every other class a share: the control of distillation, without a teacher.

Szegedy et al. 2016, arXiv:1512.00567, section 7. It too keeps a net from being too sure, but says nothing of which
classes are alike; what a teacher adds is what LogitDistill wins over it (Müller et al. 2019, arXiv:1906.02629).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique

if TYPE_CHECKING:
    from torch import nn


class LabelSmoothing(Technique):
    """Trains on cross-entropy with (1 - smoothing) * label + smoothing / classes, else as LogitDistill does."""

    paper: ClassVar[str] = "Szegedy et al. 2016, arXiv:1512.00567"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs", "smoothing")

    epochs: training.Epochs = 10
    smoothing: training.Smoothing = 0.1
    lr: training.Rate = 0.05
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    momentum: training.Momentum = 0.9
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    augment: training.Augment = True
    precision: training.Precision = "32"
    sizes: training.Sizes = ()
    unblended: training.Unblended = 0

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.ops import layers, train

        return train.fit(layers.own(model), task, train.Plan.of(self), run)

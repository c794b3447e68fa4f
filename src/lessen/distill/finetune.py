"""Training without a teacher: after a cut it wins back what was lost (Renda et al. 2020, arXiv:2003.02389)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class Finetune(Technique):
    """Trains on the task's labels. The defaults suit a trained model; a baseline from scratch names its own."""

    paper: ClassVar[str] = "Renda et al. 2020, arXiv:2003.02389"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    lr: training.Rate = 0.01
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    momentum: training.Momentum = 0.9
    weight_decay: training.Decay = 5e-4
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    smoothing: training.Smoothing = 0.0
    ema: Annotated[float, Range("decay of the average of weights; 0 is off", 0.0, 0.99999)] = 0.0
    clip: Annotated[float, Range("largest norm of the gradient; 0 is off", 0.0, 1e6)] = 0.0
    patience: Annotated[int, Range("epochs to wait for a better validation score; 0 is off", 0, 10_000)] = 0
    precision: training.Precision = "32"
    channels_last: Annotated[bool, Doc("images as (n, h, w, c) in memory, often faster; 16-bit floats always")] = False
    augment: training.Augment = True
    jitter: Annotated[float, Range("brightness, contrast and saturation of images vary by this share", 0.0, 1.0)] = 0.0
    sizes: training.Sizes = ()
    unblended: training.Unblended = 0

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.ops import layers, train

        return train.fit(layers.own(model), task, train.Plan.of(self), run)

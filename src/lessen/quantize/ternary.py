"""Weights of three levels, -1, 0 and 1 times a scale for each channel (Li & Liu 2016, TWN, arXiv:1605.04711).

Int2 covers ranges; here the threshold is 0.7 mean |w|, and the scale the mean of what lives. Two bits a weight stand in
the file, or one for each and one for each that lives where that is less; from loading on they are bytes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core import training
from lessen.core.quantizing import Coverage, Ends, Ranges, SignActivations, SignScale
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class Ternary(Technique):
    """Weights of three levels but in the first and last layer, then training; activations float, 8 bits, or signs."""

    paper: ClassVar[str] = "Li & Liu 2016, arXiv:1605.04711"
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    activations: SignActivations = "float"
    scale: SignScale = "mean"
    ends: Ends = 8
    coverage: Coverage = 1.0
    ranges: Ranges = "coverage"
    lr: training.Rate = 0.03
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import sign_insertion, train

        plan = sign_insertion.Plan.of(self, 2)
        return sign_insertion.train_signs(model, task, run, plan, train.Plan.of(self))

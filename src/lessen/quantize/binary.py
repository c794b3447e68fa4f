"""Weights of one bit, -1 or 1 times a scale for each channel (Courbariaux et al. 2016, BNN, arXiv:1602.02830; Rastegari
et al. 2016, XNOR-Net, arXiv:1603.05279).

Rounding a trained model to signs leaves it near chance, so this trains. The file holds a bit a weight, from loading on
they are bytes: runtimes have no kernels of one bit, but with 8-bit activations it runs in those of int8.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core import training
from lessen.core.quantizing import Coverage, Ends, Ranges, SignActivations, SignScale
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class Binary(Technique):
    """1-bit weights but in the first and the last layer, then training; activations float, 8 bits, or signs."""

    paper: ClassVar[str] = "Courbariaux et al. 2016, arXiv:1602.02830; Rastegari et al. 2016, arXiv:1603.05279"
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

        plan = sign_insertion.Plan.of(self, 1)
        return sign_insertion.train_signs(model, task, run, plan, train.Plan.of(self))

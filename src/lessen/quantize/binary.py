"""Weights of one bit, -1 or 1 times a scale for each channel (Courbariaux et al. 2016, BNN, arXiv:1602.02830; Rastegari
et al. 2016, XNOR-Net, arXiv:1603.05279).

Rounding a trained model to signs leaves it near chance, so this trains. A bit a weight stands in the file and is bytes
from loading on: runtimes have no kernels of one bit, so the file is 1/32 and, with 8-bit activations, as fast as int8.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.quantizing import Coverage, Ends, Ranges, SignActivations, SignScale
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.core.training import Augment, BatchSize, Decay, Epochs, Optimizer, Rate, Schedule, Smoothing, Warmup


class Binary(Technique):
    """1-bit weights but in the first and the last layer, then training; activations float, 8 bits, or signs."""

    paper: ClassVar[str] = "Courbariaux et al. 2016, arXiv:1602.02830; Rastegari et al. 2016, arXiv:1603.05279"
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: Epochs = 10
    activations: SignActivations = "float"
    scale: SignScale = "mean"
    ends: Ends = 8
    coverage: Coverage = 1.0
    ranges: Ranges = "coverage"
    lr: Rate = 0.01
    batch: BatchSize = 128
    optimizer: Optimizer = "sgd"
    schedule: Schedule = "cosine"
    warmup: Warmup = 0.0
    weight_decay: Decay = 5e-4
    smoothing: Smoothing = 0.0
    augment: Augment = True

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import sign_insertion, train

        bits = {k: None if v == "float" else v for k, v in (("ends", self.ends), ("activations", self.activations))}
        plan = sign_insertion.Plan("Binary", 1, self.scale, ranges=self.ranges, coverage=self.coverage, **bits)
        told = {k: v for k, v in self if k in train.Plan.__dataclass_fields__}
        return sign_insertion.train_signs(model, task, run, plan, train.Plan(**told))

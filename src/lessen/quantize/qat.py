"""Few bits by training through the rounding, the scales with the weights (Esser et al. 2020, LSQ, arXiv:1902.08153)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core import training
from lessen.core.quantizing import (
    Activations,
    Coverage,
    Group,
    Levels,
    Ranges,
    Samples,
    Symmetric,
    WeightCoverage,
    WeightRanges,
)
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Technique


class QAT(Technique):
    """The layers of Int8, Int4, Int3 or Int2, then training for a few epochs with what they round in view."""

    paper: ClassVar[str] = "Esser et al. 2020, arXiv:1902.08153"
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("bits", "epochs")

    bits: Annotated[Literal[8, 4, 3, 2], Doc("bits of weights")] = 4
    epochs: training.Epochs = 5
    group: Group = 0
    symmetric: Symmetric = True
    levels: Levels = "uniform"
    activations: Activations = 8
    samples: Samples = 0
    coverage: Coverage = 1.0
    ranges: Ranges = "mse"
    weight_coverage: WeightCoverage = 1.0
    weight_ranges: WeightRanges = "mse"
    lr: training.Rate = 0.01
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import insertion, train

        before = task.evaluate(model, "validation")
        insertion.quantize(model, task, run, insertion.Plan.of(self))
        rounded = task.evaluate(model, "validation")
        model = train.fit(model, task, train.Plan.of(self), run)
        scores = [(e.epoch, e.score) for e in run.history if e.score is not None]
        recovered = (epoch for epoch, score in scores if before is not None and score >= before)
        run.details["validation"] = {"before": before, "rounded": rounded}
        run.details["epochs_to_recover"] = next(recovered, None)
        activations = "float" if self.activations == "float" else f"{self.activations}-bit"
        bits = f"{self.bits}-bit{' logarithmic' * (self.levels == 'log')}"
        run.notes.append(f"trained for {self.epochs} epochs with {bits} weights and {activations} activations")
        return model

"""Weights and activations as 8-bit integers, calibrated after training (Jacob et al. 2018, arXiv:1712.05877).

Batch norm stays in the model, so that it can be trained further; it is folded when the model is packed, which is exact
for symmetric per-channel weights (Krishnamoorthi 2018, arXiv:1806.08342).
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.quantizing import CorrectBias, Coverage, Equalize, Ranges, Samples, WeightCoverage, WeightRanges
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class Int8(Technique):
    """Static int8: symmetric per-channel weights in -127..127, uint8 activations with calibrated ranges."""

    paper: ClassVar[str] = "Jacob et al. 2018, arXiv:1712.05877"

    samples: Samples = 0
    coverage: Coverage = 1.0
    ranges: Ranges = "coverage"
    weight_coverage: WeightCoverage = 1.0
    weight_ranges: WeightRanges = "coverage"
    correct_bias: CorrectBias = False
    equalize: Equalize = False

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops.insertion import Plan, quantize

        return quantize(model, task, run, Plan.of(self, bits=8))

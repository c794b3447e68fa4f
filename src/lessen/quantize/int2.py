"""Weights of three levels, or four with a zero point, four to a byte (Choi et al. 2018, arXiv:1807.06964).

After training this costs much of the score: QAT(bits=2) trains it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.quantizing import (
    Activations,
    CorrectBias,
    Coverage,
    Equalize,
    Group,
    Ranges,
    Rounding,
    Samples,
    Symmetric,
    WeightCoverage,
    WeightRanges,
)
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class Int2(Technique):
    """2-bit weights: -1, 0 and 1 times a scale, or four levels when not symmetric."""

    paper: ClassVar[str] = "Choi et al. 2018, arXiv:1807.06964"

    group: Group = 0
    symmetric: Symmetric = True
    activations: Activations = 8
    samples: Samples = 0
    coverage: Coverage = 1.0
    ranges: Ranges = "mse"
    weight_coverage: WeightCoverage = 1.0
    weight_ranges: WeightRanges = "mse"
    rounding: Rounding = "nearest"
    correct_bias: CorrectBias = True
    equalize: Equalize = False

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops.insertion import Plan, quantize

        return quantize(model, task, run, Plan.of(self, bits=2))

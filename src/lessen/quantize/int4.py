"""Weights in 4 bits, two to a byte in the file (Banner et al. 2019, arXiv:1810.05723).

With a scale for every channel and 8-bit activations the file runs in the integer kernels of int8. Scales of groups
cost bytes (16 bits for every group) and need float activations. With levels='log' a weight is 0 or +-2^k times the
scale (Miyashita et al. 2016, arXiv:1603.01025), in the same bytes and kernels. Activations stay on equal steps: an
integer kernel has no powers of two for them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.quantizing import (
    Activations,
    CorrectBias,
    Coverage,
    Equalize,
    Group,
    Levels,
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


class Int4(Technique):
    """4-bit weights, a scale for each channel or group; activations in 8 or 4 bits, or float."""

    paper: ClassVar[str] = "Banner et al. 2019, arXiv:1810.05723"

    group: Group = 0
    symmetric: Symmetric = True
    levels: Levels = "uniform"
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

        return quantize(model, task, run, Plan.of(self, bits=4))

"""Weights of seven levels, -3 to 3 (Zhou et al. 2016, arXiv:1606.06160).

With levels='log' they are 0, 1, 2 and 4 with a sign (Miyashita et al. 2016, arXiv:1603.01025).
No runtime has 3-bit initializers: a weight takes 4 bits in the file, and is counted so, unless many are zero.
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


class Int3(Technique):
    """3-bit weights, stored and counted in 4 bits: no file format has 3."""

    paper: ClassVar[str] = "Zhou et al. 2016, arXiv:1606.06160"

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

        return quantize(model, task, run, Plan.of(self, bits=3))

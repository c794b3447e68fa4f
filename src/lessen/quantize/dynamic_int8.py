"""Linear layers in int8, the ranges of their inputs found at every call (Zafrir et al. 2019, arXiv:1910.06188).

Nothing is calibrated, so inputs may drift; finding ranges costs time at every call. For convolutions that made a file
five times as slow as float32, so they are left out.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.errors import Refused
from lessen.core.quantizing import WeightCoverage, WeightRanges
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class DynamicInt8(Technique):
    """8-bit weights of Linear layers, whose inputs are quantized at every call; convolutions stay as they are."""

    paper: ClassVar[str] = "Zafrir et al. 2019, arXiv:1910.06188"

    weight_coverage: WeightCoverage = 1.0
    weight_ranges: WeightRanges = "coverage"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import insertion, layers

        insertion.finite(layers.own(model), "DynamicInt8")
        linear = {p: m for p, m in layers.weighted(model).items() if isinstance(m, layers.Linear)}
        if not linear:
            raise Refused(
                "DynamicInt8 finds no Linear layer in this model, and convolutions whose inputs are quantized at every "
                "call are slower than in float (five times in ONNX Runtime); use Int8() instead"
            )
        plan = insertion.Plan.of(self, bits=dict.fromkeys(linear, 8), activations=None)
        insertion.quantize(model, task, run, plan)
        for path, layer in linear.items():
            if layer.wq is None:
                continue  # the model's code does not run it
            if layer.iq is not None:
                run.notes.append(f"'{path}' keeps the calibrated range of its input")
            elif getattr(layer.wq, "group", 0) or getattr(layer.wq, "zero", None) is not None:
                run.notes.append(f"'{path}' stays as it is: integer kernels take one symmetric scale for a row")
            else:
                layer.iq = layers.DynamicQuantizer()
        convolutions = [p for p in layers.weighted(model) if p not in linear]
        if convolutions:
            run.notes.append(f"{len(convolutions)} convolutions are left out: quantized at every call they are slower")
        return model

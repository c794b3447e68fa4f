"""Weights and activations as 8-bit integers, calibrated after training (Jacob et al. 2018, arXiv:1712.05877).

Batch norm stays in the model, so that it can be trained further; it is folded when the model is packed, which is exact
for symmetric per-channel weights (Krishnamoorthi 2018, arXiv:1806.08342).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Range, Technique


class Int8(Technique):
    """Static int8: symmetric per-channel weights in -127..127, uint8 activations with calibrated ranges."""

    paper: ClassVar[str] = "Jacob et al. 2018, arXiv:1712.05877"

    coverage: Annotated[float, Range("share of activations that ranges cover, 1 is min-max", 0.9, 1.0)] = 1.0

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import calibration, layers
        from lessen.ops.graph import quantizer_places

        layers.own(model)
        places = quantizer_places(model)
        outputs = [p for p in places.outputs if model.get_submodule(p).oq is None]
        inputs = [p for p in places.inputs if model.get_submodule(p).iq is None]
        x = task.inputs(task.split("calibration").x)
        out_spans, in_spans = calibration.spans(model, x, outputs=outputs, inputs=inputs, share=self.coverage)
        for path, layer in layers.weighted(model).items():
            if layer.wq is None:  # fewer bits or learned scales of an earlier step stay
                layer.wq = layers.WeightQuantizer.fitting(layer, bits=8)
            run.details.setdefault("bits", {})[path] = layer.wq.bits
        for slot, found in (("oq", out_spans), ("iq", in_spans)):
            for path, span in found.items():
                setattr(model.get_submodule(path), slot, layers.ActivationQuantizer.covering(*span))
        run.details["activation_ranges"] = {p: [float(v) for v in s] for p, s in (in_spans | out_spans).items()}
        if not places.traced:
            run.notes.append(
                "the model's code could not be traced, so only inputs of layers are quantized and their outputs "
                "stay float; write branches on data as layers to get integer kernels throughout"
            )
        return model

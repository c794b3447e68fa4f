"""The scans of clipping: one layer's weights, or what it gives, held within the range that covers most of its values.

Like any scan they have ratios, here the share of values outside. Ranges are those of the quantizing techniques with
that coverage: of weights one for every row, around zero; of outputs one for the tensor that a quantizer would stand on,
behind batch norm and ReLU, from the calibration samples. Nothing is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.inspect.sites import Edit, Site
from lessen.ops import calibration, layers, ranges
from lessen.ops.graph import quantizer_places
from lessen.ops.stages import stages

if TYPE_CHECKING:
    from lessen.inspect.sites import Layer


class Clipped(nn.Module):
    """What stood in the slot before, behind a clamp."""

    def __init__(self, low: Tensor, high: Tensor, before: nn.Module | None) -> None:
        super().__init__()
        self.low, self.high, self.before = low, high, before

    def forward(self, x: Tensor) -> Tensor:
        y = x.clamp(self.low, self.high)
        return y if self.before is None else self.before(y)


def weights(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    """Every layer's weights; a row too short to have a value outside stays whole."""

    def site(path: str, layer: Layer) -> Site:
        return Site((path,), (path,), lambda outside: [Edit(layer, "weight", clipped(layer, outside))])

    return [site(*item) for item in layers.weighted(model).items()], []


def clipped(layer: Layer, outside: float) -> Tensor:
    """The layer's weights, each row without the share of its values that lies furthest from zero."""
    rows = layer.weight.detach().flatten(1)
    low, high = ranges.ends(rows, symmetric=True, share=1 - outside)
    return torch.minimum(torch.maximum(rows, low[:, None]), high[:, None]).reshape(layer.weight.shape)


def outputs(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    """Every layer's output, over calibration samples; the logits have no range, so they are left out."""
    allowed, weighted = set(quantizer_places(model).outputs), layers.weighted(model)
    ends = {path: stage[-1] for stage in stages(model) for path in stage if path in weighted and stage[-1] in allowed}
    known: dict[float, dict[str, calibration.Span]] = {}

    def edits(place: str, outside: float) -> list[Edit]:
        if outside not in known:
            known[outside], _ = calibration.spans(model, sample, outputs=set(ends.values()), share=1 - outside)
        module: Any = model.get_submodule(place)
        return [Edit(module, "oq", Clipped(*known[outside][place], module.oq))]

    found = [
        Site((path,), (ends[path],), lambda outside, place=ends[path]: edits(place, outside))
        for path in weighted
        if path in ends
    ]
    left = [path for path in weighted if path not in ends]
    return found, [f"left out, no range stands on what they give: {', '.join(left)}"] if left else []

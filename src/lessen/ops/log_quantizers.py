"""Weights on powers of two in the slot `wq`: a sign, an exponent, and a scale for every row or group.

In a file they are 4-bit codes; from loading on bytes, 0 and +-1 to +-64, so that they run in the kernels of int8.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lessen.ops import logarithmic, ranges
from lessen.ops.quantizers import WEIGHTS, WeightQuantizer
from lessen.ops.stored import Stored


class LogWeights(WeightQuantizer):
    """0 and +-2^k times a scale, k from 0 to 2^(bits-1) - 2; 4 bits or 3 (2 bits would be WeightQuantizer's levels)."""

    levels: ClassVar[ranges.Levels] = "log"

    def forward(self, weight: Tensor) -> Tensor:
        scale, _, columns = self._placed(weight)
        return logarithmic.fake_powers(weight, scale, self.bits, columns)

    def nearest(self, values: Tensor, scale: Tensor, zero: Tensor | float) -> Tensor:
        return logarithmic.powers(values / scale, self.bits) * scale

    def integers(self, weight: Tensor) -> Tensor:
        """(out, ...) int8, the powers: up to 64 in 4 bits, 4 in 3."""
        scale, _, _ = self.spread(weight)
        return logarithmic.powers(weight.detach() / scale.detach(), self.bits).to(torch.int8)

    def stored(self, weight: Tensor, mask: Tensor | None = None) -> Stored:
        """As integers of more bits than there are levels for: what the runtime computes with."""
        whole = (2 * logarithmic.largest(self.bits)).bit_length()
        return super().stored(weight, mask)._replace(bits=whole)

    def spec(self) -> dict[str, Any]:
        return {**super().spec(), "kind": "log"}

    @classmethod
    def empty(cls, weight: Tensor, bits: int, group: int = 0, groups: int = 0, kind: str = "log") -> LogWeights:  # type: ignore[override]
        """With tensors of the right shapes, to be filled."""
        found = WeightQuantizer.empty(weight, bits, group, groups=groups)
        return cls(found.scale, bits, group, columns=found.columns)

    @property
    def limits(self) -> tuple[int, int]:
        return -logarithmic.largest(self.bits), logarithmic.largest(self.bits)


WEIGHTS["log"] = LogWeights

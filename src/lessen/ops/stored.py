"""What a weight is in a file: small values, the scales that make them real, and batch norm folded into the scales.

Folding is exact (Krishnamoorthi 2018, arXiv:1806.08342): the same values, the scale times |gamma / sigma|, and where
gamma is negative the values' sign, or their distance from the zero point, turned round.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lessen.ops.quantization import spread


class Stored(NamedTuple):
    """real = (values - zero) * scale; zero and columns are None where all zero points are 0, or a row has one scale."""

    values: Tensor  # (out, ...) int8, uint8, float16 or bfloat16
    scale: Tensor  # (out,) or (out, groups), float32
    bits: int  # that a value needs; 16 for half floats
    zero: Tensor | None = None  # like scale, uint8
    columns: Tensor | None = None  # the group of each column of a row
    gain: Tensor | None = None  # (out,) of batch norm, beside scales of groups, which are bfloat16

    def real(self) -> Tensor:
        """The weight that the runtime computes with, (out, ...) float32."""
        offset = 0.0 if self.zero is None else spread(self.zero.float(), self.values, self.columns)
        real = (self.values.float() - offset) * spread(self.scale, self.values, self.columns)
        return real if self.gain is None else real * spread(self.gain, self.values)

    def folded(self, gain: Tensor) -> Stored:
        """The weight times gain (out,): a dead channel's values become real zeros, and its scale stays."""
        scale, own = self.scale, None
        if self.columns is None:
            scale = torch.where(gain == 0, scale.double(), scale.double() * gain.abs()).float()
        else:
            own = gain.abs().float()
        sign = torch.sign(gain).reshape(-1, *[1] * (self.values.dim() - 1))
        if self.zero is None:
            return self._replace(values=(self.values.float() * sign).to(self.values.dtype), scale=scale, gain=own)
        top = 2**self.bits - 1
        turned = torch.where(torch.sign(gain).reshape(-1, *[1] * (self.zero.dim() - 1)) < 0, top - self.zero, self.zero)
        zero = spread(turned, self.values, self.columns)
        values = torch.where(sign < 0, top - self.values, self.values)
        return self._replace(values=torch.where(sign == 0, zero, values), zero=turned, scale=scale, gain=own)

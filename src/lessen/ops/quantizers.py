"""What stands in the slots of a layer: quantizers of weights (`wq`) and of activations (`iq`, `oq`).

A weight quantizer has `bits`, `stored_bits` (as the file holds them), `forward` (the weight it stands for), `stored`
(the same as small values), `take` (channels leave), `refit` (the same kind for another layer), `spec` and `empty`
(to be written down and made again). Another kind of weight is another class in `WEIGHTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lessen.ops import quantization as q
from lessen.ops import ranges
from lessen.ops.stored import Stored

if TYPE_CHECKING:
    from lessen.ops.layers import Conv2d, Linear


class Quantizer(nn.Module):
    """Base of all quantizers; its parameters train on their logarithm, without decay."""

    bits: int

    def spec(self) -> dict[str, Any]:
        """What, beside tensors, makes it again."""
        return {"bits": self.bits}

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.spec().items())


class WeightQuantizer(Quantizer):
    """Integers with a scale for every row, or for `group` consecutive columns of it (in, kh, kw in C order).

    scale: (out,), or (out, groups), a parameter that learns by LSQ; of groups it counts as rounded to bfloat16, as the
    file stores it. zero: like scale, the integer of 0.0, fixed; None
    is symmetric. columns: the group of each column, once channels have left; None while they are consecutive.
    """

    levels: ClassVar[ranges.Levels] = "uniform"
    zero: Tensor | None
    columns: Tensor | None

    def __init__(
        self, scale: Tensor, bits: int, group: int = 0, zero: Tensor | None = None, columns: Tensor | None = None
    ) -> None:
        super().__init__()
        self.bits, self.group = bits, group
        self.scale = nn.Parameter(scale.detach().clone().float())
        self.register_buffer("zero", None if zero is None else zero.detach().clone().float())
        self.register_buffer("columns", columns)

    @classmethod
    def fitting(
        cls, layer: Conv2d | Linear, bits: int, *, group: int = 0, symmetric: bool = True,
        rule: ranges.Rule = "minmax", share: float = 1.0,
    ) -> WeightQuantizer:  # fmt: skip
        """A quantizer with ranges of the layer's living weights. A row shorter than `group` is one group."""
        weight = layer.weight if layer.mask is None else layer.weight * layer.mask
        rows, how = weight.detach().flatten(1), {"symmetric": symmetric, "rule": rule, "share": share}
        if not group:
            scale, zero = ranges.affine(rows, bits, levels=cls.levels, **how)
            return cls(scale, bits, zero=zero)
        whole = rows.shape[1] // group * group
        parts = [rows[:, :whole].reshape(-1, group), rows[:, whole:]]
        fitted = [ranges.affine(p, bits, levels=cls.levels, **how) for p in parts if p.numel()]
        scale, zero = (
            None if parts[0] is None else torch.cat([p.reshape(len(rows), -1) for p in parts], 1)
            for parts in zip(*fitted, strict=True)
        )
        assert scale is not None
        return cls(scale, bits, group, zero)

    def refit(self, layer: Conv2d | Linear) -> WeightQuantizer:
        """The same kind, with scales for the weights of another layer."""
        return self.fitting(layer, self.bits, group=self.group, symmetric=self.zero is None)

    @property
    def stored_bits(self) -> int:
        """3 bits have no initializer of their own: they are stored in 4, and 5 to 7 in 8."""
        return next(n for n in (1, 2, 4, 8) if n >= self.bits)

    def scale_bits(self, rows: int, columns: int) -> int:
        """Bits of the scales and zero points that a weight of so many rows and columns would have."""
        count = rows * (-(-columns // self.group) if self.group else 1)
        return count * (self.bits_of_scale + (0 if self.zero is None else self.stored_bits))

    @property
    def bits_of_scale(self) -> int:
        return 16 if self.group else 32

    def forward(self, weight: Tensor) -> Tensor:
        scale, zero, columns = self._placed(weight)
        return q.fake_quantize(weight, scale, zero, *self.limits, columns)

    def nearest(self, values: Tensor, scale: Tensor, zero: Tensor | float) -> Tensor:
        """The levels that values round to; scale and zero, as `spread` gives them, broadcast to the values."""
        return q.quantize(values, scale, zero, *self.limits).sub_(zero).mul_(scale)

    def integers(self, weight: Tensor) -> Tensor:
        """(out, ...): int8 in -(2^(bits-1) - 1) .. 2^(bits-1) - 1 when symmetric, else uint8 in 0 .. 2^bits - 1."""
        scale, zero, _ = self.spread(weight)
        found = q.quantize(weight.detach(), scale.detach(), zero, *self.limits)
        return found.to(torch.int8 if self.zero is None else torch.uint8)

    def stored(self, weight: Tensor, mask: Tensor | None = None) -> Stored:
        """As small values; masked weights are the integer of 0."""
        _, offset, columns = self.spread(weight)
        values, scale = self.integers(weight), self._rounded().detach()
        if mask is not None:
            values = torch.where(mask, values, torch.as_tensor(offset).to(values.dtype))
        zero = None if self.zero is None else self.zero.to(torch.uint8)
        return Stored(values, scale, self.bits, zero, columns)

    def take(self, out: Tensor | None, inn: Tensor | None, per: int) -> None:
        """Keep these rows, and the columns of these inputs, `per` of each: every weight keeps its scale."""
        if out is not None:
            self.scale = nn.Parameter(self.scale.detach()[out], self.scale.requires_grad)
            self.zero = None if self.zero is None else self.zero[out]
        if inn is None or not self.group:
            return
        n = (int(inn.max()) + 1) * per if self.columns is None else len(self.columns)
        columns = self._columns(n, inn.device)[(inn[:, None] * per + torch.arange(per, device=inn.device)).flatten()]
        left, columns = columns.unique(return_inverse=True)
        self.scale = nn.Parameter(self.scale.detach()[:, left], self.scale.requires_grad)
        self.zero = None if self.zero is None else self.zero[:, left]
        regular = torch.equal(columns, q.columns_of(len(columns), self.group).to(columns.device))
        self.columns = None if regular else columns.to(torch.int32)

    def spec(self) -> dict[str, Any]:
        said: dict[str, Any] = {"bits": self.bits}
        if self.group:
            said["group"] = self.group
        if self.zero is not None:
            said["symmetric"] = False
        if self.columns is not None:
            said["groups"] = self.scale.shape[1]
        return said

    @classmethod
    def empty(
        cls, weight: Tensor, bits: int, group: int = 0, symmetric: bool = True, groups: int = 0
    ) -> WeightQuantizer:
        """With tensors of the right shapes, to be filled."""
        n = weight[0].numel()
        shape = (len(weight), groups or -(-n // group)) if group else (len(weight),)
        columns = torch.zeros(n, dtype=torch.int32) if groups else None
        return cls(torch.ones(shape), bits, group, None if symmetric else torch.zeros(shape), columns)

    @property
    def limits(self) -> tuple[int, int]:
        return q.limits(self.bits, signed=self.zero is None)

    def _columns(self, n: int, device: torch.device) -> Tensor:
        return q.columns_of(n, self.group).to(device) if self.columns is None else self.columns

    def _placed(self, weight: Tensor) -> tuple[Tensor, Tensor | float, Tensor | None]:
        """Scale and zero point of rows so that they broadcast to the weight; of groups as they are, and the columns."""
        if not self.group:
            return self.spread(weight)
        return self._rounded(), 0.0 if self.zero is None else self.zero, self._columns(weight[0].numel(), weight.device)

    def spread(self, weight: Tensor) -> tuple[Tensor, Tensor | float, Tensor | None]:
        """Scale and zero point so that they broadcast to the weight, and the group of each column."""
        columns = self._columns(weight[0].numel(), weight.device) if self.group else None
        zero = 0.0 if self.zero is None else q.spread(self.zero, weight, columns)
        return q.spread(self._rounded(), weight, columns), zero, columns

    def _rounded(self) -> Tensor:
        """The scale as the file has it."""
        scale = self.scale.clamp(min=1e-12)
        return scale + (scale.bfloat16().float() - scale).detach() if self.group else scale


class HalfQuantizer(Quantizer):
    """Weights as two-byte floats, float16 or bfloat16; the gradient passes straight through."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.bits, self.stored_bits = kind, 16, 16

    @classmethod
    def fitting(cls, layer: Conv2d | Linear) -> HalfQuantizer:
        """float16, or bfloat16 where a weight is too large for it."""
        half = cls("float16")
        return half if bool(torch.isfinite(half(layer.weight.detach())).all()) else cls("bfloat16")

    @property
    def dtype(self) -> torch.dtype:
        return {"float16": torch.float16, "bfloat16": torch.bfloat16}[self.kind]

    def forward(self, weight: Tensor) -> Tensor:
        rounded = weight.detach().to(self.dtype).float()
        return weight + (rounded - weight).detach() if weight.requires_grad and torch.is_grad_enabled() else rounded

    def stored(self, weight: Tensor, mask: Tensor | None = None) -> Stored:
        """Halves with scale 1, which takes batch norm's gain, so that folding rounds nothing."""
        values = weight.detach() if mask is None else weight.detach() * mask
        return Stored(values.to(self.dtype), torch.ones(len(weight)), 16)

    def take(self, out: Tensor | None, inn: Tensor | None, per: int) -> None:
        """Nothing here belongs to a channel."""

    def refit(self, layer: Conv2d | Linear) -> HalfQuantizer:
        return HalfQuantizer(self.kind)

    def scale_bits(self, rows: int, columns: int) -> int:
        return 0

    def spec(self) -> dict[str, Any]:
        return {"bits": self.bits, "kind": self.kind}

    @classmethod
    def empty(cls, weight: Tensor, bits: int, kind: str) -> HalfQuantizer:
        return cls(kind)


class ActivationQuantizer(Quantizer):
    """Per-tensor unsigned activation quantizer: `scale` () learns by LSQ, `zero` () stays.

    `set_range` fixes both from the range that calibration saw.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits = bits
        self.scale = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("zero", torch.tensor(0.0))
        self.zero: Tensor

    def forward(self, x: Tensor) -> Tensor:
        low, high = q.limits(self.bits, signed=False)
        return q.fake_quantize(x, self.scale.clamp(min=1e-12), self.zero, low, high, samples=len(x))

    @classmethod
    def covering(cls, low: Tensor, high: Tensor, bits: int = 8) -> ActivationQuantizer:
        """A quantizer whose integers cover [low, high]."""
        quantizer = cls(bits)
        quantizer.set_range(low, high)
        return quantizer

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Fix scale and zero point so that [low, high] is covered."""
        scale, zero = q.range_to_affine(low, high, self.bits)
        with torch.no_grad():
            self.scale.copy_(scale)
            self.zero.copy_(zero)


class DynamicQuantizer(Quantizer):
    """Eight bits over the range of the very tensor that comes, as ONNX's DynamicQuantizeLinear computes it."""

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = q.range_to_affine(x.detach().amin(), x.detach().amax(), self.bits)
        return q.fake_quantize(x, scale, zero, *q.limits(self.bits, signed=False))

    def spec(self) -> dict[str, Any]:
        return {"bits": self.bits, "kind": "dynamic"}


WEIGHTS: dict[str, Any] = {"integers": WeightQuantizer, "float16": HalfQuantizer, "bfloat16": HalfQuantizer}
ACTIVATIONS: dict[str, Any] = {"static": ActivationQuantizer, "dynamic": DynamicQuantizer}


def make_weight(weight: Tensor, spec: dict[str, Any]) -> Quantizer:
    """The weight quantizer that a spec describes, for a weight of this shape."""
    return WEIGHTS[spec.get("kind", "integers")].empty(weight, **spec)


def make_activation(spec: dict[str, Any]) -> Quantizer:
    """The activation quantizer that a spec describes."""
    return ACTIVATIONS[spec.get("kind", "static")](spec["bits"])

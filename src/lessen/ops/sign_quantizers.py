"""What stands in the slots of binary and ternary layers: signs of weights (`wq`) and of inputs (`iq`).

Runtimes compute them in the kernels of int8. A native one (XNOR and popcount, later in `kernels/`) takes the place of
the product in the `forward` of Conv2d and Linear in ops/layers.py, where `wq` is SignWeights and `iq` SignActivations.
`SignWeights.stored` and `SignActivations.signs` are the bits of both sides; its whole numbers times `wq.scale` (out,)
and `iq.scale` () are what the layer computes now. Padding is 0, a third level: at borders it counts fewer weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lessen.ops import signs
from lessen.ops.quantization import spread
from lessen.ops.quantizers import ACTIVATIONS, WEIGHTS, Quantizer
from lessen.ops.stored import Stored

if TYPE_CHECKING:
    from lessen.ops.layers import Conv2d, Linear

Scale = Literal["mean", "learned", "one"]


class SignWeights(Quantizer):
    """A row of -1 and 1 (one bit), or of -1, 0 and 1 (two), times its scale.

    scale: (out,). `mean` follows the weights while they train, `learned` is a parameter that starts there, `one` is 1.
    threshold: (out,) within which a ternary weight is 0; it follows the weights in every case. Both are kept, so that
    weights which stay when others leave keep their values.
    """

    scale: Tensor
    threshold: Tensor | None

    def __init__(self, scale: Tensor, bits: int, kind: Scale = "mean", threshold: Tensor | None = None) -> None:
        super().__init__()
        self.bits = self.stored_bits = bits
        self.follows: Scale = kind
        self._hold(scale)
        self.register_buffer("threshold", None if threshold is None else threshold.detach().clone().float())

    def _hold(self, scale: Tensor) -> None:
        scale = scale.detach().clone().float()
        if self.follows == "learned":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    @classmethod
    def fitting(cls, layer: Conv2d | Linear, bits: int, kind: Scale = "mean") -> SignWeights:
        """With scales of the layer's living weights; a row of zeros stays zeros."""
        weight = layer.weight if layer.mask is None else layer.weight * layer.mask
        rows = weight.detach().flatten(1)
        threshold = signs.ternary_threshold(rows) if bits == 2 else None
        alpha = signs.mean_beyond(rows, threshold)
        return cls(torch.ones_like(alpha) if kind == "one" else alpha, bits, kind, threshold)

    def refit(self, layer: Conv2d | Linear) -> SignWeights:
        """The same kind, with scales for the weights of another layer."""
        return self.fitting(layer, self.bits, self.follows)

    def forward(self, weight: Tensor) -> Tensor:
        scale = self.scale
        if self.training and weight.requires_grad and torch.is_grad_enabled():
            scale = self._follow(weight)
        threshold = None if self.threshold is None else spread(self.threshold, weight)
        return signs.scaled_levels(weight, spread(scale, weight), threshold)

    def _follow(self, weight: Tensor) -> Tensor:
        """Scale and threshold for the weights as they are now; the scale of `mean` with its gradient."""
        rows = weight.flatten(1)
        if self.threshold is not None:
            self.threshold.copy_(signs.ternary_threshold(rows.detach()))
        if self.follows != "mean":
            return signs.damped(self.scale, rows.shape[1])
        scale = signs.mean_beyond(rows, self.threshold)
        self.scale.copy_(scale.detach())
        return scale

    def stored(self, weight: Tensor, mask: Tensor | None = None) -> Stored:
        """As small values; masked weights are 0, beside which a binary weight needs a second bit or a mask of bits."""
        threshold = None if self.threshold is None else spread(self.threshold, weight)
        values = signs.levels(weight.detach(), threshold)
        values = values if mask is None else values * mask
        dead = self.scale == 0
        values = torch.where(spread(dead, weight), 0.0, values).to(torch.int8)
        return Stored(values, torch.where(dead, 1.0, self.scale.detach()), self.bits)

    def take(self, out: Tensor | None, inn: Tensor | None, per: int) -> None:
        """Keep these rows; of which inputs a row is made matters no more."""
        if out is not None:
            self._hold(self.scale.detach()[out])
            self.threshold = None if self.threshold is None else self.threshold[out]

    def scale_bits(self, rows: int, columns: int) -> int:
        """Bits of the scales that a weight of so many rows would have."""
        return 32 * rows

    def spec(self) -> dict[str, Any]:
        return {"bits": self.bits, "kind": "signs", "scale": self.follows}

    @classmethod
    def empty(cls, weight: Tensor, bits: int, kind: str, scale: Scale) -> SignWeights:
        """With tensors of the right shapes, to be filled."""
        ones = torch.ones(len(weight))
        return cls(ones, bits, scale, ones if bits == 2 else None)


class SignActivations(Quantizer):
    """One bit of an input: scale * sign(x - threshold), in one pair of values for the whole tensor.

    scale: (), learns. threshold: (), fixed: it stands above 0 behind a ReLU, and what each channel needs batch norm's
    shifts learn. The gradient of x is clipped.
    """

    threshold: Tensor

    def __init__(self, bits: int = 1) -> None:
        super().__init__()
        self.bits = bits
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("threshold", torch.tensor(0.0))

    @classmethod
    def fitting(cls, x: Tensor) -> SignActivations:
        """Half of the values that are not zero lie above the threshold; the scale is their mean distance from it."""
        found = cls()
        alive = x.detach().flatten()
        alive = alive[alive != 0]
        if len(alive):
            found.threshold.copy_(alive.median())
            found.scale.data.copy_((alive - found.threshold).abs().mean().clamp(min=1e-6))
        return found

    def signs(self, x: Tensor) -> Tensor:
        """-1 or 1."""
        return signs.levels(x - self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        scale = signs.damped(self.scale.clamp(min=1e-12), x[0].numel())  # of one sample, as LSQ counts features
        return signs.scaled_levels(x - self.threshold, scale, bounded=False)

    def spec(self) -> dict[str, Any]:
        return {"bits": self.bits, "kind": "sign"}


WEIGHTS["signs"] = SignWeights
ACTIVATIONS["sign"] = SignActivations

"""Every compressed layer: ordinary layers of our own with optional slots.

`Conv2d` and `Linear` have `mask` (which weights live), `wq` (weight quantizer), `iq` and `oq` (input and
output activation quantizers). Layers that produce a tensor without weights have `oq` alone. Effective weight =
mask * wq(weight), mask last. What is simulated here is exactly the arithmetic of the shipped file, so any
later training is aware of every earlier technique. No parametrizations: they break torch-pruning, folding
and copying, and make state keys depend on order.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lessen.core.errors import Refused
from lessen.ops.log_quantizers import LogWeights as LogWeights
from lessen.ops.quantizers import ActivationQuantizer as ActivationQuantizer
from lessen.ops.quantizers import DynamicQuantizer as DynamicQuantizer
from lessen.ops.quantizers import HalfQuantizer as HalfQuantizer
from lessen.ops.quantizers import Quantizer as Quantizer
from lessen.ops.quantizers import WeightQuantizer as WeightQuantizer
from lessen.ops.sign_quantizers import SignActivations as SignActivations
from lessen.ops.sign_quantizers import SignWeights as SignWeights

SLOTS = ("wq", "iq", "oq")  # where a layer may carry a quantizer: of its weight, its input, its output


class _Site(nn.Module):
    """A layer that produces a tensor: it may carry an output quantizer."""

    oq: Any  # ActivationQuantizer or None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open_slots()

    def _open_slots(self) -> None:
        self._modules.setdefault("oq", None)

    def _out(self, y: Tensor) -> Tensor:
        return y if self.oq is None else self.oq(y)


class _Weighted(_Site):
    """A layer with a weight: (out, in, ...), and the slots that change it."""

    weight: Tensor
    bias: Tensor | None
    mask: Tensor | None  # bool, shaped like weight; not in the state: zeros say the rest
    wq: Any  # a kind of quantizers.WEIGHTS, or None
    iq: Any  # a kind of quantizers.ACTIVATIONS, or None

    def _open_slots(self) -> None:
        super()._open_slots()
        self._modules.setdefault("wq", None)
        self._modules.setdefault("iq", None)
        self._buffers.setdefault("mask", None)
        self._non_persistent_buffers_set.add("mask")

    def effective_weight(self) -> Tensor:
        """mask * wq(weight): what the layer computes with."""
        weight = self.weight if self.wq is None else self.wq(self.weight)
        return weight if self.mask is None else weight * self.mask

    def set_mask(self, mask: Tensor | None) -> None:
        """Install a boolean mask (True lives) joined with any earlier one, so that zeros never come back."""
        if mask is not None and self.mask is not None:
            mask = mask & self.mask
        self.mask = mask
        if mask is not None:
            with torch.no_grad():
                self.weight.mul_(mask)

    def take(self, out: Tensor | None = None, inn: Tensor | None = None) -> None:
        """Keep these output and input channels (index tensors) of weight, bias, mask and scales.

        `inn` indexes the weight's second axis, so for grouped convolutions it is within one group.
        """
        if self.wq is not None:
            self.wq.take(out, inn, self.weight[0, 0].numel())
        for axis, index in ((0, out), (1, inn)):
            if index is None:
                continue
            self.weight = nn.Parameter(self.weight.detach().index_select(axis, index), self.weight.requires_grad)
            if self.mask is not None:
                self.mask = self.mask.index_select(axis, index)
        if out is not None and self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach()[out], self.bias.requires_grad)
        self._resize()

    def _resize(self) -> None:
        raise TypeError(f"{type(self).__name__} cannot be cut")


class Conv2d(_Weighted, nn.Conv2d):
    """nn.Conv2d with slots; weight (out, in / groups, kh, kw)."""

    def forward(self, input: Tensor) -> Tensor:
        x = input if self.iq is None else self.iq(input)
        return self._out(self._conv_forward(x, self.effective_weight(), self.bias))

    def _resize(self) -> None:
        if self.groups > 1 and self.groups == self.in_channels:
            self.groups = self.weight.shape[0]  # depthwise: outputs, inputs and groups fall together
        self.out_channels, self.in_channels = self.weight.shape[0], self.weight.shape[1] * self.groups


class Linear(_Weighted, nn.Linear):
    """nn.Linear with slots; weight (out, in)."""

    def forward(self, input: Tensor) -> Tensor:
        x = input if self.iq is None else self.iq(input)
        return self._out(nn.functional.linear(x, self.effective_weight(), self.bias))

    def _resize(self) -> None:
        self.out_features, self.in_features = self.weight.shape


class _Plain(_Site):
    """Adds the output slot to a layer whose forward takes one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self._out(super().forward(x))


class BatchNorm2d(_Plain, nn.BatchNorm2d): ...


class LayerNorm(_Plain, nn.LayerNorm): ...


class ReLU(_Plain, nn.ReLU): ...


class ReLU6(_Plain, nn.ReLU6): ...


class SiLU(_Plain, nn.SiLU): ...


class GELU(_Plain, nn.GELU): ...


class Sigmoid(_Plain, nn.Sigmoid): ...


class MaxPool2d(_Plain, nn.MaxPool2d): ...


class AvgPool2d(_Plain, nn.AvgPool2d): ...


class AdaptiveAvgPool2d(_Plain, nn.AdaptiveAvgPool2d): ...


class Add(_Site):
    """x + y as a module, so that a quantizer has a place to stand."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self._out(x + y)


class Mul(_Site):
    """x * y as a module (squeeze-and-excitation gates)."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self._out(x * y)


class Cat(_Site):
    """Concatenation along channels as a module."""

    def forward(self, *xs: Tensor) -> Tensor:
        return self._out(torch.cat(xs, 1))


_OURS = (
    Conv2d, Linear, BatchNorm2d, LayerNorm, ReLU, ReLU6, SiLU, GELU, Sigmoid, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d,
)  # fmt: skip
OWN: dict[type[nn.Module], type[nn.Module]] = {getattr(nn, ours.__name__): ours for ours in _OURS}
NN = {ours: theirs for theirs, ours in OWN.items()}


def own(model: nn.Module) -> nn.Module:
    """Turn nn layers into ours, in place, keeping every tensor.

    Subclasses of the user's are left alone, and layers whose weight is computed. Errors: Refused for 16-bit weights.
    """
    refuse_16_bits(model)
    for module in model.modules():
        if type(module) in OWN and not computed(module):
            cast(Any, module).__class__ = OWN[type(module)]
            cast(_Site, module)._open_slots()
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # rules out torch's fused path, which reads weights past their layers
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # which that path alone can take
    return model


def refuse_16_bits(model: nn.Module) -> None:
    """Errors: Refused for weights of 16 bits, to which neither small steps of training nor scales of integers fit."""
    if name := of_16_bits(model):
        raise Refused(
            f"{name}, and Lessen works on float32; call model.float() first, then Float16() to keep two bytes"
        )


def of_16_bits(model: nn.Module) -> str:
    """In words, the first parameter of 16 bits; empty where there is none."""
    halves = (torch.float16, torch.bfloat16)
    return next((f"'{n}' is {str(p.dtype)[6:]}" for n, p in model.named_parameters() if p.dtype in halves), "")


def computed(module: nn.Module) -> bool:
    """Whether its weight is no parameter, but made anew at every call from others (torch's old weight_norm)."""
    return isinstance(vars(module).get("weight"), Tensor)


def plain(model: nn.Module) -> nn.Module:
    """An ordinary copy with effective weights, no slots and no quantizers: for tools that expect nn layers."""
    shadow = copy.deepcopy(model)
    for module in shadow.modules():
        if isinstance(module, _Weighted):
            with torch.no_grad():
                effective = module.effective_weight().detach().clone()
            module.weight = nn.Parameter(effective)
            module._buffers["mask"] = None
        for slot in SLOTS:
            if isinstance(module, _Site) and slot in module._modules:
                module._modules[slot] = None
        if type(module) in NN:
            cast(Any, module).__class__ = NN[type(module)]
    return shadow


def weighted(model: nn.Module) -> dict[str, Conv2d | Linear]:
    """Our convolution and linear layers by path, in the model's order (call `own` first)."""
    return {k: m for k, m in model.named_modules() if isinstance(m, Conv2d | Linear)}


def sites(model: nn.Module) -> dict[str, Any]:
    """All layers with an output slot, by path."""
    return {k: cast(Any, m) for k, m in model.named_modules() if isinstance(m, _Site)}


def left_alone(model: nn.Module) -> list[str]:
    """Path and type of every module with weights (two axes or more) that is no layer of ours, and the mend if any.

    >>> left_alone(own(nn.Sequential(nn.Linear(2, 2), nn.ConvTranspose2d(1, 1, 2))))
    ["'1' (ConvTranspose2d)"]
    """
    found = []
    for path, module in model.named_modules():
        if isinstance(module, Conv2d | Linear | Quantizer | parametrize.ParametrizationList):
            continue
        held = list(module.parameters(recurse=False))
        if parametrize.is_parametrized(module):
            held += cast(nn.Module, module.parametrizations).parameters()
        if any(p.dim() > 1 for p in held):
            mend = _mend(module)
            why = f", its weight is computed: {mend} first" if mend else ""
            found.append(f"'{path or 'the model'}' ({type(module).__name__}{why})")
    return found


def _mend(module: nn.Module) -> str:
    """What makes a stored weight of a computed one."""
    if parametrize.is_parametrized(module):
        return "torch.nn.utils.parametrize.remove_parametrizations"
    hooks = {type(hook).__name__ for hook in module._forward_pre_hooks.values()} if computed(module) else ()
    names = {"WeightNorm": "torch.nn.utils.remove_weight_norm", "SpectralNorm": "torch.nn.utils.remove_spectral_norm"}
    return next((mend for name, mend in names.items() if name in hooks), "")

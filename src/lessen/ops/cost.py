"""What a torch model holds and computes, counted: parameters, non-zeros, multiply-accumulates, bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from lessen.core.record import Cost
from lessen.ops import layers, ties
from lessen.ops.modes import evaluating, in_parts


def count(model: nn.Module, sample: Tensor) -> Cost:
    """Costs of `model` for `sample` (1, ...), one sample. Quantizers' own values count as bits only.

    A parameter of several layers counts once, and once for every number of bits that they store it in.
    """
    parameters = nonzeros = bits = 0
    counted: set[int] = set()
    stored: set[tuple[int, int]] = set()
    for module in model.modules():
        quantizer = isinstance(module, layers.Quantizer)
        if isinstance(module, layers.WeightQuantizer):
            bits += 0 if module.zero is None else module.zero.numel() * module.stored_bits
            bits += 0 if module.columns is None else module.columns.numel() * 8
        elif isinstance(module, layers.SignWeights) and not isinstance(module.scale, nn.Parameter):
            bits += 32 * module.scale.numel()
        for name, value in module.named_parameters(recurse=False):
            needed = value_bits(module, name, value)
            bits += needed if (id(value), needed) not in stored else 0
            stored.add((id(value), needed))
            if not quantizer and id(value) not in counted:
                counted.add(id(value))
                parameters += value.numel()
                nonzeros += int(torch.count_nonzero(_shown(module, name, value)))
    dense, living = multiply_accumulates(model, sample)
    return Cost(parameters=parameters, nonzeros=nonzeros, macs=dense, weight_bits=bits, nonzero_macs=living)


def value_bits(module: nn.Module, name: str, value: Tensor) -> int:
    """Bits of one parameter in the file: the quantizer's where it has one, else those of its type."""
    if name == "weight" and isinstance(module, layers.Conv2d | layers.Linear) and module.wq is not None:
        beside = int(module.mask is not None and module.wq.stored_bits == 1)  # signs have no room for a zero
        return value.numel() * (module.wq.stored_bits + beside)
    if isinstance(module, layers.WeightQuantizer):
        return value.numel() * module.bits_of_scale
    return value.numel() * value.element_size() * 8


def multiply_accumulates(model: nn.Module, sample: Tensor) -> tuple[int, int]:
    """Of one forward pass: all, half of what torch's flop counter counts (2 each), and those with a non-zero weight.

    Every weight of a convolution or linear layer takes part in equally many, so a layer's share of non-zero weights
    is the share of its multiply-accumulates that a kernel which skips zeros would do. Others count in full.
    """
    counter = _counted(model, sample)
    counts, root = counter.get_flop_counts(), type(model).__name__
    skipped = 0.0
    for first, paths in ties.homes(model).items():  # torch calls a layer by the path through which it was reached
        layer = model.get_submodule(first)
        if isinstance(layer, _ConvNd | nn.Linear):
            flops = sum(sum(counts.get(f"{root}.{path}" if path else root, {}).values()) for path in paths)
            skipped += flops * (1 - float((_shown(layer, "weight", layer.weight) != 0).double().mean()))
    total = counter.get_total_flops()
    return total // 2, round((total - skipped) / 2)


def macs(model: nn.Module, sample: Tensor) -> int:
    """Multiply-accumulates of one forward pass, dense; looks at no weight, so they may lie on the meta device."""
    return _counted(model, sample).get_total_flops() // 2


def _counted(model: nn.Module, sample: Tensor) -> FlopCounterMode:
    with evaluating(model), in_parts(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(sample)
    return counter


def _shown(module: nn.Module, name: str, value: Tensor) -> Tensor:
    if name == "weight" and isinstance(module, layers.Conv2d | layers.Linear):
        return module.effective_weight().detach()
    return value

"""Batch norm leaves the model only when it is packed: folded into the convolution before it.

For quantized weights the fold is exact (ops/stored.py): the gains returned here go into their scales.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lessen.ops import layers
from lessen.ops.graph import norm_pairs


def fold_norms(model: nn.Module) -> dict[str, Tensor]:
    """Fold in place every batch norm that alone reads a convolution; it becomes an Identity.

    Returns path -> gain (out,) of each folded convolution's channels, 0 for a dead channel. Weight and bias are changed
    here; what its weight quantizer stores is folded by `Stored.folded(gain)`.
    """
    gains: dict[str, Tensor] = {}
    for norm_path, conv_path in norm_pairs(model).items():
        norm, conv = model.get_submodule(norm_path), model.get_submodule(conv_path)
        assert isinstance(norm, layers.BatchNorm2d) and isinstance(conv, layers.Conv2d)
        gains[conv_path] = _fold(conv, norm)
        conv.oq = norm.oq
        parent, _, name = norm_path.rpartition(".")
        model.get_submodule(parent).register_module(name, nn.Identity())
    return gains


@torch.no_grad()
def _fold(conv: layers.Conv2d, norm: layers.BatchNorm2d) -> Tensor:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    gain = 1 / torch.sqrt(var.double() + norm.eps)
    if norm.affine:
        gain = gain * norm.weight.double()
    shift = norm.bias.double() if norm.affine else 0.0
    bias = conv.bias.double() if conv.bias is not None else 0.0
    scaled = (conv.weight * gain.reshape(-1, 1, 1, 1)).to(conv.weight.dtype)
    conv.weight = nn.Parameter(scaled)  # not in place: a layer tied to it has a norm of its own
    conv.bias = nn.Parameter((shift + (bias - mean.double()) * gain).float())
    return gain

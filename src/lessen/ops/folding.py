"""Batch norm leaves the model only when it is packed: folded into the convolution before it.

With symmetric per-channel weights the fold is exact (Krishnamoorthi 2018, arXiv:1806.08342): the same integers, the
scale times |gamma / sigma|, negated where gamma < 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lessen.ops import layers
from lessen.ops.graph import norm_pairs


def fold_norms(model: nn.Module) -> dict[str, Tensor]:
    """Fold in place every batch norm that alone reads a convolution; it becomes an Identity.

    Returns path -> sign (out,) of each folded convolution's channels, 0 for a dead channel. The integers of a folded
    layer are those of before times the sign; weight, bias and weight scales are changed here.
    """
    signs: dict[str, Tensor] = {}
    for norm_path, conv_path in norm_pairs(model).items():
        norm, conv = model.get_submodule(norm_path), model.get_submodule(conv_path)
        assert isinstance(norm, layers.BatchNorm2d) and isinstance(conv, layers.Conv2d)
        signs[conv_path] = _fold(conv, norm)
        conv.oq = norm.oq
        parent, _, name = norm_path.rpartition(".")
        model.get_submodule(parent).register_module(name, nn.Identity())
    return signs


@torch.no_grad()
def _fold(conv: layers.Conv2d, norm: layers.BatchNorm2d) -> Tensor:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    gain = 1 / torch.sqrt(var.double() + norm.eps)
    if norm.affine:
        gain = gain * norm.weight.double()
    shift = norm.bias.double() if norm.affine else 0.0
    bias = conv.bias.double() if conv.bias is not None else 0.0
    conv.weight.copy_(conv.weight * gain.reshape(-1, 1, 1, 1))
    if conv.wq is not None:
        # a gain of zero (a dead channel) would make a scale of zero; the weights are zero as well then
        conv.wq.scale.copy_(torch.where(gain == 0, torch.ones_like(gain), conv.wq.scale * gain.abs()))
    conv.bias = nn.Parameter((shift + (bias - mean.double()) * gain).float())
    return torch.sign(gain).float()

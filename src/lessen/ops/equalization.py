"""Channels that one layer writes large and the next reads small change their scale, which ReLU lets pass
(Nagel et al. 2019, "Data-Free Quantization", arXiv:1906.04721, 4.1).

With a scale for every row, rounding of the writing layer does not depend on it: what is evened out are the channels
under one activation scale, and the columns of the reading layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from lessen.ops import graph, layers, ties

SWEEPS = 20
HOMOGENEOUS = (layers.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Identity, nn.Flatten)


class Chain(NamedTuple):
    """Paths of the writing layer, the batch norm behind it if there is one, and the only layer that reads it."""

    first: str
    norm: str
    second: str


def chains(model: nn.Module) -> list[Chain]:
    """All pairs with only batch norm, ReLU, pools and reshapes between them; none where the model has no graph."""
    traced, modules = graph.trace(model), dict(model.named_modules())
    found: list[Chain] = []
    for node in traced.nodes if traced is not None else ():
        if not isinstance(_module(node, modules), layers.Conv2d | layers.Linear):
            continue
        norm, at = "", node
        while len(at.users) == 1:
            at = next(iter(at.users))
            module = _module(at, modules)
            if isinstance(module, layers.BatchNorm2d) and not norm and at.args[0] is node:
                norm = str(at.target)
            elif isinstance(module, layers.Conv2d | layers.Linear):
                found.append(Chain(str(node.target), norm, str(at.target)))
                break
            elif not (isinstance(module, HOMOGENEOUS) or (module is None and graph._reshapes(at, modules))):
                break
    shared = ties.shared(model)
    used = [str(n.target) for n in traced.nodes if n.op == "call_module"] if traced is not None else []
    alone = lambda path: used.count(path) <= 1 and not (path and ties.holds(modules[path], shared))  # noqa: E731
    return [c for c in found if all(map(alone, c)) and _fits(c, modules)]


def equalize(model: nn.Module) -> dict[str, float]:
    """Even out all chains in place; the model computes what it did. Returns the largest factor of each chain.

    For each channel, r1 the largest weight that writes it (behind its norm) and r2 the largest that reads it, both
    become sqrt(r1 r2).
    """
    found = chains(model)
    total: dict[Chain, Tensor] = {}
    for _ in range(SWEEPS):
        steps = {c: _even(model, c).log() for c in found}
        total = {c: step + total.get(c, 0.0) for c, step in steps.items()}
        if all(float(step.abs().max()) < 1e-3 for step in steps.values()):
            break
    return {f"{c.first} > {c.second}": float(t.abs().max().exp()) for c, t in total.items()}


@torch.no_grad()
def _even(model: nn.Module, chain: Chain) -> Tensor:
    """One step on one chain; returns the factor (channels,) by which each channel shrank."""
    first, second = (layers.weighted(model)[path] for path in (chain.first, chain.second))
    norm = model.get_submodule(chain.norm) if chain.norm else None
    writes = first.weight.flatten(1).abs().amax(1)
    if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
        writes = writes * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).abs()
    columns = _columns(second, len(writes))
    reads = columns.abs().amax((0, 2))
    factor = torch.where((writes > 0) & (reads > 0), (writes / reads.clamp(min=1e-30)).sqrt(), 1.0).clamp(1e-3, 1e3)
    for owner in (first if norm is None else norm,):
        assert isinstance(owner, layers.Conv2d | layers.Linear | layers.BatchNorm2d)
        owner.weight.div_(factor.reshape(-1, *[1] * (owner.weight.dim() - 1)))
        if owner.bias is not None:
            owner.bias.div_(factor)
    second.weight.copy_((columns * factor.reshape(1, -1, 1)).reshape(second.weight.shape))
    return factor


def _columns(second: layers.Conv2d | layers.Linear, channels: int) -> Tensor:
    """The reading weight as (rows, channels, weights of each); a depthwise layer has one row for each channel."""
    weight = second.weight
    if isinstance(second, nn.Conv2d) and second.groups > 1:
        return weight.reshape(1, channels, -1)
    return weight.reshape(len(weight), channels, -1)


def _fits(chain: Chain, modules: dict[str, nn.Module]) -> bool:
    """Float layers, a norm with weights of its own, and inputs that are the written channels, whole or depthwise."""
    first, second, norm = modules[chain.first], modules[chain.second], modules[chain.norm] if chain.norm else None
    assert isinstance(first, layers.Conv2d | layers.Linear) and isinstance(second, layers.Conv2d | layers.Linear)
    slots = [getattr(m, slot, None) for m in (first, second, norm) for slot in ("wq", "iq", "oq")]
    if any(s is not None for s in slots) or (norm is not None and norm.weight is None):
        return False
    channels = len(first.weight)
    if isinstance(second, nn.Conv2d):
        return second.in_channels == channels and second.groups in (1, channels)
    return second.weight.shape[1] % channels == 0  # behind a reshape a channel is a run of inputs


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None

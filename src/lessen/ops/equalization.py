"""Channels that one layer writes large and the next reads small change their scale, which ReLU lets pass
(Nagel et al. 2019, "Data-Free Quantization", arXiv:1906.04721, 4.1).

With a scale for every row, rounding of the writing layer does not depend on it: what is evened out are the channels
under one activation scale, and the columns of the reading layer.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from lessen.ops import graph, layers, ties

SWEEPS = 20
ANYWHERE = (layers.ReLU, nn.Dropout, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)

# Where a tensor between two layers has the channels: the second axis of images (n, c, h, w), or of rows (n, c, places);
# runs of the features of (n, c * places); the last axis.
At = Literal["images", "rows", "runs", "last", "unknown"]


class Chain(NamedTuple):
    """Paths of the writing layer, the batch norm behind it if there is one, and the only layer that reads it."""

    first: str
    norm: str
    second: str


def chains(model: nn.Module) -> list[Chain]:
    """All pairs with only batch norm, ReLU, pools and reshapes between them that leave each channel's values together.

    None where the model has no graph.
    """
    traced, modules = graph.trace(model), dict(model.named_modules())
    if traced is None:
        return []
    found = [chain for node in traced.nodes if (chain := _chain(node, modules))]
    shared = _shared(model, traced)
    return [c for c in found if not shared.intersection(filter(None, c)) and _plain(c, modules)]


def _chain(node: fx.Node, modules: dict[str, nn.Module]) -> Chain | None:
    """From a layer that writes to the one that alone reads its channels."""
    first = _module(node, modules)
    if not isinstance(first, layers.Conv2d | layers.Linear):
        return None
    norm, place, channels = "", node, len(first.weight)
    at: At = "images" if isinstance(first, nn.Conv2d) else "last"
    while len(place.users) == 1 and at != "unknown":
        place = next(iter(place.users))
        module = _module(place, modules)
        if isinstance(module, layers.Conv2d | layers.Linear):
            return Chain(str(node.target), norm, str(place.target)) if _reads(module, at, channels) else None
        if isinstance(module, layers.BatchNorm2d) and not norm and place.args[0] is node and at == "images":
            norm = str(place.target)
        else:
            at = _behind(at, place, module)
    return None


def _behind(at: At, node: fx.Node, module: nn.Module | None) -> At:
    """Where the channels stand behind an operation; unknown also where it does not scale as its input does."""
    if getattr(module, "oq", None) is not None:
        return "unknown"
    if isinstance(module, ANYWHERE) or (isinstance(module, POOLS) and at == "images"):
        return at
    name, given = _call(node, module)
    if name == "contiguous":
        return at
    if name == "transpose" and at == "rows" and given in ([1, 2], [2, 1], [-1, -2], [-2, -1]):
        return "last"
    if name == "flatten" and len(given) == 2 and given[1] == -1:
        match at, given[0]:
            case ("images" | "rows", 1):
                return "runs"
            case "images", 2:
                return "rows"
            case "last", 1 | 2:  # of one place, where the reader takes as many features as there are channels
                return "last"
    return "unknown"


def _call(node: fx.Node, module: nn.Module | None) -> tuple[str, list[Any]]:
    """Name and arguments of a function or method; flatten's as [first axis, last axis]."""
    if isinstance(module, nn.Flatten):
        return "flatten", [module.start_dim, module.end_dim]
    if module is not None:
        return "", []
    name, given = str(getattr(node.target, "__name__", node.target)), list(node.args[1:])
    if name == "flatten":
        given += [node.kwargs.get("start_dim", 0), node.kwargs.get("end_dim", -1)][len(given) :]
    return name, given


def _reads(second: layers.Conv2d | layers.Linear, at: At, channels: int) -> bool:
    """Whether the layer's inputs are the channels: whole, depthwise, or each a run of features."""
    if isinstance(second, nn.Conv2d):
        return at == "images" and second.in_channels == channels and second.groups in (1, channels)
    features = second.weight.shape[1]
    return (at == "runs" and features % channels == 0) or (at == "last" and features == channels)


def _shared(model: nn.Module, traced: fx.Graph) -> set[str]:
    """Paths of modules that run more than once, or whose tensors others use, too."""
    runs = Counter(str(n.target) for n in traced.nodes if n.op == "call_module")
    by_hand = {str(n.target).rpartition(".")[0] for n in traced.nodes if n.op == "get_attr"}
    tied = ties.shared(model)
    return by_hand | {path for path, m in model.named_modules() if path and (runs[path] > 1 or ties.holds(m, tied))}


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


def _plain(chain: Chain, modules: dict[str, nn.Module]) -> bool:
    """Float layers, and a norm with weights of its own."""
    first, second, norm = modules[chain.first], modules[chain.second], modules[chain.norm] if chain.norm else None
    slots = [getattr(m, slot, None) for m in (first, second, norm) for slot in layers.SLOTS]
    return all(slot is None for slot in slots) and (norm is None or norm.weight is not None)


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None

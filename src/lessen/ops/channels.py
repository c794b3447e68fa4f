"""Whole channels leave a model: groups of channels that live and die together, found by torch-pruning on a plain
shadow of the model and replayed on the compressed layers (Fang et al. 2023, DepGraph, arXiv:2301.12900).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from lessen.core.errors import Refused
from lessen.ops import layers
from lessen.ops.graph import failing_layer

Criterion = Literal["l1", "l2", "random"]
Scope = Literal["layer", "global"]

PASSING = tuple(
    getattr(OPTYPE, name) for name in ("CONCAT", "SPLIT", "ELEMENTWISE", "RESHAPE", "UNBIND", "EXPAND", "SLICE")
)
ATTENTION = ("softmax", "scaleddotproduct", "bmm")  # autograd nodes between a head's projections


@dataclass(frozen=True)
class Plan:
    """How much to cut. See `kept_counts` for what the numbers mean."""

    ratio: float
    scope: Scope = "layer"
    criterion: Criterion = "l2"
    round_to: int = 1
    floor: float = 0.0
    whole: tuple[str, ...] = ()  # paths of layers whose outputs stay


@dataclass(frozen=True)
class Coupled:
    """Channels that can only leave together: scores (n,), repeated `parts` times along the root layer's outputs."""

    root: nn.Module
    cut: Any  # torch-pruning's function for the root
    scores: Tensor
    parts: int  # groups of a grouped convolution among the members lose the same positions


# --- how many, and which: pure functions of numbers


def kept_counts(scores: Sequence[Tensor], plan: Plan) -> list[int]:
    """Channels that every group keeps, before rounding.

    scope "layer": round(n * (1 - ratio)), at least 1. scope "global": the round(total * ratio) lowest scores of all
    go, except that every group keeps the share `floor` of its channels, rounded up, and at least 1.
    """
    sizes = [len(s) for s in scores]
    if plan.scope == "layer":
        return [max(1, round(n * (1 - plan.ratio))) for n in sizes]
    lowest = [max(1, math.ceil(plan.floor * n - 1e-9)) for n in sizes]
    owner = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
    kept, to_go = list(sizes), round(sum(sizes) * plan.ratio)
    for index in torch.cat(list(scores)).argsort(stable=True).tolist():
        group = int(owner[index])
        if to_go and kept[group] > lowest[group]:
            kept[group] -= 1
            to_go -= 1
    return kept


def rounded(keep: int, n: int, multiple: int) -> int:
    """The multiple nearest to `keep` (down at ties) that n channels can hold, at least one; n < multiple stays whole.

    >>> rounded(11, 16, 16), rounded(45, 64, 16), rounded(5, 12, 8), rounded(5, 6, 8)
    (16, 48, 8, 6)
    """
    if keep == n or n < multiple:
        return n
    nearest = math.ceil(keep / multiple - 0.5) * multiple
    return min(max(nearest, multiple), n // multiple * multiple)


def removed(scores: Tensor, keep: int, parts: int = 1) -> list[int]:
    """Indices of the channels that go: the lowest scores, the first at ties, at the same places in all parts."""
    n = len(scores)
    lowest = scores.argsort(stable=True)[: n - keep].sort().values.tolist()
    return [part * n + index for part in range(parts) for index in lowest]


def importance(group: Any, criterion: Criterion) -> Tensor | None:
    """One score a channel of a torch-pruning group; norms are averaged over members and scaled to mean 1."""
    if criterion == "random":
        return torch.rand(len(group[0].idxs))
    found = tp.importance.MagnitudeImportance(p=1 if criterion == "l1" else 2)(group)
    return None if found is None else torch.nan_to_num(found)  # 0 / 0 where all members are zero


# --- the cut


def prune(model: nn.Module, sample: Tensor, plan: Plan) -> tuple[nn.Module, list[str]]:
    """A copy of `model` (of our layers) without the least important channels, and notes on what stays whole and why.

    The cut is planned and made on a plain shadow, replayed on the copy, and believed only when a forward pass of
    `sample` (n, ...) runs and the copy's effective weights equal the shadow's. Errors: Refused, naming the layer.
    """
    real, shadow = copy.deepcopy(model), layers.plain(model)
    with torch.enable_grad():  # groups are read from the autograd graph
        graph = dependencies(shadow, sample)
        groups, notes = coupled(graph, real, plan)
        keeps = kept_counts([g.scores for g in groups], plan) if groups else []
        for group, keep in zip(groups, keeps, strict=True):
            n = len(group.scores)
            multiple = plan.round_to // math.gcd(plan.round_to, group.parts)
            indices = removed(group.scores, rounded(keep, n, multiple), group.parts)
            if indices:
                _cut(graph, group, indices, real)
    _verify(real, shadow, sample)
    return real, notes


def dependencies(shadow: nn.Module, sample: Tensor) -> tp.DependencyGraph:
    """torch-pruning's graph of a plain model. Errors: Refused when the model cannot be traced."""
    shadow.requires_grad_(True)
    try:
        return tp.DependencyGraph().build_dependency(shadow, example_inputs=(sample,), verbose=False)
    except Exception as e:  # whatever the user's forward or the tracer raises
        raise Refused(f"channels cannot be followed through this model: {_line(e)}; leave channel pruning out") from e


def coupled(graph: tp.DependencyGraph, real: nn.Module, plan: Plan) -> tuple[list[Coupled], list[str]]:
    """All groups that may be cut, in the graph's order, and notes that name the others."""
    found: list[Coupled] = []
    notes: dict[str, list[str]] = {}
    for group in _groups(graph):
        reason = _reason_to_stay(graph, group, real, plan)
        scores = None if reason else importance(group, plan.criterion)
        if scores is None:
            notes.setdefault(reason or "no weights to rank", []).extend(_producers(graph, group))
            continue
        parts = max(_parts(graph, group))
        scores = scores.detach().cpu().view(parts, -1).mean(0)
        if plan.round_to > 1 and len(scores) * parts < plan.round_to:
            notes.setdefault(f"narrower than {plan.round_to} channels", []).extend(_producers(graph, group))
        found.append(Coupled(group[0].dep.target.module, group[0].dep.handler, scores, parts))
    return found, [f"left whole, {reason}: {', '.join(sorted(names))}" for reason, names in notes.items()]


def _groups(graph: tp.DependencyGraph) -> Iterator[Any]:
    """One torch-pruning group, all its channels, for every layer that makes channels of its own.

    Its own `get_all_groups` also starts at depthwise convolutions, which after a concatenation rank several layers as
    one and can empty one of them. Here the narrowest layer of a group comes first, so that no other is narrower.
    """
    seen: set[nn.Module] = set()
    makers: list[Any] = [n.module for n in graph.module2node.values() if n.type in (OPTYPE.CONV, OPTYPE.LINEAR)]
    for maker in sorted(makers, key=lambda m: len(m.weight)):
        if maker in seen:
            continue
        pruner: Any = graph.get_pruner_of_module(maker)
        group = graph.get_pruning_group(maker, pruner.prune_out_channels, list(range(len(maker.weight))))
        seen.update(dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler))
        yield group


def _producers(graph: tp.DependencyGraph, group: Any) -> list[str]:
    """Paths of the layers whose output channels the group holds."""
    out = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
    return [_path(graph, node) for node in out if isinstance(node.module, nn.Conv2d | nn.Linear)]


def _reason_to_stay(graph: tp.DependencyGraph, group: Any, real: nn.Module, plan: Plan) -> str:
    """Why no channel of this group may go, or nothing."""
    for dep, indices in group:
        node, is_output = dep.target, graph.is_out_channel_pruning_fn(dep.handler)
        if is_output and not node.outputs:
            return "the model's output"
        if node.type in PASSING:
            if node.type == OPTYPE.ELEMENTWISE and any(a in str(node.module).lower() for a in ATTENTION):
                return "attention heads"
            continue
        path, width = _path(graph, node), (graph.get_out_channels if is_output else graph.get_in_channels)(node)
        member = _member(real, path)
        if not _cuttable(member):
            return f"coupled with a {type(member).__name__} that cannot be cut"
        if _multiplies(member):
            return "depthwise with a channel multiplier"
        if is_output and any(path == name or path.startswith(f"{name}.") for name in plan.whole):
            return "as asked"
        grouped = isinstance(member, layers.Conv2d) and node.type == OPTYPE.CONV and member.groups > 1
        if width is None or max(indices) >= width or (grouped and len(indices) < width):
            return f"its channels do not fit those of {path}"
    parts = _parts(graph, group)
    return "groups of different sizes" if any(max(parts) % p for p in parts) else ""


def _cuttable(member: Any) -> bool:
    """Whether a replay can cut it: a spec describes these layers, a bare parameter takes its stored shape."""
    if isinstance(member, layers.BatchNorm2d):
        return member.affine and member.track_running_stats
    if isinstance(member, layers.LayerNorm):
        return member.elementwise_affine and len(member.normalized_shape) == 1
    return isinstance(member, layers.Conv2d | layers.Linear | nn.Parameter)


def _multiplies(member: Any) -> bool:
    """torch-pruning takes groups == out_channels for depthwise, whatever the input is."""
    if not isinstance(member, layers.Conv2d) or member.groups == 1:
        return False
    return member.groups in (member.in_channels, member.out_channels) and member.in_channels != member.out_channels


def _parts(graph: tp.DependencyGraph, group: Any) -> list[int]:
    """Channel groups of the grouped (not depthwise) convolutions among the members; [1] when there are none."""
    members = {dep.target.module for dep, _ in group if dep.target.type == OPTYPE.CONV}
    return [1, *(m.groups for m in members)]


def _cut(graph: tp.DependencyGraph, coupling: Coupled, indices: list[int], real: nn.Module) -> None:
    """Remove the channels from the shadow and replay it on the real model, member by member."""
    group = graph.get_pruning_group(coupling.root, coupling.cut, indices)
    normed = []
    for dep, gone in group:
        if dep.target.type in PASSING:
            continue
        path, is_output = _path(graph, dep.target), graph.is_out_channel_pruning_fn(dep.handler)
        keep = _take(real, path, set(gone), 0 if is_output else 1, dep.target.pruning_dim)
        if dep.target.type == OPTYPE.LN:
            normed.append((dep.target.module, copy.deepcopy(dep.target.module), keep))
    group.prune()
    for norm, before, keep in normed:  # torch-pruning 1.6 keeps a layer norm's weights in the order of a set
        for name, value in before.named_parameters():
            setattr(norm, name, nn.Parameter(value.detach()[keep]))


def _take(real: nn.Module, path: str, gone: set[int], axis: int, dim: int) -> Tensor:
    """Cut one member of the real model: a weight along `axis`, a norm, a bare parameter along `dim`."""
    member = _member(real, path)
    if isinstance(member, layers.Conv2d | layers.Linear):
        keep = _others(member.weight, axis, gone)  # for inputs of a grouped convolution: of its first group
        member.take(**{"out" if axis == 0 else "inn": keep})
        return keep
    if isinstance(member, nn.Parameter):
        parent, _, name = path.rpartition(".")
        keep = _others(member, dim, gone)
        setattr(real.get_submodule(parent), name, nn.Parameter(member.detach().index_select(dim, keep)))
        return keep
    assert isinstance(member, layers.BatchNorm2d | layers.LayerNorm)
    keep = _others(member.weight, 0, gone)
    for name, value in member.named_parameters(recurse=False):
        setattr(member, name, nn.Parameter(value.detach()[keep], value.requires_grad))
    if isinstance(member, layers.LayerNorm):
        member.normalized_shape = (len(keep),)
    else:
        member.num_features = len(keep)
        for name in ("running_mean", "running_var"):
            setattr(member, name, getattr(member, name)[keep])
    return keep


def _others(value: Tensor, dim: int, gone: set[int]) -> Tensor:
    return torch.tensor([i for i in range(value.shape[dim]) if i not in gone], device=value.device)


def _verify(real: nn.Module, shadow: nn.Module, sample: Tensor) -> None:
    failure = failing_layer(real, sample)
    if failure:
        raise Refused(f"the model does not run after its channels were cut: {failure}; name that layer in `whole`")
    expected = shadow.state_dict()
    for name, value in layers.plain(real).state_dict().items():
        other = expected[name]
        if value.shape != other.shape or not torch.allclose(value, other, rtol=0, atol=0, equal_nan=True):
            raise Refused(f"cutting channels went wrong at '{name}'; name its layer in `whole`")


def _member(real: nn.Module, path: str) -> Any:
    """The layer or bare parameter at a path."""
    parent, _, name = path.rpartition(".")
    return getattr(real.get_submodule(parent), name)


def _path(graph: tp.DependencyGraph, node: Any) -> str:
    if node.type == OPTYPE.PARAMETER:
        return graph._param_to_name[node.module]
    return graph._module2name.get(node.module, "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def widths(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Path and output channels of every convolution and linear layer."""
    for path, layer in layers.weighted(model).items():
        yield path, layer.weight.shape[0]

"""Channels leave, or change places, in every tensor that holds them; believed only when torch-pruning's own cut of a
plain shadow gives the same weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch_pruning as tp
from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.ops import layers
from lessen.ops.channel_groups import Coupled, member
from lessen.ops.graph import failing_layer

Gone = Sequence[Sequence[int]]  # for every group the units that leave


def without(model: nn.Module, groups: Sequence[Coupled], gone: Gone) -> nn.Module:
    """A copy of `model` (of our layers) that lacks these units."""
    small = copy.deepcopy(model)
    for (path, dim), leave in _leaving(groups, gone).items():
        width = _width(small, path, dim)  # of the inputs of a grouped convolution: of its first group
        _take(small, path, dim, torch.tensor([i for i in range(width) if i not in leave]))
    return small


def remaining(groups: Sequence[Coupled], gone: Gone) -> list[Coupled]:
    """The groups as they stand in the model without these units, numbered anew."""
    leaving = _leaving(groups, gone)
    found = []
    for group, units in zip(groups, gone, strict=True):
        lost = set(units)
        stay = torch.tensor([unit for unit in range(group.n) if unit not in lost], dtype=torch.long)
        members = []
        for m in group.members:
            alive = torch.isin(m.unit, stay)
            left = torch.tensor(sorted(leaving.get((m.path, m.dim), ())), dtype=torch.long)
            at, unit = m.at[alive], torch.searchsorted(stay, m.unit[alive])
            members.append(m._replace(at=at - torch.searchsorted(left, at), unit=unit))
        found.append(replace(group, n=len(stay), members=tuple(members)))
    return found


def _leaving(groups: Sequence[Coupled], gone: Gone) -> dict[tuple[str, int], set[int]]:
    """For every path and axis that loses any, the entries that go."""
    entries: dict[tuple[str, int], set[int]] = {}
    for group, units in zip(groups, gone, strict=True):
        leaving = torch.tensor(list(units), dtype=torch.long)
        for m in group.members if len(units) else ():
            entries.setdefault((m.path, m.dim), set()).update(m.at[torch.isin(m.unit, leaving)].tolist())
    return entries


def permute(model: nn.Module, group: Coupled, order: Tensor) -> None:
    """Put the group's units in this order (n,), in place, in producers and readers alike: the outputs stay."""
    for m in group.members:
        width = _width(model, m.path, m.dim)
        index = torch.arange(width)
        places: list[list[int]] = [[] for _ in range(group.n)]
        for at, unit in zip(m.at.tolist(), m.unit.tolist(), strict=True):
            if at < width:
                places[unit].append(at)
        for place, unit in enumerate(order.tolist()):
            index[places[place]] = torch.tensor(places[unit], dtype=torch.long)
        _take(model, m.path, m.dim, index)


def _width(model: nn.Module, path: str, dim: int) -> int:
    found = member(model, path)
    return found.shape[dim] if isinstance(found, nn.Parameter) else found.weight.shape[dim]


def _take(model: nn.Module, path: str, dim: int, index: Tensor) -> None:
    """Entries `index` along `dim` of one member: a weight, a norm, or a bare parameter."""
    found = member(model, path)
    if isinstance(found, nn.Parameter):
        parent, _, name = path.rpartition(".")
        value = found.detach().index_select(dim, index.to(found.device))
        setattr(model.get_submodule(parent), name, nn.Parameter(value, found.requires_grad))
        return
    index = index.to(found.weight.device)
    if isinstance(found, layers.Conv2d | layers.Linear):
        found.take(**{"out" if dim == 0 else "inn": index})
        return
    assert isinstance(found, layers.BatchNorm2d | layers.LayerNorm)
    for name, value in found.named_parameters(recurse=False):
        setattr(found, name, nn.Parameter(value.detach()[index], value.requires_grad))
    if isinstance(found, layers.LayerNorm):
        found.normalized_shape = (len(index),)
    else:
        found.num_features = len(index)
        for name in ("running_mean", "running_var"):
            setattr(found, name, getattr(found, name)[index])


def verify(
    small: nn.Module,
    shadow: nn.Module,
    graph: tp.DependencyGraph,
    groups: Sequence[Coupled],
    gone: Gone,
    sample: Tensor,
) -> None:
    """Errors: Refused, naming the layer, unless `small` runs and equals the shadow as torch-pruning cuts it."""
    failure = failing_layer(small, sample)
    if failure:
        raise Refused(f"the model does not run after its channels were cut: {failure}; name that layer in `whole`")
    with torch.enable_grad():
        for group, units in zip(groups, gone, strict=True):
            if len(units):
                _cut_shadow(shadow, graph, group, list(units))
    expected = shadow.state_dict()
    for name, value in layers.plain(small).state_dict().items():
        other = expected[name]
        if value.shape != other.shape or not torch.allclose(value, other, rtol=0, atol=0, equal_nan=True):
            raise Refused(f"cutting channels went wrong at '{name}'; name its layer in `whole`")


def _cut_shadow(shadow: nn.Module, graph: tp.DependencyGraph, group: Coupled, units: list[int]) -> None:
    indices = group.channels(units)
    if group.root is None:
        for m in group.members:
            prune = tp.prune_linear_out_channels if m.role == "out" else tp.prune_linear_in_channels
            prune(shadow.get_submodule(m.path), indices)
        return
    found = graph.get_pruning_group(group.root, group.cut, indices)
    normed = [(dep.target.module, copy.deepcopy(dep.target.module), set(gone)) for dep, gone in found
              if isinstance(dep.target.module, nn.LayerNorm)]  # fmt: skip
    found.prune()
    for norm, before, leave in normed:  # torch-pruning 1.6 keeps a layer norm's weights in the order of a set
        keep = [i for i in range(len(before.weight)) if i not in leave]
        for name, value in before.named_parameters():
            setattr(norm, name, nn.Parameter(value.detach()[keep]))

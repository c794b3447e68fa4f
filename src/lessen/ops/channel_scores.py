"""How much is a channel worth? A number for every unit of a group, from weights, gradients or activations.

Each tensor that holds the channel scores it, and the mean over these tensors counts (Fang et al. 2023,
arXiv:2301.12900); a group's scores are scaled to mean 1, so that groups can be ranked together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lessen.ops.channel_groups import Coupled, Member, member
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, watching

Criterion = Literal["l1", "l2", "gradient", "taylor", "activation", "bn_scale", "random"]
NEED_DATA = ("gradient", "taylor", "activation")  # criteria that look at samples
Local = Callable[[Member], Tensor | None]  # a number for every entry along the member's dim, or no opinion


class Data(NamedTuple):
    """Calibration samples: model inputs x (n, ...), targets y (n, ...), and the scalar to minimize."""

    x: Tensor
    y: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    batch: int = 128

    def batches(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(self.x.split(self.batch), self.y.split(self.batch), strict=True):
            yield x.to(device), y.to(device)


def scores(
    shadow: nn.Module, groups: Sequence[Coupled], criterion: Criterion, data: Data | None
) -> list[Tensor | None]:
    """Scores (n,) for every group of a plain model, mean 1; None for a group that the criterion cannot rank.

    l1, l2: sum of |w|^p. gradient: sum of |w dL/dw|. taylor: |sum of w dL/dw| (Molchanov et al. 2019,
    arXiv:1906.10771). Both are averaged over batches. activation: mean |x| that the layers behind read.
    bn_scale: |gamma| of the batch norms (Liu et al. 2017, arXiv:1708.06519).
    """
    if criterion == "random":
        return [torch.rand(group.n) for group in groups]
    if criterion in ("gradient", "taylor"):
        assert data is not None
        found = _by_gradient(shadow, groups, signed=criterion == "taylor", data=data)
    elif criterion == "activation":
        assert data is not None
        seen = activations(shadow, [m.path for g in groups for m in g.members if m.role == "in"], data)
        found = [pooled(g, lambda m: seen.get(m.path) if m.role == "in" else None) for g in groups]
    elif criterion == "bn_scale":
        found = [pooled(g, lambda m: _bn_scale(shadow, m)) for g in groups]
    else:
        power = 1 if criterion == "l1" else 2
        found = [pooled(g, lambda m: _norm(shadow, m, power)) for g in groups]
    return [None if s is None else torch.nan_to_num(s / s.mean()) for s in found]  # 0 / 0 where all weights are zero


def pooled(group: Coupled, local: Local) -> Tensor | None:
    """Mean over members of each unit's sum, per channel; None where no member has an opinion."""
    total, opinions = torch.zeros(group.n, dtype=torch.double), 0
    for m in group.members:
        values = local(m)
        if values is not None:
            total.index_add_(0, m.unit, values.detach().cpu().double()[m.at])
            opinions += 1
    return total / opinions / group.span if opinions else None


def entries(layer: Any, role: str, value: Tensor) -> Tensor:
    """A tensor shaped like the layer's weight as rows, one for every output or input channel."""
    if role == "out":
        return value.flatten(1)
    rows = value.transpose(0, 1).flatten(1)
    return rows.repeat(layer.groups, 1) if isinstance(layer, nn.Conv2d) else rows  # every group has its own inputs


def _norm(shadow: nn.Module, m: Member, power: int) -> Tensor | None:
    if m.role in ("depthwise", "bare"):
        return None
    layer = member(shadow, m.path)
    if m.role == "norm":
        return layer.weight.abs() ** power
    return entries(layer, m.role, layer.weight.abs() ** power).sum(1)


def _bn_scale(shadow: nn.Module, m: Member) -> Tensor | None:
    layer = member(shadow, m.path) if m.role == "norm" else None
    return layer.weight.abs() if isinstance(layer, nn.BatchNorm2d) else None


def _gradient(shadow: nn.Module, m: Member, signed: bool) -> Tensor | None:
    """As torch-pruning has it, without batch norms: the convolution in front of one says the same already."""
    layer = None if m.role in ("depthwise", "bare") else member(shadow, m.path)
    if layer is None or isinstance(layer, nn.BatchNorm2d) or layer.weight.grad is None:
        return None
    product = layer.weight * layer.weight.grad
    if m.role == "norm":
        return product.abs()
    rows = entries(layer, m.role, product)
    return rows.sum(1).abs() if signed else rows.abs().sum(1)


def _by_gradient(shadow: nn.Module, groups: Sequence[Coupled], *, signed: bool, data: Data) -> list[Tensor | None]:
    totals: list[Tensor | None] = [None] * len(groups)
    with evaluating(shadow), torch.enable_grad():
        for x, y in data.batches(next(shadow.parameters()).device):
            shadow.zero_grad()
            data.loss(shadow(x), y).backward()
            for i, group in enumerate(groups):
                found = pooled(group, lambda m: _gradient(shadow, m, signed))
                if found is not None:
                    before = totals[i]
                    totals[i] = found if before is None else before + found
    shadow.zero_grad()
    return totals


def activations(shadow: nn.Module, paths: Sequence[str], data: Data) -> dict[str, Tensor]:
    """Mean |x| of every input channel of these layers, over samples and positions."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(place: Place, arguments: tuple[Tensor, ...]) -> None:
        path, axis = place[1], 1 if isinstance(shadow.get_submodule(place[1]), nn.Conv2d) else -1
        x = arguments[0].detach().abs().movedim(axis, 0).flatten(1)
        sums[path] = sums.get(path, 0) + x.double().sum(1)
        counts[path] = counts.get(path, 0) + x.shape[1]

    with watching(shadow, [("in", path) for path in paths], add), evaluating(shadow), torch.no_grad():
        for x, _ in data.batches(next(shadow.parameters()).device):
            shadow(x)
    return {path: value / counts[path] for path, value in sums.items()}

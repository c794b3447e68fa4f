"""Which weights live: masks that keep the largest magnitudes, with exact counts (Han et al. 2015, arXiv:1506.02626).

Weights pruned before have a negative magnitude: they go first, so pruning again only adds zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lessen.ops import layers

PRUNED = -1.0  # below every magnitude


def zero_count(n: int, sparsity: float, pruned: int = 0) -> int:
    """How many of n weights are zero at this sparsity; never fewer than are pruned already.

    >>> zero_count(10, 0.35), zero_count(10, 0.2, pruned=5)
    (4, 5)
    """
    return max(round(n * sparsity), pruned)


def largest(first: Tensor, zeros: int, second: Tensor | None = None) -> Tensor:
    """Boolean mask (n,) with exactly `zeros` False: keeps what lies strictly above the kth smallest of `first`.

    Of those equal to the kth, the ones with the smaller `second` go first, then those that come first.

    >>> largest(torch.tensor([3.0, 1.0, 2.0, 1.0]), 2).tolist()
    [True, False, True, False]
    """
    if zeros == 0:
        return torch.ones_like(first, dtype=torch.bool)
    kth = first.kthvalue(zeros).values
    keep = first > kth
    ties = (first == kth).nonzero().flatten()
    if second is not None:
        ties = ties[second[ties].argsort(stable=True)]
    surviving = len(first) - zeros - int(keep.sum())
    keep[ties[len(ties) - surviving :]] = True
    return keep


def layer_masks(weights: Mapping[str, layers.Conv2d | layers.Linear], sparsity: float) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight, every layer ranked by itself."""
    masks = {}
    for path, layer in weights.items():
        first, second = magnitudes(layer)
        masks[path] = largest(first, zero_count(len(first), sparsity, _pruned(first)), second).view_as(layer.weight)
    return masks


def global_masks(
    weights: Mapping[str, layers.Conv2d | layers.Linear], sparsity: float, floor: float = 0.0
) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight, all layers ranked together.

    Every layer keeps at least the share `floor` of its weights, rounded down, or what earlier pruning left of them;
    the count over all layers is exact whenever floor <= 1 - sparsity.
    """
    pairs = [magnitudes(layer) for layer in weights.values()]
    protected = [torch.where(_top(first, int(floor * len(first))), torch.inf, first) for first, _ in pairs]
    first, second = torch.cat(protected), torch.cat([s for _, s in pairs])
    keep = largest(first, zero_count(len(first), sparsity, _pruned(first)), second)
    parts = keep.split([len(f) for f, _ in pairs])
    return {path: part.view_as(weights[path].weight) for path, part in zip(weights, parts, strict=True)}


def magnitudes(layer: layers.Conv2d | layers.Linear) -> tuple[Tensor, Tensor]:
    """Flat |effective weight|, `PRUNED` where masked, and flat |weight|, which ranks equal quantized values."""
    effective, weight = layer.effective_weight().detach().abs(), layer.weight.detach().abs()
    if layer.mask is not None:
        effective = torch.where(layer.mask, effective, torch.full_like(effective, PRUNED))
    return effective.flatten(), weight.flatten()


def _top(first: Tensor, count: int) -> Tensor:
    """The `count` largest living weights, or all that live."""
    return largest(first, len(first) - count) & (first >= 0)


def _pruned(first: Tensor) -> int:
    return int((first < 0).sum())

"""Which weights live: masks that keep the highest scores, with exact counts (Han et al. 2015, arXiv:1506.02626).

Scores are `saliency.Score`s, magnitudes where none are given. Pruned weights have a negative one: they go first, so
pruning again only adds zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.ops import layers, ties
from lessen.ops.saliency import Score, magnitudes

Weights = Mapping[str, layers.Conv2d | layers.Linear]
Ramp = Literal["one-shot", "gradual", "polynomial", "constant"]


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


def layer_masks(weights: Weights, sparsity: float, scores: Mapping[str, Score] | None = None) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight, every layer ranked by itself."""
    masks = {}
    for path, layer in weights.items():
        first, second = _score(path, layer, scores)
        masks[path] = largest(first, zero_count(len(first), sparsity, _pruned(first)), second).view_as(layer.weight)
    return masks


def global_masks(
    weights: Weights, sparsity: float, floor: float = 0.0, scores: Mapping[str, Score] | None = None
) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight, all layers ranked together.

    Every layer keeps at least the share `floor` of its weights, rounded down, or what earlier pruning left of them;
    the count over all layers is exact whenever floor <= 1 - sparsity. Where the count allows it, a floor above zero
    keeps one weight of the smallest layers too.
    """
    if not weights:
        return {}
    pairs = [_score(path, layer, scores) for path, layer in weights.items()]
    protected = [_protected(first, second, floor) for first, second in pairs]
    first, second = torch.cat(protected), torch.cat([s for _, s in pairs])
    keep = largest(first, zero_count(len(first), sparsity, _pruned(first)), second)
    parts = keep.split([len(f) for f, _ in pairs])
    return {path: part.view_as(weights[path].weight) for path, part in zip(weights, parts, strict=True)}


def threshold_masks(
    weights: Weights, threshold: float, floor: float = 0.0, scores: Mapping[str, Score] | None = None
) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight: what scores strictly above `threshold`, and each layer's floor, lives."""
    masks = {}
    for path, layer in weights.items():
        first, second = _score(path, layer, scores)
        masks[path] = (_protected(first, second, floor) > threshold).view_as(layer.weight)
    return masks


def group_masks(weights: Weights, n: int, m: int, scores: Mapping[str, Score] | None = None) -> dict[str, Tensor]:
    """Path -> mask shaped like the weight: at most n of m consecutive weights of an output live.

    An output's weights are taken in the order (kh, kw, in), channels innermost, as sparse tensor cores reduce over
    them: where m divides the input channels, a group is m neighbouring channels at one position of the kernel. A last,
    shorter group keeps at most n as well. Mishra et al. 2021, arXiv:2104.08378.
    """
    masks = {}
    for path, layer in weights.items():
        first, second = (_reduced(s.view_as(layer.weight)) for s in _score(path, layer, scores))
        rows, k = first.shape
        short = -k % m
        first, second = (torch.nn.functional.pad(s, (0, short), value=-2.0).view(rows, -1, m) for s in (first, second))
        order = second.argsort(dim=-1, stable=True)
        order = order.gather(
            -1, first.gather(-1, order).argsort(dim=-1, stable=True)
        )  # ascending; first come, first gone
        keep = torch.zeros_like(first, dtype=torch.bool).scatter_(-1, order[..., m - n :], True) & (first >= 0)
        masks[path] = _unreduced(keep.view(rows, -1)[:, :k], layer.weight)
    return masks


@dataclass(frozen=True)
class Goal:
    """What is to be zero: a share of all weights together or of every layer, or all up to a threshold.

    layers: (path, sparsity) of those that have a share of their own and stand outside the ranking of the others.
    """

    sparsity: float = 0.0
    threshold: float = 0.0  # decides where sparsity is 0
    scope: Literal["global", "layer"] = "global"
    floor: float = 0.0
    layers: tuple[tuple[str, float], ...] = ()

    def masks(
        self, weights: Weights, scores: Mapping[str, Score] | None, done: float = 1.0, start: Mapping[str, int] = {}
    ) -> dict[str, Tensor]:
        """Path -> mask, when the share `done` of the way is gone from `start`, the zeros of each layer, to the goal."""
        own = dict(self.layers)
        rest = {path: layer for path, layer in weights.items() if path not in own}
        masks: dict[str, Tensor] = {}
        if self.threshold and not self.sparsity:
            masks.update(threshold_masks(rest, self.threshold * done, self.floor, scores))
        elif self.scope == "global":
            masks.update(global_masks(rest, _risen(_share(rest, start), self.sparsity, done), self.floor, scores))
        else:
            own.update(dict.fromkeys(rest, self.sparsity))
        for path, share in own.items():
            one = {path: weights[path]}
            masks.update(layer_masks(one, _risen(_share(one, start), share, done), scores))
        return {path: masks[path] for path in weights}


def updates(ramp: Ramp, steps: int, rounds: int, begin: float, end: float) -> dict[int, float]:
    """Optimizer step -> share of the way to the goal that is gone behind it; step 0 is before all training.

    From `begin` to `end`, shares of the run, sparsity rises in `rounds` equal steps (gradual), or by
    s_t = s_f + (s_i - s_f) (1 - t / n)^3 (polynomial: Zhu & Gupta 2017, arXiv:1710.01878). Constant is all of it at
    `begin`, one-shot all of it before.

    >>> updates("polynomial", 100, 2, 0.0, 0.5)
    {25: 0.875, 50: 1.0}
    """
    if ramp in ("one-shot", "constant"):
        return {0 if ramp == "one-shot" else round(begin * steps): 1.0}
    power = 3 if ramp == "polynomial" else 1
    times = (begin + (end - begin) * i / rounds for i in range(1, rounds + 1))
    return {round(t * steps): 1 - (1 - i / rounds) ** power for i, t in enumerate(times, 1)}


def install(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the masks of these paths, but for masks of ones, which would only cost bytes; tied layers get the same."""
    weighted = layers.weighted(model)
    tied = {first: others for first, *others in ties.tied_layers(model)}
    for path, mask in masks.items():
        for twin in (path, *tied.get(path, ())) if not mask.all() else ():
            weighted[twin].set_mask(mask)


def left_dense(model: nn.Module) -> list[str]:
    """For a record, that some modules with weights take no mask; empty where all do."""
    found = layers.left_alone(model)
    return [f"left dense, they take no mask: {', '.join(found)}"] if found else []


def zeros(weights: Weights) -> dict[str, int]:
    """Path -> how many of its weights a mask holds at zero."""
    return {path: 0 if w.mask is None else int((~w.mask).sum()) for path, w in weights.items()}


def account(weights: Weights) -> dict[str, Any]:
    """For a record: sparsity by layer and by kind of layer, and the counts."""
    none = zeros(weights)
    kinds: dict[str, tuple[int, int]] = {}
    for path, layer in weights.items():
        gone, n = kinds.get(kind(layer), (0, 0))
        kinds[kind(layer)] = gone + none[path], n + layer.weight.numel()
    return {
        "sparsity": {path: none[path] / layer.weight.numel() for path, layer in weights.items()},
        "sparsity_by_kind": {name: gone / n for name, (gone, n) in kinds.items()},
        "zeros": sum(none.values()),
        "weights": sum(layer.weight.numel() for layer in weights.values()),
    }


def kind(layer: layers.Conv2d | layers.Linear) -> str:
    """The sort of layer: Linear, Conv2d, and of the latter depthwise, grouped, 1x1."""
    if isinstance(layer, layers.Linear):
        return "Linear"
    if layer.groups > 1:
        return "Conv2d depthwise" if layer.weight.shape[1] == 1 else "Conv2d grouped"
    return "Conv2d 1x1" if layer.weight[0, 0].numel() == 1 else "Conv2d"


def _score(path: str, layer: layers.Conv2d | layers.Linear, scores: Mapping[str, Score] | None) -> Score:
    return magnitudes(layer) if scores is None else scores[path]


def _protected(first: Tensor, second: Tensor, floor: float) -> Tensor:
    """`first` with the floor's share raised above everything, and the single best, if there is a floor, next to it."""
    if floor > 0:
        best = _top(first, second, 1)
        first = torch.where(best, torch.finfo(first.dtype).max, first)
    return torch.where(_top(first, second, int(floor * len(first))), torch.inf, first)


def _top(first: Tensor, second: Tensor, count: int) -> Tensor:
    """The `count` highest living weights, or all that live."""
    return largest(first, len(first) - count, second) & (first >= 0)


def _pruned(first: Tensor) -> int:
    return int((first < 0).sum())


def _share(weights: Weights, start: Mapping[str, int]) -> float:
    return sum(start.get(path, 0) for path in weights) / max(1, sum(w.weight.numel() for w in weights.values()))


def _risen(start: float, final: float, done: float) -> float:
    return final + (start - final) * (1 - done)


def _reduced(value: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (out, kh * kw * in); (out, in) stays."""
    return (value.permute(0, 2, 3, 1) if value.dim() == 4 else value).flatten(1)


def _unreduced(value: Tensor, weight: Tensor) -> Tensor:
    """The way back to the weight's shape."""
    if weight.dim() == 2:
        return value
    out, inn, kh, kw = weight.shape
    return value.view(out, kh, kw, inn).permute(0, 3, 1, 2).contiguous()


def refuse_signs(weights: Weights, name: str) -> None:
    """Errors: Refused where a layer without a mask has 1-bit weights: its zeros would take more bits than it has."""
    for path, layer in weights.items():
        if layer.mask is None and layer.wq is not None and layer.wq.bits == 1:
            raise Refused(
                f"{name} cannot follow 1-bit weights ('{path}') because a zero beside the signs takes a second bit, so "
                f"the file would grow; do {name} first"
            )

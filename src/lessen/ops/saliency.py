"""How much a weight matters, one score each: its size, its size times its gradient, or chance.

Size: Han et al. 2015, arXiv:1506.02626. |w * dL/dw|, the change of the loss to first order when w goes: Molchanov et
al. 2017, arXiv:1611.06440. Chance is the control that every other must beat. Pruned weights have a negative score:
they go first, so pruning again only adds zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from lessen.core.task import Task
from lessen.ops import layers
from lessen.ops.modes import evaluating
from lessen.ops.training_plan import mix_seeds

Criterion = Literal["magnitude", "gradient", "random"]
Score = tuple[Tensor, Tensor]  # flat: what is ranked, and what ranks those that are equal in it

PRUNED = -1.0  # below every score
SALT = 0x5EED  # a model is initialized from the same seed: its first weights must not be the "random" scores


def scores(model: nn.Module, criterion: Criterion, task: Task, seed: int) -> dict[str, Score]:
    """Path -> score of every weight of our own layers, `PRUNED` where masked.

    `seed` decides the random scores alone: they are the same whenever a model's weights are scored under one seed.
    """
    weights = layers.weighted(model)
    sized = {path: magnitudes(layer) for path, layer in weights.items()}
    if criterion == "magnitude":
        return sized
    if criterion == "gradient":
        found = {path: g.flatten().abs() * sized[path][0] for path, g in gradients(model, task).items()}
    else:
        chance = torch.Generator().manual_seed(mix_seeds(seed, SALT))
        found = {path: torch.rand(w.weight.numel(), generator=chance) for path, w in weights.items()}
    return {path: (_pruned_first(found[path], size), size_too) for path, (size, size_too) in sized.items()}


def magnitudes(layer: layers.Conv2d | layers.Linear) -> Score:
    """Flat |effective weight|, `PRUNED` where masked, and flat |weight|, which ranks equal quantized values.

    >>> layer = layers.Linear(2, 1)
    >>> layer.weight.data = torch.tensor([[3.0, -4.0]])
    >>> magnitudes(layer)[0].tolist()
    [3.0, 4.0]
    """
    effective, weight = layer.effective_weight().detach().abs(), layer.weight.detach().abs()
    if layer.mask is not None:
        effective = torch.where(layer.mask, effective, torch.full_like(effective, PRUNED))
    return effective.flatten(), weight.flatten()


def gradients(model: nn.Module, task: Task) -> Mapping[str, Tensor]:
    """Path -> gradient of the mean loss over the calibration split, shaped like the weight; the model stays as it is.

    In evaluation mode and without augmentation, so nothing is drawn. A frozen weight has one as well.
    """
    copy = task.copy(model)
    weights = layers.weighted(copy)
    copy.requires_grad_(False)
    for layer in weights.values():
        layer.weight.requires_grad_(True)
    split, device = task.split("calibration"), next(copy.parameters()).device
    with evaluating(copy), torch.enable_grad():
        for x, y in zip(split.x.to(device).split(128), split.y.to(device).split(128), strict=True):
            (task.loss(copy(task.inputs(x)), y) * (len(y) / len(split))).backward()
    zero = torch.zeros(())
    return {p: zero.expand_as(w.weight) if w.weight.grad is None else w.weight.grad for p, w in weights.items()}


def _pruned_first(score: Tensor, size: Tensor) -> Tensor:
    score = score.to(size.device)
    return torch.where(size < 0, torch.full_like(score, PRUNED), score)

"""Does every channel keep its place between the layers of its group? torch-pruning follows shapes alone, so it takes
what stands behind a channel shuffle, a flip or a permute before a flatten for channels that it is not.

The oracle: where places are kept, a net whose producers and readers have their units in another order answers as
before. Unlike a channel set to zero, that holds behind any activation, norm or mean over channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessen.ops import layers
from lessen.ops.channel_cuts import permute
from lessen.ops.channel_groups import Coupled
from lessen.ops.modes import evaluating


def misplaced(shadow: nn.Module, groups: Sequence[Coupled], sample: Tensor) -> list[str]:
    """Paths of the groups whose channels change their order on the way, in a plain model of inputs (n, ...).

    Two forward passes where none does; otherwise one more a group, to find which.
    """
    base, sample, expected = _precise(shadow, sample)
    allowed = torch.finfo(expected.dtype).eps ** 0.5 * expected.nan_to_num(0, 0, 0).abs().max().item()

    def differs(some: Sequence[Coupled]) -> bool:
        other = copy.deepcopy(base)
        for group in some:
            permute(other, group, turned(group))
        return not torch.allclose(_answers(other, sample), expected, rtol=0, atol=allowed, equal_nan=True)

    if not differs(groups):
        return []
    return [group.path for group in groups if differs([group])] or [group.path for group in groups]


def turned(group: Coupled) -> Tensor:
    """An order (n,) of the group's units: the first stays and the others move on by one; two change places.

    Rolls, flips and shuffles do not commute with it. Units that not all members hold move among their like.
    """
    held = torch.stack([torch.bincount(m.unit, minlength=group.n) for m in group.members])
    kinds = held.unique(dim=1, return_inverse=True)[1]
    order = torch.arange(group.n)
    for kind in range(int(kinds.max()) + 1):
        units = (kinds == kind).nonzero().flatten()
        moving = units[1:] if len(units) > 2 else units
        order[moving] = moving.roll(1)
    return order


def _precise(shadow: nn.Module, sample: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """A copy in double precision, where its forward pass takes that, with the sample and the answers to it."""
    try:
        base, inputs = layers.own(copy.deepcopy(shadow)).double(), sample.double()
        return base, inputs, _answers(base, inputs)
    except RuntimeError:  # it casts to a type of its own
        base = layers.own(copy.deepcopy(shadow))
        return base, sample, _answers(base, sample)


def _answers(model: nn.Module, sample: Tensor) -> Tensor:
    with evaluating(model), torch.no_grad():
        return model(sample)

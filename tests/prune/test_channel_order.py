"""Sorting by importance before a cut beats cutting in the order of the file, on trained nets (the MIT 6.5940 lab)."""

from __future__ import annotations

from statistics import mean

import torch
from torch import nn

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import channel_cuts, channel_groups, channels, layers
from lessen.ops.train import Plan, fit
from lessen.tasks import task


def cut_unsorted(model: nn.Module, sample: torch.Tensor, ratio: float) -> nn.Module:
    """The first int(round(c * (1 - r))) channels of every group stay."""
    groups, _ = channel_groups.find(channel_groups.dependencies(layers.plain(model), sample), model)
    gone = [range(round(g.n * (1 - ratio)), g.n) for g in groups]
    return channel_cuts.without(model, groups, gone)


def test_30_percent_sorted_beats_unsorted() -> None:
    """Margins of the score without training, n = 2 seeds; what is cut is equally much."""
    digits = task("digits(limit=600)")
    sample = digits.inputs(digits.split("calibration").x[:2])
    margins = []
    for seed in (0, 1):
        model = trained(digits, seed)
        chosen, _ = channels.prune(model, sample, channels.Plan(0.3))
        first = cut_unsorted(model, sample, 0.3)
        assert list(channels.widths(chosen)) == list(channels.widths(first))
        margins.append((digits.evaluate(chosen, "test") or 0.0) - (digits.evaluate(first, "test") or 0.0))
    assert min(margins) > 0 and mean(margins) > 0.1, margins


def trained(digits: Task, seed: int) -> nn.Module:
    with digits.seeded(seed):
        model = layers.own(digits.build("vgg8(width=0.25)"))
        return fit(model, digits, Plan(epochs=12, batch=32, lr=0.05), Run()).eval()

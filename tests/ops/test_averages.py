"""The average of weights by hand."""

from __future__ import annotations

import pytest
import torch
from tiny_task import net
from torch import nn

from lessen.ops.averages import Average


def set_weight(model, value):
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_by_hand():
    """Decay .25: update 1 takes min(.25, 2/11) = 2/11 of the old, update 2 min(.25, 3/12) = 1/4."""
    model = nn.Linear(1, 1, bias=False)
    set_weight(model, 11.0)
    average = Average(model, 0.25)
    set_weight(model, 0.0)
    average.update()
    set_weight(model, 4.0)
    average.update()
    assert average.mean[0].item() == pytest.approx(2 * 0.25 + 4 * 0.75)


def test_shown_only_within():
    model = nn.Linear(1, 1, bias=False)
    set_weight(model, 1.0)
    average = Average(model, 0.9)
    set_weight(model, 3.0)
    with average.shown():
        assert model.weight.item() == 1.0
    assert model.weight.item() == 3.0
    assert average.mean[0].item() == 1.0


def test_running_statistics_are_averaged_and_counts_kept():
    model = net()
    average = Average(model, 0.5)
    model.train()(torch.randn(4, 1, 8, 8))
    running = model[1].running_mean.clone()
    average.update()
    with average.shown():
        assert torch.allclose(model[1].running_mean, running * (1 - 2 / 11))
        assert model[1].num_batches_tracked == 1


def test_what_a_module_puts_anew_is_averaged_too():
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("m", torch.zeros(()))

    model = Moving()
    average = Average(model, 0.5)
    model.m = torch.tensor(11.0)
    average.update()
    with average.shown():
        assert model.m.item() == pytest.approx(11 * (1 - 2 / 11))
    assert model.m.item() == 11

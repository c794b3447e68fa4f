"""Errors of stages against numbers worked by hand; which layers are one stage."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from lessen.ops import layers, propagation
from lessen.ops.propagation import fit, propagate, quantized_stages, swapped
from lessen.ops.quantizers import Quantizer
from lessen.ops.stages import stages


class Tenth(Quantizer):
    """Makes every weight a tenth larger."""

    bits = 8

    def forward(self, weight):
        return 1.1 * weight


def chain(*weights: float) -> nn.Sequential:
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in weights))
    for layer, weight in zip(net, weights, strict=True):
        layer.weight.data.fill_(weight)
    return layers.own(net).eval().requires_grad_(False)


def test_two_layers_by_hand():
    """An error of a tenth is 20 dB wherever it arises; both together are 0.21, 13.56 dB."""
    exact, quantized = chain(1.0, 2.0), chain(1.0, 2.0)
    for layer in quantized:
        layer.wq = Tenth()
    x = torch.arange(1.0, 100.0)[:, None]  # more than one batch
    (first, second), whole, (expected, got) = propagate(exact, quantized, [("0",), ("1",)], x)
    for row in (first, second):
        for sums in (row.alone, row.weights, row.output):
            assert sums.distortion().sqnr_db == pytest.approx(20, abs=1e-4)
        assert row.activations.distortion().sqnr_db == math.inf
    assert first.accumulated.distortion().sqnr_db == pytest.approx(20, abs=1e-4)
    both = -20 * math.log10(0.21)
    assert second.accumulated.distortion().sqnr_db == whole.distortion().sqnr_db == pytest.approx(both, abs=1e-4)
    assert first.alone.distortion().mae == pytest.approx(0.1 * 50, abs=1e-4)  # of 1 .. 99 the mean is 50
    assert torch.equal(expected, 2 * x) and torch.allclose(got, 1.21 * 2 * x)
    assert propagation.output_error(exact, quantized, exact, ("0",), x).distortion().sqnr_db == pytest.approx(
        20, abs=1e-4
    )


def test_activations_and_weights_apart():
    """Steps of 1 round 0.25 and 0.75 by 0.25 each: 10 log10(0.3125 / 0.0625); the weight is exact."""
    exact, quantized = chain(1.0), chain(1.0)
    quantized[0].oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0), 2)
    (row,), _, _ = propagate(exact, quantized, [("0",)], torch.tensor([[0.25], [0.75]]))
    assert row.weights.noise == 0
    assert row.activations.distortion().sqnr_db == row.alone.distortion().sqnr_db == pytest.approx(10 * math.log10(5))
    assert row.fits["output"].levels == 2 and row.fits["output"].clipped == 0


def test_clipping_is_told_from_rounding():
    """0, 1.4 and 5 in a range of 0 to 3: 0.4 are rounded, 2 are clipped."""
    values = torch.tensor([0.0, 1.4, 5.0])
    found = propagation.activation_fit(
        values, layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0), 2)
    )
    assert (found.bits, found.levels, found.clipped) == (2, 3, pytest.approx(1 / 3))
    assert found.clip_noise == pytest.approx(4 / 4.16) and found.used == 1
    assert found.sqnr_db == pytest.approx(10 * math.log10((1.4**2 + 25) / 4.16))
    assert fit(values, values, 0.0, 10.0, 8, 3).used == pytest.approx(0.5)


def test_weights_sit_each_row_in_its_own_range():
    layer = layers.own(nn.Linear(3, 2))
    layer.weight.data = torch.tensor([[7.0, 3.0, -1.0], [0.07, 0.05, 0.02]])
    layer.wq = layers.WeightQuantizer.fitting(layer, 4)
    found = propagation.weight_fit(layer)
    assert found.levels == 3 and found.clipped == 0 and found.sqnr_db > 100
    assert found.used == pytest.approx((1 + 1 / 7) / 2)


def test_one_stage_is_what_one_kernel_computes():
    net = layers.own(
        nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(8, 3),
        )
    )  # fmt: skip
    assert stages(net) == [("0", "1", "2"), ("4",), ("5",), ("7",)]
    net[5].oq = layers.ActivationQuantizer()
    assert quantized_stages(net, stages(net)) == [("5",)]


def test_a_layer_used_twice_is_a_stage_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.act = nn.Linear(2, 2), nn.ReLU()

        def forward(self, x):
            return self.act(self.layer(self.layer(x)))

    assert stages(layers.own(Twice())) == [("layer",), ("act",)]


def test_what_was_swapped_comes_back():
    model, other = chain(1.0, 2.0), chain(3.0, 4.0)
    own = copy.copy(list(model))
    with pytest.raises(RuntimeError, match="inside"), swapped(model, other, ["0", "1"]):
        assert float(model(torch.ones(1, 1))) == 12
        raise RuntimeError("inside")
    assert all(a is b for a, b in zip(model, own, strict=True))

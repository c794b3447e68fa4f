"""Costs counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen.ops import cost, layers


def net() -> nn.Module:
    return layers.own(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
        )
    )  # fmt: skip


PARAMETERS = 3 * 8 * 9 + 2 * 8 + (8 * 9 + 8) + (80 + 10)
MACS = 3 * 8 * 9 * 64 + 8 * 9 * 16 + 80  # an 8 x 8 input; the stride leaves 4 x 4
SAMPLE = torch.zeros(1, 3, 8, 8)


def fill(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    return model


def test_a_dense_net() -> None:
    found = cost.count(fill(net()), SAMPLE)
    assert found.model_dump() == {
        "parameters": PARAMETERS, "nonzeros": PARAMETERS, "macs": MACS, "weight_bits": 32 * PARAMETERS,
        "nonzero_macs": MACS,
    }  # fmt: skip


def test_masks_take_nonzeros_and_nothing_else() -> None:
    model = fill(net())
    first = layers.weighted(model)["0"]
    first.set_mask(torch.arange(216).reshape(8, 3, 3, 3) % 4 == 0)
    found = cost.count(model, SAMPLE)
    assert found.nonzeros == PARAMETERS - 162
    assert (found.parameters, found.macs, found.weight_bits) == (PARAMETERS, MACS, 32 * PARAMETERS)


def test_zeros_are_left_out_of_the_multiply_accumulates_layer_by_layer() -> None:
    model = fill(net())
    weights = layers.weighted(model)
    weights["0"].set_mask(torch.arange(216).reshape(8, 3, 3, 3) % 4 == 0)  # a quarter lives, at 64 places
    weights["3"].set_mask(torch.arange(72).reshape(8, 1, 3, 3) % 9 == 4)  # one of nine, at 16 places
    found = cost.count(model, SAMPLE)
    assert found.nonzero_macs == 54 * 64 + 8 * 16 + 80
    assert found.macs == MACS


def test_a_lone_layer_and_a_layer_used_twice_count_their_zeros_too() -> None:
    line = layers.own(nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        line.weight.copy_(torch.eye(4))  # 4 of 16 are not zero
    assert cost.multiply_accumulates(line, torch.zeros(1, 4)) == (16, 4)
    assert cost.multiply_accumulates(nn.Sequential(line, nn.ReLU(), line), torch.zeros(1, 4)) == (32, 8)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantizer_takes_bits_and_adds_its_scales(bits: int) -> None:
    model = fill(net())
    last = layers.weighted(model)["6"]
    last.wq = layers.WeightQuantizer(torch.ones(10), bits)
    last.iq = layers.ActivationQuantizer()
    found = cost.count(model, SAMPLE)
    assert found.weight_bits == 32 * (PARAMETERS - 80) + bits * 80 + 32 * 10 + 32
    assert (found.parameters, found.nonzeros, found.macs) == (PARAMETERS, PARAMETERS, MACS)


def test_weights_that_round_to_zero_are_zeros() -> None:
    model = fill(net())
    last = layers.weighted(model)["6"]
    last.wq = layers.WeightQuantizer(torch.tensor([1.0] * 9 + [10.0]), 8)  # 1 / 10 rounds to 0 in the last channel
    assert cost.count(model, SAMPLE).nonzeros == PARAMETERS - 8


def test_half_precision_weights_count_their_own_bits() -> None:
    model = fill(net()).half()
    assert sum(cost.value_bits(m, n, p) for m in model.modules() for n, p in m.named_parameters(recurse=False)) == (
        16 * PARAMETERS
    )


@pytest.mark.parametrize("mode", [True, False])
def test_counting_leaves_the_model_as_it_was(mode: bool) -> None:
    model = net().train(mode)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    cost.count(model, torch.randn(1, 3, 8, 8))
    assert model.training is mode and all(torch.equal(state[k], v) for k, v in model.state_dict().items())

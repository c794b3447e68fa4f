"""Scales learn as fast as what they scale, whatever the bits, the ranges and the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import layers, optimizers
from lessen.ops.learned_steps import scale_gradient

KINDS = [(bits, "uniform") for bits in (8, 4, 3, 2)] + [(4, "log"), (3, "log")]


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def quantized(bits: int, levels: str, rule: str, group: int = 0) -> nn.Sequential:
    """A layer of 64 rows of 144 normal weights, and a head."""
    model = layers.own(nn.Sequential(nn.Linear(144, 64, bias=False), nn.Linear(64, 2)))
    layer = model[0]
    nn.init.normal_(layer.weight, std=0.05)
    kind = layers.LogWeights if levels == "log" else layers.WeightQuantizer
    layer.wq = kind.fitting(layer, bits, rule=rule, group=group)
    return model


@pytest.mark.parametrize("group", [0, 64])
@pytest.mark.parametrize("rule", ["mse", "minmax"])
@pytest.mark.parametrize(("bits", "levels"), KINDS)
def test_a_step_moves_scales_and_weights_by_like_shares(bits: int, levels: str, rule: str, group: int) -> None:
    """LSQ's R near 1, of the steps that are made; it was 2e-6 to 2e-3 when a step was of d loss / d log s."""
    model = quantized(bits, levels, rule, group)
    layer: layers.Linear = model[0]  # type: ignore[assignment]
    optimizer = optimizers.optimizer(model, "sgd", lr=1e-5, momentum=0.9, weight_decay=0.0)
    (layer.effective_weight() * torch.randn_like(layer.weight)).sum().backward()
    before = layer.weight.detach().clone(), layer.wq.scale.detach().clone()
    optimizer.step()
    weights = (layer.weight - before[0]).norm() / before[0].norm()
    scales = (layer.wq.scale / before[1]).log().square().mean().sqrt()
    assert 0.5 < scales / weights < 2


@pytest.mark.parametrize("quantizer", [layers.ActivationQuantizer(8), layers.ActivationQuantizer(4), "signs"])
def test_a_step_is_the_same_whatever_the_batch(quantizer) -> None:
    """The same sample four times, each with a fourth of the loss."""
    x, noise = torch.rand(1, 40) * 3, torch.randn(1, 40)
    if quantizer == "signs":
        quantizer = layers.SignActivations.fitting(x)
    else:
        quantizer.set_range(torch.tensor(0.0), torch.tensor(2.5))
    found = []
    for times in (1, 4):
        quantizer.zero_grad()
        (quantizer(x.repeat(times, 1)) * noise / times).sum().backward()
        found.append(quantizer.scale.grad)
    torch.testing.assert_close(*found)
    assert found[0] != 0


def test_by_hand() -> None:
    """Slopes 3 and 4 are 5 long, values 6 and 8 are 10: in steps of 2 5. Two values share the scale."""
    grad, slope, x, scale = (torch.tensor(v) for v in ([1.0, 2.0], [3.0, 4.0], [6.0, 8.0], 2.0))
    assert scale_gradient(grad, slope.clone(), x, scale).item() == pytest.approx((3 + 8) * 2**0.5 / (5 * 5))
    found = scale_gradient(grad, slope, x, scale, samples=4)
    assert found.item() == pytest.approx((3 + 8) * 2**0.5 * 2 / (5 * 5))


def test_groups_are_as_tensors_of_their_own() -> None:
    grad, slope, x, scale = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5), torch.rand(3, 2) + 0.1
    columns = torch.tensor([0, 1, 0, 0, 1])
    found = scale_gradient(grad, slope.clone(), x, scale, columns)
    for group in (0, 1):
        own: list[Tensor] = [v[:, columns == group] for v in (grad, slope, x)]
        torch.testing.assert_close(found[:, [group]], scale_gradient(*own, scale[:, [group]]))


def test_what_has_no_error_gives_no_gradient_and_noise_is_not_blown_up() -> None:
    scale = torch.tensor(1.0)
    zeros = torch.zeros(100)
    assert scale_gradient(torch.randn(100), zeros, zeros, scale) == 0
    noise = scale_gradient(torch.randn(100), torch.randn(100) * 1e-6, torch.randn(100), scale)
    assert abs(noise) < 1e-4

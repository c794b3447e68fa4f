"""Weights on powers of two: levels by hand, exact folds and cuts, gradients, and a way back from their spec."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessen.ops import cost, layers, logarithmic, lowrank, ranges, structure
from lessen.ops.folding import fold_norms

KINDS = [(4, 0), (3, 0), (4, 16), (3, 20)]
every = pytest.mark.parametrize(("bits", "group"), KINDS)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def conv(bits: int, group: int = 0) -> layers.Conv2d:
    layer = layers.Conv2d(6, 8, 3)
    layer.wq = layers.LogWeights.fitting(layer, bits, group=group, rule="mse")
    return layer


def nearest(value: float, scale: float, bits: int) -> float:
    """By logarithms, in the simplest words."""
    if value == 0:
        return 0.0
    exponent = round(math.log2(abs(value) / scale))
    top = 2 ** (bits - 1) - 2
    return 0.0 if exponent < 0 else math.copysign(scale * 2 ** min(exponent, top), value)


def test_powers_by_hand() -> None:
    x = torch.tensor([0.0, 0.7, 0.71, -1.4, 1.42, 45.0, 46.0, -90.0, 1e6])
    assert logarithmic.powers(x, 4).tolist() == [0, 0, 1, -1, 2, 32, 64, -64, 64]
    assert logarithmic.powers(x, 3).tolist() == [0, 0, 1, -1, 2, 4, 4, -4, 4]
    assert len(logarithmic.powers(torch.linspace(-99, 99, 9999), 4).unique()) == 15


@every
def test_weights_are_the_nearest_powers_by_logarithm(bits: int, group: int) -> None:
    layer = conv(bits, group)
    scale, _, _ = layer.wq.spread(layer.weight)
    expected = [
        nearest(w, s, bits)
        for w, s in zip(layer.weight.flatten().tolist(), scale.expand_as(layer.weight).flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(layer.effective_weight().flatten(), torch.tensor(expected))
    assert layer.wq.scale.shape == ((8, -(-54 // group)) if group else (8,))


@every
def test_what_is_stored_is_what_is_computed_and_fits_int8(bits: int, group: int) -> None:
    layer = conv(bits, group)
    layer.set_mask(torch.rand_like(layer.weight) > 0.3)
    stored = layer.wq.stored(layer.weight, layer.mask)
    assert torch.equal(stored.real(), layer.effective_weight())
    levels = {0, *(s * 2**k for k in range(2 ** (bits - 1) - 1) for s in (1, -1))}
    assert stored.values.dtype == torch.int8 and set(stored.values.unique().tolist()) <= levels
    assert stored.values.abs().max() == logarithmic.largest(bits) < 2 ** (stored.bits - 1)
    layer.take(out=torch.tensor([7, 0, 3]), inn=torch.tensor([0, 2, 5]))
    assert torch.equal(layer.wq.stored(layer.weight, layer.mask).real(), layer.effective_weight())


def test_batch_norm_folds_exactly() -> None:
    model = layers.own(nn.Sequential(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8))).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.5, -0.1, 0.0, 3.0, 1e-3, -1.0]))
        model[1].running_var.uniform_(0.5, 2)
    first, x = model[0], torch.randn(4, 6, 7, 7)
    first.wq = layers.LogWeights.fitting(first, 4)
    stored, expected = first.wq.stored(first.weight), model(x)
    folded = stored.folded(fold_norms(model)["0"])
    torch.testing.assert_close(F.conv2d(x, folded.real(), first.bias), expected, atol=2e-5, rtol=1e-5)
    assert folded.values.dtype == torch.int8 and bool((folded.values[4] == 0).all())


@pytest.mark.parametrize("rule", ["minmax", "percentile", "mse"])
def test_ranges(rule: ranges.Rule) -> None:
    rows = torch.randn(5, 400) ** 3
    rows[3] = 0.0
    scale, zero = ranges.affine(rows, 4, rule=rule, share=0.99, levels="log")
    assert zero is None and scale[3] == 1.0
    top = {"minmax": rows.abs().amax(1), "percentile": rows.abs().kthvalue(396, 1).values}.get(rule)
    if top is not None:
        torch.testing.assert_close(scale[:3], top[:3] / 64)
        return
    living = [0, 1, 2, 4]

    def error(s: Tensor) -> Tensor:
        return (logarithmic.powers(rows / s[:, None], 4) * s[:, None] - rows).square().sum(1)

    tried = torch.stack([error(rows.abs().amax(1).clamp(min=1e-9) * r / 64) for r in torch.linspace(0.05, 1.41, 2000)])
    assert bool((error(scale)[living] <= 1.02 * tried.amin(0)[living]).all())


def test_gradients_by_hand() -> None:
    x = torch.tensor([[0.1, 3.0, -100.0]], requires_grad=True)
    scale = torch.tensor([[1.0]], requires_grad=True)
    y = logarithmic.fake_powers(x, scale, 4)
    assert y.tolist() == [[0.0, 4.0, -64.0]]
    gx, gs = torch.autograd.grad((y * torch.tensor([[1.0, 2.0, 3.0]])).sum(), (x, scale))
    assert gx.tolist() == [[1.0, 2.0, 0.0]]  # beyond the largest level's border nothing passes
    moved = 1 * (0 - 0.1) + 2 * (4 - 3) + 3 * -64  # by rounding, or the level itself where it clips
    slopes, values = (0.1**2 + 1 + 64**2) ** 0.5, (0.1**2 + 3**2 + 100**2) ** 0.5
    assert gs.item() == pytest.approx(moved * 3**0.5 / slopes / values)
    with torch.no_grad():
        assert torch.equal(logarithmic.fake_powers(x, scale, 4), y)


@every
def test_specs_and_tensors_make_it_again(bits: int, group: int) -> None:
    layer = conv(bits, group)
    layer.take(inn=torch.tensor([0, 3, 4]))
    spec = structure.describe(nn.Sequential(layer))
    again = structure.make(spec)
    again.load_state_dict(structure.tensors(nn.Sequential(layer)), strict=True, assign=True)
    assert type(again[0].wq) is layers.LogWeights and again[0].wq.spec() == layer.wq.spec()
    assert torch.equal(again[0].effective_weight(), layer.effective_weight())


def test_factors_and_costs_are_those_of_four_bits() -> None:
    layer = layers.Linear(10, 3, bias=False)
    layer.wq = layers.LogWeights.fitting(layer, 4)
    assert cost.count(nn.Sequential(layer), torch.zeros(1, 10)).weight_bits == 30 * 4 + 3 * 32
    assert type(layer.wq.refit(layer)) is layers.LogWeights
    target = lowrank.targets(nn.Sequential(layer))[0][0]
    assert lowrank.bits(target) == 30 * 4 + 3 * 32

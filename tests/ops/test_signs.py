"""Signs as weights and inputs: levels and scales by hand, clipped gradients, exact folds and cuts, a way back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import cost, layers, signs, structure
from lessen.ops.folding import fold_norms

ROWS = torch.tensor([[1.0, -3.0, 2.0, -2.0], [0.0, 0.0, -4.0, 1.0]])


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linear(bits: int, kind: Any = "mean", rows: Tensor = ROWS) -> layers.Linear:
    layer = layers.Linear(rows.shape[1], len(rows), bias=False)
    layer.weight = nn.Parameter(rows.clone())
    layer.wq = layers.SignWeights.fitting(layer, bits, kind)
    return layer


def conv(bits: int, kind: Any = "mean") -> layers.Conv2d:
    layer = layers.Conv2d(6, 8, 3, bias=False)
    layer.wq = layers.SignWeights.fitting(layer, bits, kind)
    return layer


# --- levels and scales


def test_binary_and_ternary_by_hand() -> None:
    binary, ternary = linear(1), linear(2)
    assert binary.wq.scale.tolist() == [2.0, 2.5]  # zeros do not count
    assert binary.effective_weight().tolist() == [[2.0, -2.0, 2.0, -2.0], [2.5, 2.5, -2.5, 2.5]]
    assert ternary.wq.threshold.tolist() == pytest.approx([1.4, 1.75])
    assert ternary.wq.scale.tolist() == pytest.approx([7 / 3, 4.0])
    assert torch.allclose(ternary.effective_weight(), torch.tensor([[0, -7 / 3, 7 / 3, -7 / 3], [0, 0, -4.0, 0]]))
    assert linear(1, "one").effective_weight().unique().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("bits", [1, 2])
def test_no_other_scale_of_these_levels_is_nearer(bits: int) -> None:
    rows = torch.randn(5, 200)
    layer = linear(bits, rows=rows)
    levels = layer.effective_weight() / layer.wq.scale[:, None]
    best = (layer.effective_weight() - rows).square().sum(1)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert bool(((levels * layer.wq.scale[:, None] * factor - rows).square().sum(1) > best).all())


def test_the_ternary_threshold_is_near_the_best_for_normal_weights() -> None:
    rows = torch.randn(1, 20_000)

    def error(share: float) -> float:
        threshold = share * rows.abs().mean(1)
        alpha = signs.mean_beyond(rows, threshold)
        return float((alpha * signs.levels(rows, threshold[:, None]) - rows).square().mean())

    others = [error(share / 100) for share in range(40, 110, 5)]
    assert error(signs.THRESHOLD) < 1.01 * min(others)


def test_masked_weights_are_zero_and_no_part_of_the_scale() -> None:
    layer = linear(1)
    layer.wq = None
    layer.set_mask(torch.tensor([[True, False, True, True]] * 2))
    layer.wq = layers.SignWeights.fitting(layer, 1)
    assert layer.wq.scale.tolist() == pytest.approx([5 / 3, 2.5])
    assert layer.effective_weight()[:, 1].tolist() == [0.0, 0.0]
    assert layer.wq.stored(layer.weight, layer.mask).values.tolist() == [[1, 0, 1, -1], [1, 0, -1, 1]]


def test_a_row_of_zeros_stays_zeros() -> None:
    layer = linear(1, rows=torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    assert layer.effective_weight()[0].tolist() == [0.0, 0.0]
    assert layer.wq.stored(layer.weight).real()[0].tolist() == [0.0, 0.0]


# --- gradients


def test_the_gradient_passes_within_the_clip_and_beyond_it_only_back() -> None:
    x = torch.tensor([0.5, -2.9, 3.5, 3.5, -3.5, -3.5], requires_grad=True)
    grad = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, -1.0])  # a step goes against it
    signs.scaled_levels(x, torch.tensor(1.0)).backward(grad)
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1, 0, 0, -1]
    x.grad = None
    signs.scaled_levels(x, torch.tensor(1.0), bounded=False).backward(grad)
    assert x.grad.tolist() == [1, 1, 0, 0, 0, 0]


def test_the_mean_scale_has_xnor_nets_gradient() -> None:
    layer, grad = linear(1), torch.randn(2, 4)
    layer.train().effective_weight().backward(grad)
    alive = ROWS != 0
    levels = signs.levels(ROWS)
    through = (grad * levels).sum(1, keepdim=True) * torch.sign(ROWS) / alive.sum(1, keepdim=True)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, grad + through)  # nothing lies beyond the clip here


def test_a_learned_scale_has_a_damped_gradient_and_a_mean_follows_its_weights() -> None:
    layer, grad = linear(1, "learned"), torch.randn(2, 4)
    layer.train().effective_weight().backward(grad)
    torch.testing.assert_close(layer.wq.scale.grad, (grad * signs.levels(ROWS)).sum(1) / 2)
    assert "scale" in dict(layer.wq.named_parameters())
    for kind, expected in (("mean", [4.0, 5.0]), ("learned", [2.0, 2.5]), ("one", [1.0, 1.0])):
        layer = linear(1, kind)
        with torch.no_grad():
            layer.weight.mul_(2)
            layer.eval()(torch.zeros(1, 4))
        assert layer.wq.scale.tolist() == linear(1, kind).wq.scale.tolist(), "only training moves it"
        layer.train()(torch.zeros(1, 4))
        assert layer.wq.scale.tolist() == expected


def test_signs_of_inputs_by_hand() -> None:
    quantizer = layers.SignActivations.fitting(torch.tensor([0.0, 0.0, 1.0, 2.0, 6.0]))
    assert (quantizer.threshold.item(), quantizer.scale.item()) == (2.0, pytest.approx(5 / 3))
    x = torch.tensor([0.0, 1.9, 2.0, 9.0], requires_grad=True)
    y = quantizer(x)
    assert (y / quantizer.scale).tolist() == [-1, -1, 1, 1] and quantizer.signs(x).tolist() == [-1, -1, 1, 1]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1, 0]
    assert quantizer.scale.grad is not None and quantizer.scale.grad.item() == 0.0
    assert torch.isfinite(layers.SignActivations.fitting(torch.zeros(3))(torch.ones(2))).all()


# --- what is stored


@pytest.mark.parametrize("kind", ["mean", "learned", "one"])
@pytest.mark.parametrize("bits", [1, 2])
def test_what_is_stored_is_what_is_computed(bits: int, kind: str) -> None:
    layer = conv(bits, kind)
    stored = layer.wq.stored(layer.weight)
    assert stored.bits == bits and stored.values.unique().tolist() == [[-1, 1], [-1, 0, 1]][bits - 1]
    assert torch.equal(stored.real(), layer.effective_weight())
    assert cost.count(nn.Sequential(layer), torch.zeros(1, 6, 3, 3)).weight_bits == 8 * 54 * bits + 8 * 32
    assert layer.wq.scale_bits(8, 54) == 8 * 32


def test_a_mask_beside_signs_costs_a_bit() -> None:
    layer = conv(1)
    layer.set_mask(torch.rand_like(layer.weight) < 0.5)
    assert cost.count(nn.Sequential(layer), torch.zeros(1, 6, 3, 3)).weight_bits == 8 * 54 * 2 + 8 * 32


@pytest.mark.parametrize("bits", [1, 2])
def test_batch_norm_folds_exactly(bits: int) -> None:
    model = nn.Sequential(conv(bits), nn.BatchNorm2d(8)).eval()
    layers.own(model)
    norm: Any = model[1]
    norm.weight.data = torch.tensor([1.0, -2.0, 0.0, 0.5, -0.5, 3.0, 1.0, 1.0])
    norm.running_var.uniform_(0.5, 2.0)
    norm.bias.data.normal_()
    x = torch.randn(2, 6, 5, 5)
    before, layer = copy.deepcopy(model)(x), model[0]
    stored = layer.wq.stored(layer.weight)
    gain = fold_norms(model)["0"]
    folded = stored.folded(gain)
    assert torch.equal(folded.values[1], -stored.values[1]) and not folded.values[2].any()
    assert torch.equal(folded.values[[0, 3, 5]], stored.values[[0, 3, 5]])
    torch.testing.assert_close(folded.scale[5], stored.scale[5] * gain[5].abs().float())
    layer.wq = None
    layer.weight.data = folded.real()
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "learned", "one"])
@pytest.mark.parametrize("bits", [1, 2])
def test_weights_that_stay_keep_their_values(bits: int, kind: str) -> None:
    layer = conv(bits, kind).eval()
    before, out, inn = layer.effective_weight().detach(), torch.tensor([6, 1, 3]), torch.tensor([4, 0])
    layer.take(out, inn)
    assert torch.equal(layer.effective_weight(), before[out][:, inn])
    assert layer.wq.scale.shape == (3,) and isinstance(layer.wq.scale, nn.Parameter) == (kind == "learned")


@pytest.mark.parametrize("kind", ["mean", "learned", "one"])
@pytest.mark.parametrize("bits", [1, 2])
def test_they_come_back_from_spec_and_tensors(bits: int, kind: str) -> None:
    model = nn.Sequential(conv(bits, kind)).eval()
    model[0].iq = layers.SignActivations.fitting(torch.rand(50))
    again = structure.restore(nn.Sequential(layers.Conv2d(6, 8, 3)), {"0": structure.describe(model[0])},
                              {k: v.clone() for k, v in structure.tensors(model).items()}).eval()  # fmt: skip
    x = torch.rand(2, 6, 5, 5)
    assert torch.equal(again(x), model(x)) and again[0].wq.spec() == model[0].wq.spec()
    assert isinstance(again[0].iq, layers.SignActivations)


def test_refit_is_the_same_kind_for_another_layer() -> None:
    other = layers.Linear(7, 3)
    found = conv(2, "learned").wq.refit(other)
    assert (found.bits, found.follows, found.scale.shape) == (2, "learned", (3,))

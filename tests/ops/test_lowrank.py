"""Truncated SVD against NumPy, and factors that compute what they claim."""

import numpy as np
import pytest
import torch
from torch import nn

from lessen.ops import layers, lowrank


def only(model: nn.Module) -> lowrank.Target:
    found, _ = lowrank.targets(layers.own(model))
    assert len(found) == 1
    return found[0]


def factor(model: nn.Module, r: int) -> nn.Sequential:
    target = only(model)
    return lowrank.factored(target, lowrank.truncated(*lowrank.svd(target.matrix()), r))


def test_truncation_equals_numpys_and_its_error_is_the_tail_of_the_spectrum() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 9)
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    first, second = lowrank.truncated(*lowrank.svd(matrix), 3)
    np.testing.assert_allclose((second @ first).numpy(), (u[:, :3] * s[:3]) @ v[:3], atol=1e-12)
    expected = np.sqrt((s[3:] ** 2).sum() / (s**2).sum())
    assert lowrank.relative_error(matrix, second @ first) == pytest.approx(expected, rel=1e-9)


def test_singular_values_are_split_evenly_and_signs_are_fixed() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 9)
    u, s, v = lowrank.svd(matrix)
    first, second = lowrank.truncated(u, s, v, 4)
    torch.testing.assert_close(first.square().sum(1), s[:4])
    torch.testing.assert_close(second.square().sum(0), s[:4])
    assert (u.gather(0, u.abs().argmax(0, keepdim=True)) > 0).all()


def test_ranks_worked_by_hand() -> None:
    s = torch.tensor([3.0, 2.0, 1.0, 0.0])  # squares 9, 4, 1, 0: shares 0.643, 0.929, 1, 1
    assert [lowrank.rank(s, k, "energy") for k in (0.01, 0.64, 0.65, 0.92, 0.93, 0.999, 1.0)] == [1, 1, 2, 2, 3, 3, 4]
    assert [lowrank.rank(s, k, "rank") for k in (0.01, 0.25, 0.5, 0.75, 1.0)] == [1, 1, 2, 3, 4]


def test_the_fewest_singular_values_within_an_error() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(12, 20)
    u, s, v = lowrank.svd(matrix)
    for error in (0.1, 0.4, 0.7):
        r = lowrank.rank_within(s, error)
        found = [lowrank.relative_error(matrix, torch.mm(*lowrank.truncated(u, s, v, k)[::-1])) for k in (r - 1, r)]
        assert found[1] <= error < found[0]
    assert (lowrank.rank_within(s, 1.0), lowrank.rank_within(torch.zeros(4), 0.5)) == (1, 1)


def test_the_largest_rank_that_fits_a_share_of_the_weights() -> None:
    target = only(nn.Sequential(nn.Linear(10, 10)))  # 100 weights; rank r has 20 r
    assert [lowrank.affordable(target, k) for k in (0.01, 0.2, 0.39, 0.4, 0.99)] == [1, 1, 1, 2, 4]


def test_zeros_stay_zeros() -> None:
    u, s, v = lowrank.svd(torch.zeros(4, 5))
    first, second = lowrank.truncated(u, s, v, lowrank.rank(s, 0.9, "energy"))
    assert lowrank.relative_error(torch.zeros(4, 5), second @ first) == 0.0


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 7), (3, 12)),
        (nn.Linear(12, 7, bias=False), (3, 5, 12)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 9)),
        (nn.Conv2d(4, 6, (3, 1), padding=(2, 0), dilation=(2, 1), bias=False), (2, 4, 9, 9)),
        (nn.Conv2d(8, 5, 1), (2, 8, 4, 4)),
    ],
)
def test_at_full_rank_two_layers_compute_what_one_did(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    pair = factor(nn.Sequential(layer), min(layer.weight.flatten(1).shape))
    torch.testing.assert_close(pair(x), layer(x), atol=1e-5, rtol=1e-4)


def test_bits_bias_and_quantizers_are_handed_on() -> None:
    layer = layers.Linear(16, 12)
    layer.wq = layers.WeightQuantizer.fitting(layer, bits=4)
    layer.iq, layer.oq = layers.ActivationQuantizer(), layers.ActivationQuantizer()
    first, second = factor(nn.Sequential(layer), 3)
    assert (first.wq.bits, second.wq.bits, first.wq.scale.shape, second.wq.scale.shape) == (4, 4, (3,), (12,))
    assert (first.iq, first.oq, second.iq, second.oq) == (layer.iq, None, None, layer.oq)
    assert first.bias is None and second.bias is layer.bias


def test_saving_counts_weights_and_scales() -> None:
    target = only(nn.Sequential(nn.Linear(10, 10)))  # 100 weights; rank r has 20 r
    assert [lowrank.saves(target, r) for r in (4, 5)] == [True, False]
    layer = layers.Linear(10, 10)
    layer.wq = layers.WeightQuantizer.fitting(layer, bits=8)  # 800 + 320 bits; rank r has 160 r + 32 (r + 10 + 1)
    assert lowrank.bits(only(nn.Sequential(layer))) == 1120
    assert lowrank.bits(only(nn.Sequential(layer)), 4) == 640 + 480
    assert [lowrank.saves(only(nn.Sequential(layer)), r) for r in (3, 4)] == [True, False]


def test_pairs_are_found_and_their_product_is_factored_again() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1))
    layers.own(model)[0] = factor(model, 5)
    target = only(model)
    assert (target.path, target.second is not None) == ("0", True)
    assert not lowrank.saves(target, 5) and lowrank.saves(target, 4)
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(factor(model, 5)(x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "two",
    [
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),  # a bias between is no linear map
        nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3)),
        nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 1, padding=1)),
    ],
)
def test_two_layers_that_are_no_pair_are_two_targets(two: nn.Module) -> None:
    found, _ = lowrank.targets(layers.own(nn.Sequential(two)))
    assert [t.path for t in found] == ["0.0", "0.1"]


def test_grouped_convolutions_are_named_and_left() -> None:
    model = layers.own(nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, padding_mode="circular")))
    assert lowrank.targets(model) == ([], {"grouped convolutions": ["0", "1"]})


def test_a_layer_used_twice_is_replaced_twice() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    new = nn.Identity()
    lowrank.replace(model, {shared: new})
    assert model["a"] is new and model["b"][0] is new

"""Our layers: same tensors and outputs as torch's, slots that combine in any order, cuts that equal indexing."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessen.ops import layers


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def scale_of(weight: Tensor, bits: int) -> Tensor:
    """Each row's largest magnitude is the largest integer."""
    return weight.detach().flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)


def quantized(layer: layers.Conv2d | layers.Linear, bits: int = 8) -> None:
    layer.wq = layers.WeightQuantizer(scale_of(layer.weight, bits), bits)


def half_mask(weight: Tensor) -> Tensor:
    return torch.rand_like(weight) > 0.5


def test_own_keeps_every_tensor_and_every_output() -> None:
    model, x = net(), torch.randn(2, 3, 8, 8)
    model(x)
    expected, tensors, keys = model.eval()(x), list(model.parameters()), list(model.state_dict())
    ours = layers.own(model)
    assert ours is model and all(a is b for a, b in zip(tensors, ours.parameters(), strict=True))
    assert torch.equal(ours(x), expected) and list(ours.state_dict()) == keys
    assert list(layers.weighted(ours)) == ["0", "4", "8"]
    assert list(layers.sites(ours)) == ["0", "1", "2", "3", "4", "5", "6", "8"]  # all but Flatten


def test_own_twice_keeps_what_stands_in_the_slots() -> None:
    model = layers.own(net())
    first = layers.weighted(model)["0"]
    first.set_mask(half_mask(first.weight))
    quantized(first)
    first.oq = layers.ActivationQuantizer()
    before = (first.mask, first.wq, first.oq)
    assert layers.own(model).get_submodule("0") is first and (first.mask, first.wq, first.oq) == before


def test_own_leaves_a_users_subclass_alone() -> None:
    class Mine(nn.Conv2d):
        pass

    assert type(layers.own(nn.Sequential(Mine(1, 1, 1)))[0]) is Mine  # type: ignore[index]


def test_ours_extend_theirs_and_lead_back() -> None:
    for theirs, ours in layers.OWN.items():
        assert issubclass(ours, theirs) and layers.NN[ours] is theirs


def test_effective_weight_is_mask_times_quantized_weight_in_any_order() -> None:
    one, mask = layers.Conv2d(3, 4, 3), half_mask(torch.empty(4, 3, 3, 3))
    other = copy.deepcopy(one)
    scale = scale_of(one.weight, 4)
    one.set_mask(mask)
    one.wq = layers.WeightQuantizer(scale, 4)
    other.wq = layers.WeightQuantizer(scale, 4)
    other.set_mask(mask)
    expected = torch.where(mask, other.wq.integers(other.weight) * scale.reshape(-1, 1, 1, 1), 0.0)
    torch.testing.assert_close(one.effective_weight(), expected)
    assert torch.equal(one.effective_weight(), other.effective_weight())
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(one(x), F.conv2d(x, expected, one.bias))


def test_masks_join_so_that_zeros_never_come_back() -> None:
    layer = layers.Linear(4, 1, bias=False)
    layer.set_mask(torch.tensor([[True, True, False, False]]))
    layer.set_mask(torch.tensor([[True, False, True, False]]))
    assert layer.mask is not None and layer.mask.tolist() == [[True, False, False, False]]
    assert (layer.weight == 0).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("with_wq", [False, True])
def test_masked_weights_get_no_gradient(with_wq: bool) -> None:
    layer = layers.Conv2d(3, 4, 3)
    mask = half_mask(layer.weight)
    layer.set_mask(mask)
    if with_wq:
        quantized(layer)
    layer(torch.randn(2, 3, 5, 5)).square().sum().backward()
    assert layer.weight.grad is not None
    assert (layer.weight.grad[~mask] == 0).all() and (layer.weight.grad[mask] != 0).any()


def test_the_mask_is_no_part_of_the_state() -> None:
    layer = layers.Conv2d(3, 4, 3)
    layer.set_mask(half_mask(layer.weight))
    quantized(layer)
    assert set(layer.state_dict()) == {"weight", "bias", "wq.scale"}


def test_integers_are_what_the_weight_quantizer_computes() -> None:
    weight = torch.randn(6, 3, 3, 3)
    quantizer = layers.WeightQuantizer(scale_of(weight, 8), 8)
    integers = quantizer.integers(weight)
    assert integers.dtype == torch.int8 and integers.abs().amax((1, 2, 3)).tolist() == [127] * 6
    assert torch.equal(quantizer(weight), integers * quantizer.scale.reshape(-1, 1, 1, 1))


def test_an_activation_quantizer_covers_its_range_and_holds_zero() -> None:
    quantizer = layers.ActivationQuantizer()
    quantizer.set_range(torch.tensor(-1.0), torch.tensor(3.0))
    x = torch.tensor([0.0, -5.0, 50.0, 1.0])
    low, high = -64 * 4 / 255, 191 * 4 / 255
    torch.testing.assert_close(quantizer(x), torch.tensor([0.0, low, high, 64 * 4 / 255]))
    assert set(quantizer.state_dict()) == {"scale", "zero"} and not quantizer.zero.requires_grad


def test_quantizers_stand_on_inputs_and_outputs() -> None:
    def coarse() -> layers.ActivationQuantizer:
        quantizer = layers.ActivationQuantizer(bits=2)  # 0, 1, 2, 3
        quantizer.set_range(torch.tensor(0.0), torch.tensor(3.0))
        return quantizer

    layer = layers.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.3)
    layer.iq, layer.oq = coarse(), coarse()
    assert layer(torch.tensor([[0.9]])).item() == 1.0  # 0.9 -> 1 -> 1.3 -> 1
    for module, inputs, expected in (
        (layers.Add(), (0.6, 0.7), 1.0), (layers.Mul(), (1.5, 1.5), 2.0), (layers.Cat(), (0.6, 2.6), [1.0, 3.0]),
        (layers.ReLU(), (0.6,), 1.0),
    ):  # fmt: skip
        module.oq = coarse()
        found = module(*(torch.tensor([[v]]) for v in inputs))
        assert found.flatten().tolist() == (expected if isinstance(expected, list) else [expected])


@pytest.mark.parametrize("groups", [1, 2])
def test_taking_outputs_is_indexing_the_result(groups: int) -> None:
    layer = layers.Conv2d(4, 6, 3, groups=groups)
    layer.set_mask(half_mask(layer.weight))
    quantized(layer)
    x, keep = torch.randn(2, 4, 5, 5), torch.tensor([0, 2, 3, 5] if groups == 2 else [5, 0, 3])
    expected = layer(x)[:, keep]
    layer.take(out=keep)
    torch.testing.assert_close(layer(x), expected)
    assert layer.out_channels == len(keep) and layer.mask is not None and layer.mask.shape == layer.weight.shape
    assert layer.wq is not None and layer.wq.scale.shape == (len(keep),) and layer.in_channels == 4


def test_taking_inputs_is_feeding_zeros_elsewhere() -> None:
    layer, x, keep = layers.Linear(6, 3), torch.randn(4, 6), torch.tensor([1, 4, 5])
    layer.set_mask(half_mask(layer.weight))
    rest = torch.zeros_like(x)
    rest[:, keep] = x[:, keep]
    expected = layer(rest)
    layer.take(inn=keep)
    torch.testing.assert_close(layer(x[:, keep]), expected)
    assert (layer.in_features, layer.out_features) == (3, 3)


def test_taking_from_a_depthwise_convolution_keeps_it_depthwise() -> None:
    layer, x, keep = layers.Conv2d(6, 6, 3, groups=6), torch.randn(2, 6, 5, 5), torch.tensor([1, 2, 5])
    expected = layer(x)[:, keep]
    layer.take(out=keep)
    torch.testing.assert_close(layer(x[:, keep]), expected)
    assert (layer.groups, layer.in_channels, layer.out_channels) == (3, 3, 3)


def test_plain_is_an_ordinary_copy_with_effective_weights() -> None:
    model = layers.own(net()).eval()
    for layer in layers.weighted(model).values():
        layer.set_mask(half_mask(layer.weight))
        quantized(layer)
    x = torch.randn(2, 3, 8, 8)
    shadow = layers.plain(model)
    assert {type(m) for m in shadow.modules()} <= {*layers.OWN, nn.Sequential, nn.Flatten}
    torch.testing.assert_close(shadow(x), model(x))
    assert all(layer.wq is not None for layer in layers.weighted(model).values())


@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_compressed_model_is_copied_and_pickled_whole(through) -> None:
    model, x = layers.own(net()).eval(), torch.randn(2, 3, 8, 8)
    for layer in layers.weighted(model).values():
        layer.set_mask(half_mask(layer.weight))
        quantized(layer)
    twin = through(model)
    assert torch.equal(twin(x), model(x))
    for a, b in zip(layers.weighted(model).values(), layers.weighted(twin).values(), strict=True):
        assert a.mask is not None and b.mask is not None and a.mask is not b.mask and torch.equal(a.mask, b.mask)

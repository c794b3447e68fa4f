"""Weight quantizers with groups and zero points: exact cuts, exact folds, gradients, and a way back from their spec."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessen.ops import layers, quantizers, structure
from lessen.ops import quantization as q
from lessen.ops.folding import fold_norms

KINDS = [(8, 0, True), (4, 0, True), (4, 16, True), (4, 20, True), (4, 0, False), (3, 16, False), (2, 7, True)]
every = pytest.mark.parametrize(("bits", "group", "symmetric"), KINDS)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def conv(bits: int, group: int, symmetric: bool, **more) -> layers.Conv2d:
    layer = layers.Conv2d(6, 8, 3, **more)
    layer.wq = layers.WeightQuantizer.fitting(layer, bits, group=group, symmetric=symmetric)
    return layer


def reference(weight: Tensor, bits: int, group: int, symmetric: bool) -> Tensor:
    """Row by row and group by group, in the simplest words."""
    rows, low_high = weight.detach().flatten(1).clone(), q.limits(bits, signed=symmetric)
    for row in rows:
        for start in range(0, len(row), group or len(row)):
            part = row[start : start + (group or len(row))]
            if symmetric:
                scale, zero = part.abs().max() / low_high[1], torch.tensor(0.0)
            else:
                scale, zero = q.range_to_affine(part.min(), part.max(), bits)
            scale = scale.bfloat16().float() if group else scale  # of groups it is stored in two bytes
            part.copy_(((part / scale).round() + zero).clamp(*low_high).sub(zero) * scale)
    return rows.reshape(weight.shape)


@every
def test_groups_are_consecutive_columns_of_a_row(bits: int, group: int, symmetric: bool) -> None:
    layer = conv(bits, group, symmetric)
    torch.testing.assert_close(layer.effective_weight(), reference(layer.weight, bits, group, symmetric))
    groups = -(-54 // group) if group else 0
    assert layer.wq.scale.shape == ((8, groups) if group else (8,))
    integers = layer.wq.integers(layer.weight)
    assert integers.dtype == (torch.int8 if symmetric else torch.uint8)
    low, high = q.limits(bits, signed=symmetric)
    assert integers.min() >= low and integers.max() <= high


@every
def test_what_is_stored_is_what_is_computed(bits: int, group: int, symmetric: bool) -> None:
    layer = conv(bits, group, symmetric)
    layer.set_mask(torch.rand_like(layer.weight) > 0.3)
    stored = layer.wq.stored(layer.weight, layer.mask)
    assert torch.equal(stored.real(), layer.effective_weight())
    assert bool((stored.real()[~layer.mask] == 0).all())


@every
@pytest.mark.parametrize("index", [[0, 2, 5], [4, 0, 1, 3]], ids=["cut", "permuted"])
def test_cut_inputs_and_outputs_keep_every_weights_value(bits, group, symmetric, index) -> None:
    layer = conv(bits, group, symmetric)
    before, keep, rows = layer.effective_weight().detach(), torch.tensor(index), torch.tensor([7, 0, 3])
    layer.take(out=rows, inn=keep)
    assert torch.equal(layer.effective_weight(), before[rows][:, keep])
    again = copy.deepcopy(layer)
    again.take(inn=torch.tensor([1, 2]))
    assert torch.equal(again.effective_weight(), before[rows][:, keep[1:3]])
    assert torch.equal(layer.wq.stored(layer.weight).real(), layer.effective_weight())


def test_scales_that_serve_no_weight_leave() -> None:
    layer = layers.Conv2d(8, 2, 1)
    layer.wq = layers.WeightQuantizer.fitting(layer, 4, group=2)
    layer.take(inn=torch.tensor([0, 1, 4, 5]))
    assert layer.wq.scale.shape == (2, 2) and layer.wq.columns is None  # whole groups left: regular again
    layer.take(inn=torch.tensor([0, 2, 3]))
    assert layer.wq.scale.shape == (2, 2) and layer.wq.columns.tolist() == [0, 1, 1]


@every
def test_batch_norm_folds_exactly(bits: int, group: int, symmetric: bool) -> None:
    model = layers.own(nn.Sequential(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8))).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.5, -0.1, 0.0, 3.0, 1e-3, -1.0]))
        for value in (model[1].bias, model[1].running_mean):
            value.normal_()
        model[1].running_var.uniform_(0.5, 2)
    first: layers.Conv2d = model[0]
    first.wq = layers.WeightQuantizer.fitting(first, bits, group=group, symmetric=symmetric)
    first.set_mask(torch.rand_like(first.weight) > 0.3)
    stored, x = first.wq.stored(first.weight, first.mask), torch.randn(4, 6, 7, 7)
    expected = model(x)
    gain = fold_norms(model)["0"]
    folded = stored.folded(gain)
    torch.testing.assert_close(F.conv2d(x, folded.real(), first.bias), expected, atol=2e-5, rtol=1e-5)
    assert (
        folded.values.dtype == stored.values.dtype and torch.isfinite(folded.scale).all() and (folded.scale > 0).all()
    )
    low, high = q.limits(bits, signed=symmetric)
    assert folded.values.min() >= low and folded.values.max() <= high
    turned = gain.reshape(-1, 1, 1, 1)
    if symmetric:
        assert torch.equal(folded.values.float(), stored.values.float() * torch.sign(turned))
    assert bool((folded.real()[4] == 0).all())  # the dead channel


@pytest.mark.parametrize("group", [0, 16, 54])
def test_scale_gradients_of_groups_are_those_of_reshaped_rows(group: int) -> None:
    weight = torch.randn(4, 6, 3, 3, requires_grad=True)
    layer = conv(4, group, True)
    layer.wq = layers.WeightQuantizer(
        torch.rand(4, -(-54 // group)) * 0.2 + 0.1 if group else torch.rand(4) + 0.1, 4, group
    )
    noise = torch.randn_like(weight)
    found = torch.autograd.grad((layer.wq(weight) * noise).sum(), (weight, layer.wq.scale))
    size = group or 54
    for row in range(4):
        for g in range(-(-54 // size)):
            part = weight.detach().flatten(1)[row, g * size : (g + 1) * size].requires_grad_()
            scale = (layer.wq.scale[row, g].bfloat16().float() if group else layer.wq.scale[row]).detach()
            scale.requires_grad_()
            y = q.fake_quantize(part, scale, 0.0, -7, 7)
            gx, gs = torch.autograd.grad((y * noise.flatten(1)[row, g * size : (g + 1) * size]).sum(), (part, scale))
            torch.testing.assert_close(found[0].flatten(1)[row, g * size : (g + 1) * size], gx)
            torch.testing.assert_close(found[1][row, g] if group else found[1][row], gs, rtol=1e-4, atol=1e-5)


@every
def test_specs_and_tensors_make_it_again(bits: int, group: int, symmetric: bool) -> None:
    layer = conv(bits, group, symmetric)
    layer.take(inn=torch.tensor([0, 3, 4]))
    model = nn.Sequential(layer)
    spec, tensors = structure.describe(model), structure.tensors(model)
    again = structure.make(spec)
    again.load_state_dict(tensors, strict=True, assign=True)
    assert torch.equal(again[0].effective_weight(), layer.effective_weight())
    assert again[0].wq.spec() == layer.wq.spec()


def test_old_specs_and_plain_ones_are_what_they_were() -> None:
    assert conv(8, 0, True).wq.spec() == {"bits": 8}
    assert quantizers.ActivationQuantizer(4).spec() == {"bits": 4}
    assert repr(conv(4, 16, True).wq) == "WeightQuantizer(bits=4, group=16)"


@pytest.mark.parametrize(("bits", "stored"), [(8, 8), (5, 8), (4, 4), (3, 4), (2, 2)])
def test_three_bits_are_counted_as_the_four_they_are_stored_in(bits: int, stored: int) -> None:
    from lessen.ops import cost

    layer = layers.Linear(10, 3, bias=False)
    layer.wq = layers.WeightQuantizer.fitting(layer, bits)
    assert cost.count(nn.Sequential(layer), torch.zeros(1, 10)).weight_bits == 30 * stored + 3 * 32
    layer.wq = layers.WeightQuantizer.fitting(layer, bits, group=4, symmetric=False)
    assert cost.count(nn.Sequential(layer), torch.zeros(1, 10)).weight_bits == 30 * stored + 9 * (16 + stored)
    assert layer.wq.scale_bits(3, 10) == 9 * (16 + stored)


@pytest.mark.parametrize(("kind", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_halves(kind: str, dtype: torch.dtype) -> None:
    layer = layers.Conv2d(3, 4, 3)
    layer.wq = quantizers.HalfQuantizer(kind)
    assert torch.equal(layer.effective_weight(), layer.weight.to(dtype).float())
    layer.effective_weight().sum().backward()
    assert layer.weight.grad is not None and bool((layer.weight.grad == 1).all())
    gain = torch.tensor([2.0, -0.3, 0.0, 1.0])
    folded = layer.wq.stored(layer.weight).folded(gain)
    assert folded.values.dtype == dtype
    torch.testing.assert_close(folded.real(), layer.effective_weight() * gain.reshape(-1, 1, 1, 1))
    again = structure.make(structure.describe(nn.Sequential(layer)))
    assert again[0].wq.kind == kind


def test_a_dynamic_range_is_that_of_the_tensor_that_comes() -> None:
    quantizer = quantizers.DynamicQuantizer()
    for x in (torch.tensor([-1.0, 0.3, 3.0]), torch.tensor([0.2, 10.0])):
        scale, zero = q.range_to_affine(x.min(), x.max(), 8)
        assert torch.equal(quantizer(x), q.fake_quantize(x, scale, zero, 0, 255))
    assert not quantizer(torch.zeros(3)).any()

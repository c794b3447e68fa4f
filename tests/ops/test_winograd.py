"""Minimal filtering against the direct convolution in float64, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_task import TinyTask
from torch import nn
from torch.nn import functional as F

from lessen.core.run import Run
from lessen.ops import train, winograd


def both(x, weight, upstream):
    """Outputs and both gradients: by minimal filtering in float32, and directly in float64."""
    found = []
    for convolve, dtype in ((winograd.conv2d, torch.float32), (lambda x, w: F.conv2d(x, w, padding=1), torch.float64)):
        a, w = (t.to(dtype, copy=True).requires_grad_() for t in (x, weight))
        y = convolve(a, w)
        y.backward(upstream.to(dtype))
        found.append((y.detach(), a.grad, w.grad))
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (9, 9), (15, 15), (2, 7), (31, 4)])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_outputs_and_gradients_are_those_of_the_convolution(size, last):
    torch.manual_seed(0)
    x, weight, upstream = torch.randn(3, 5, *size), torch.randn(7, 5, 3, 3), torch.randn(3, 7, *size)
    if last:
        x, weight, upstream = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight, upstream))
    for ours, theirs in both(x, weight, upstream):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < (1e-4 if 7 in size else 2e-5) * theirs.abs().max()


def test_products_for_each_pair_of_channels_are_as_few_as_promised():
    products = {
        size: winograd.minimal(size).count * len(winograd.minimal(size).to_tile) for size in (2, 3, 4, 5, 6, 7, 15)
    }
    assert products == {2: 3, 3: 5, 4: 6, 5: 7, 6: 8, 7: 9, 15: 21}


@pytest.mark.parametrize("size", range(2, 32))
def test_each_filter_is_the_convolution_by_its_matrices(size):
    f, rng = winograd.minimal(size), np.random.default_rng(size)
    x, g = rng.normal(size=size), rng.normal(size=3)
    padded = np.pad(x, (f.halo, f.count * f.outputs - size + f.halo))
    tiles = [padded[i * f.outputs :][: f.to_tile.shape[1]] for i in range(f.count)]
    found = np.concatenate([f.to_output @ ((f.to_kernel @ g) * (f.to_tile @ t)) for t in tiles])[:size]
    assert found == pytest.approx(np.correlate(np.pad(x, 1), g, "valid"), abs=1e-10)


def test_within_the_context_a_layer_is_computed_so_with_its_bias(monkeypatch):
    conv, x, seen = nn.Conv2d(64, 256, 3, padding=1), torch.randn(2, 64, 5, 5), []
    assert winograd.pays(nn.Sequential(conv))
    monkeypatch.setattr(
        winograd, "conv2d", lambda x, w: seen.append(1) or F.conv2d(x.double(), w.double(), padding=1).float()
    )
    with winograd.Quick():
        y = conv(x)
    assert seen == [1]
    assert torch.allclose(y, conv(x), atol=1e-5)
    assert seen == [1]


@pytest.mark.parametrize(
    ("conv", "side"),
    [
        (nn.Conv2d(64, 256, 3, padding=1, stride=2), 5), (nn.Conv2d(64, 256, 3), 5),
        (nn.Conv2d(64, 256, 1, padding=1), 5),
        (nn.Conv2d(64, 256, 3, padding=2, dilation=2), 5), (nn.Conv2d(128, 256, 3, padding=1, groups=2), 5),
        (nn.Conv2d(64, 128, 3, padding=1), 5), (nn.Conv2d(64, 256, 3, padding="same"), 5),
        (nn.Conv2d(64, 256, 3, padding=1), 1), (nn.Conv2d(64, 256, 3, padding=1).double(), 5),
    ],
)  # fmt: skip
def test_any_other_convolution_is_left_as_it_is(conv, side, monkeypatch):
    def never(*_):
        raise AssertionError("computed by minimal filtering")

    monkeypatch.setattr(winograd, "conv2d", never)
    assert not winograd.pays(conv) or side == 1 or conv.weight.dtype == torch.float64
    x = torch.randn(2, conv.in_channels, side, side, dtype=conv.weight.dtype)
    with winograd.Quick():
        assert torch.equal(
            conv(x), F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        )


@pytest.mark.parametrize(("size", "most"), [((2, 2), 0.01), ((3, 3), 0.02), ((4, 4), 0.03), ((5, 3), 0.05)])
def test_in_bfloat16_outputs_and_gradients_are_near_and_their_error_has_no_side(size, most):
    torch.manual_seed(0)
    x, weight, upstream = torch.randn(16, 64, *size), torch.randn(64, 64, 3, 3) / 24, torch.randn(16, 64, *size)
    a, w = (t.bfloat16().to(dtype=d).requires_grad_() for t, d in ((x, torch.bfloat16), (weight, torch.float32)))
    y = winograd.conv2d(a, w)
    y.backward(upstream.bfloat16())
    assert (y.dtype, a.grad.dtype, w.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    b, v = (t.detach().double().requires_grad_() for t in (a, w))
    exact = F.conv2d(b, v, padding=1)
    exact.backward(upstream.bfloat16().double())
    for ours, theirs in ((y.detach(), exact.detach()), (a.grad, b.grad), (w.grad, v.grad)):
        error = ours.double() - theirs
        assert error.square().mean() < (most * theirs.square().mean().sqrt()) ** 2
        assert abs((error * theirs).mean() / theirs.square().mean()) < most / 10  # it neither shrinks nor grows


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(("inn", "side", "quick"), [(256, 5, True), (256, 6, False), (64, 3, False)])
def test_under_bfloat16_wide_layers_of_few_pixels_are_computed_so_where_the_cpu_has_it(
    inn, side, quick, wide, monkeypatch
):
    conv, x, seen, direct = nn.Conv2d(inn, 256, 3, padding=1), torch.randn(2, inn, side, side), [], winograd.conv2d
    monkeypatch.setattr(winograd.devices, "emulated", lambda precision: not wide)
    monkeypatch.setattr(winograd, "conv2d", lambda x, w: seen.append(x.dtype) or direct(x, w))
    with torch.autocast("cpu", torch.bfloat16):
        with winograd.Quick():
            y = conv(x)
        assert y.dtype == torch.bfloat16 and (y - conv(x)).norm() < 0.05 * y.norm()
    assert seen == [torch.bfloat16] * (quick and wide)
    with torch.autocast("cpu", torch.float16), winograd.Quick():
        conv(x)
    assert len(seen) == (quick and wide)


def test_a_second_derivative_is_refused():
    x, w = torch.randn(1, 4, 3, 3), torch.randn(4, 4, 3, 3, requires_grad=True)
    (first,) = torch.autograd.grad(winograd.conv2d(x, w).square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(("channels", "expected"), [(128, True), (16, False)])
def test_training_computes_wide_layers_so_and_leaves_others(channels, expected, monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.Flatten(),
        nn.LazyLinear(4),
    )  # fmt: skip
    task, direct, seen = TinyTask(), winograd.conv2d, []
    model(task.inputs(task.split("train").x[:1]))
    monkeypatch.setattr(winograd, "conv2d", lambda x, w: seen.append(1) or direct(x, w))
    train.fit(model, task, train.Plan(epochs=1, batch=48), Run())
    assert bool(seen) == expected

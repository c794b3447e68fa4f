"""Quantization against numbers worked by hand, NumPy, and autograd through a straight-through rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lessen.ops import quantization as q


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [(8, True, (-127, 127)), (8, False, (0, 255)), (4, True, (-7, 7)), (4, False, (0, 15)), (2, True, (-1, 1))],
)
def test_limits(bits: int, signed: bool, expected: tuple[int, int]) -> None:
    assert q.limits(bits, signed) == expected


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [
        (-1.0, 3.0, 4 / 255, 64.0),  # 255 / 4 = 63.75 rounds to 64
        (0.5, 2.55, 0.01, 0.0),  # 0 is always covered
        (-2.55, -1.0, 0.01, 255.0),
        (0.0, 0.0, torch.finfo(torch.float32).eps, 0.0),
    ],
)
def test_range_to_affine_by_hand(low: float, high: float, scale: float, zero: float) -> None:
    found, at = q.range_to_affine(torch.tensor(low), torch.tensor(high), 8)
    assert (found.item(), at.item()) == (pytest.approx(scale), zero)
    assert q.fake_quantize(torch.zeros(1), found, at, 0, 255).item() == 0.0


def test_the_covered_range_comes_back_within_half_a_step() -> None:
    x = torch.linspace(-0.7, 2.3, 1000)
    scale, zero = q.range_to_affine(x.min(), x.max(), 8)
    error = (q.fake_quantize(x, scale, zero, 0, 255) - x).abs().max()
    assert error <= scale * 1.0001  # half a step, and up to half a step more at the ends: the zero point is rounded
    inner = x[5:-5]
    assert (q.fake_quantize(inner, scale, zero, 0, 255) - inner).abs().max() <= scale * 0.5001


def test_integers_agree_with_numpy() -> None:
    rng = np.random.default_rng(0)
    x, scale, zero = rng.normal(size=(50, 7)).astype(np.float32), np.float32(0.0173), np.float32(31)
    expected = np.clip(np.rint(x / scale) + zero, 0, 255)
    found = q.quantize(torch.tensor(x), torch.tensor(scale), torch.tensor(zero), 0, 255)
    assert np.array_equal(found.numpy(), expected) and expected.min() == 0


def test_ties_go_to_even_and_values_outside_are_clipped() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, 300.0, -300.0])
    assert q.quantize(x, torch.tensor(1.0), 0.0, -127, 127).tolist() == [0.0, 2.0, 2.0, 0.0, 127.0, -127.0]


def test_quantizing_twice_is_quantizing_once() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    once = q.fake_quantize(x, torch.tensor(0.02), torch.tensor(100.0), 0, 255)
    assert torch.equal(q.fake_quantize(once, torch.tensor(0.02), torch.tensor(100.0), 0, 255), once)


def straight_through(x: Tensor, scale: Tensor, zero: float, low: int, high: int) -> Tensor:
    """The oracle: rounding passes gradients, clipping stops them, autograd does the rest.

    LSQ clips before it rounds; with a zero point what rounds to an integer inside counts as inside.
    """
    v = x / scale if low == 0 else torch.clamp(x / scale, low, high)
    rounded = v + (v.round() - v).detach()
    return (torch.clamp(rounded + zero, low, high) - zero) * scale


@pytest.mark.parametrize(("zero", "low", "high"), [(0.0, -7, 7), (5.0, 0, 15)])
@pytest.mark.parametrize("shape", [(1,), (6, 1)])
def test_gradients_agree_with_autograd(zero: float, low: int, high: int, shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 40, generator=g, requires_grad=True)
    scale = (torch.rand(shape, generator=g) * 0.1 + 0.05).requires_grad_()
    weights = torch.randn(6, 40, generator=g)
    found, expected = q.fake_quantize(x, scale, zero, low, high), straight_through(x, scale, zero, low, high)
    torch.testing.assert_close(found, expected)
    gx, gs = torch.autograd.grad((found * weights).sum(), (x, scale))
    ex, es = torch.autograd.grad((expected * weights).sum(), (x, scale))
    torch.testing.assert_close(gx, ex)
    slope = (expected / scale - x / scale * (ex != 0)).detach()
    over = {"dim": 1, "keepdim": True} if len(shape) > 1 else {}
    size = slope.norm(**over) * (x / scale).detach().norm(**over)
    torch.testing.assert_close(gs, es * (x.numel() / scale.numel()) ** 0.5 / size.reshape(shape), rtol=1e-4, atol=1e-5)
    assert 0 < (gx == 0).sum() < x.numel()  # some values lie outside


def test_a_gradient_by_hand() -> None:
    # x / s = 1.2 -> q 1, slope 1 - 1.2 = -0.2; x / s = 20 is clipped to 7, slope 7; of two values that share it
    x, scale = torch.tensor([0.6, 10.0], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    gx, gs = torch.autograd.grad(q.fake_quantize(x, scale, 0.0, -7, 7).sum(), (x, scale))
    assert gx.tolist() == [1.0, 0.0]
    assert gs.item() == pytest.approx(6.8 * 2**0.5 / (0.2**2 + 7**2) ** 0.5 / (1.2**2 + 20**2) ** 0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("zero", "low", "high", "x", "passes"),
    [
        (0.0, -1, 1, [0.4, 0.9, 1.0, 1.2, -1.3, -1.6], [1, 1, 1, 0, 0, 0]),  # signed: from the last integer on
        (1.0, 0, 3, [1.9, 2.2, 2.4, 2.6, -1.4, -1.6], [1, 1, 1, 0, 1, 0]),  # 1 + 2.4 rounds to 3, 1 - 1.4 to 0
    ],
)
def test_where_two_bits_end(zero: float, low: int, high: int, x: list[float], passes: list[int]) -> None:
    v, scale = torch.tensor(x, requires_grad=True), torch.tensor(0.5)
    q.fake_quantize(v * 0.5, scale, zero, low, high).sum().backward()
    assert v.grad is not None and (v.grad / 0.5).tolist() == passes


def test_values_are_the_same_with_and_without_gradients() -> None:
    x, scale = torch.randn(100, generator=torch.Generator().manual_seed(1)), torch.tensor(0.03)
    with_grad = q.fake_quantize(x.clone().requires_grad_(), scale, 3.0, 0, 255)
    assert torch.equal(with_grad, q.fake_quantize(x, scale, 3.0, 0, 255))

from __future__ import annotations

import pytest
import torch

from lessen.ops.logarithmic import logarithmic


def test_levels_by_hand() -> None:
    x = torch.tensor([1.0, -0.75, 0.7, 0.36, -0.3, 0.2, 0.17, 0.0])
    # exponents 0, -1, -2 and zero; the border between two levels is their geometric mean, 0.707 and 0.354
    assert logarithmic(x, 3).tolist() == [1.0, -1.0, 0.5, 0.5, -0.25, 0.25, 0.0, 0.0]


def test_the_number_of_levels_and_a_given_top() -> None:
    x = torch.linspace(-4, 4, 100_001)
    for bits in (2, 3, 4):
        assert len(logarithmic(x, bits).unique()) == 2**bits - 1
    assert logarithmic(torch.tensor([5.0, 1.0]), 4, top=1.0).tolist() == [1.0, 1.0]
    assert logarithmic(torch.zeros(3), 4).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_relative_error_is_bounded_wherever_there_are_levels(bits: int) -> None:
    x = torch.logspace(-(2 ** (bits - 1) - 2), 0, 1000, base=2.0)
    assert ((logarithmic(x, bits) - x).abs() / x).max() <= 2**0.5 - 1 + 1e-4


def test_gradients_pass_straight_through() -> None:
    x = torch.tensor([0.3, -0.01, 0.9], requires_grad=True)
    y = logarithmic(x, 3)
    y.sum().backward()
    assert torch.equal(y.detach(), logarithmic(x.detach(), 3)) and x.grad is not None and x.grad.tolist() == [1, 1, 1]

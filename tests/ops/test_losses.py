"""Soft targets against numbers worked by hand, NumPy and the limit of high temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessen.ops.losses import soft_targets


def test_two_classes_by_hand() -> None:
    # teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 3/4 ln 3 - ln 2
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    assert soft_targets(student, teacher, 1.0).item() == pytest.approx(0.75 * math.log(3) - math.log(2), abs=1e-6)
    # at T = 2 the teacher's logits must double for the same shares, and T^2 = 4
    assert soft_targets(student, 2 * teacher, 2.0).item() == pytest.approx(
        4 * (0.75 * math.log(3) - math.log(2)), abs=1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_mean_over_samples_agrees_with_numpy(temperature: float) -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(7, 5)) * 3, rng.normal(size=(7, 5)) * 3

    def shares(z: np.ndarray) -> np.ndarray:
        e = np.exp(z / temperature)
        return e / e.sum(1, keepdims=True)

    p, q = shares(teacher), shares(student)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    found = soft_targets(torch.tensor(student), torch.tensor(teacher), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_equal_logits_cost_nothing_and_a_shift_is_no_difference() -> None:
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    assert soft_targets(logits, logits + 5.0, 4.0).item() == pytest.approx(0.0, abs=1e-5)


def test_the_gradient_is_the_difference_of_shares_and_keeps_its_size() -> None:
    # d/dz = T (softmax(z / T) - softmax(t / T)) / n; as T grows it goes to (z - t) / (classes * n) for centred logits
    student = torch.tensor([[1.0, -1.0], [0.5, -0.5]], requires_grad=True)
    teacher = torch.tensor([[-1.0, 1.0], [2.0, -2.0]])
    for t in (1.0, 4.0):
        (grad,) = torch.autograd.grad(soft_targets(student, teacher, t), student)
        expected = t * (torch.softmax(student / t, 1) - torch.softmax(teacher / t, 1)) / 2
        torch.testing.assert_close(grad, expected.detach())
    (grad,) = torch.autograd.grad(soft_targets(student, teacher, 1000.0), student)
    torch.testing.assert_close(grad, (student - teacher).detach() / 4, atol=1e-4, rtol=1e-3)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = soft_targets(student, -student.detach(), 1.0)
    (grad,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss) and torch.isfinite(grad).all()

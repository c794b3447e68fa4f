"""What students learn from logits, against numbers worked by hand, NumPy and the limit of high temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessen.ops.losses import decoupled, soft_targets, softened_entropy, standardized, together


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


def test_entropy_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])  # shares 3/4 and 1/4
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert softened_entropy(logits, 1.0).item() == pytest.approx(expected)


def test_a_higher_temperature_has_more_entropy_up_to_that_of_equal_shares() -> None:
    logits = torch.tensor([[5.0, 1.0, 0.0, -2.0]])
    found = [softened_entropy(logits, t).item() for t in (0.5, 1, 4, 1e6)]
    assert found == sorted(found) and found[-1] == pytest.approx(math.log(4))


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


def test_standardized_by_hand() -> None:
    # (1, 2, 3): mean 2, standard deviation of n - 1 is 1; (0, 0, 3): mean 1, deviation sqrt((1 + 1 + 4) / 2) = sqrt 3
    found = standardized(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]]))
    root = math.sqrt(3)
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0, 1.0], [-1 / root, -1 / root, 2 / root]]))


def test_standardized_logits_forget_shift_and_spread_but_not_order() -> None:
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standardized(3 * logits - 7), standardized(logits), atol=1e-5, rtol=1e-4)
    assert torch.equal(standardized(logits).argsort(1), logits.argsort(1))
    assert torch.isfinite(standardized(torch.zeros(2, 4))).all()  # all alike: nothing to compare


def test_together_is_the_mean_of_shares_by_hand() -> None:
    # (3/4, 1/4) and (1/4, 3/4) give (1/2, 1/2); (1/2, 1/2) and (3/4, 1/4) give (5/8, 3/8)
    log3 = math.log(3)
    members = torch.tensor([[[log3, 0.0], [0.0, 0.0]], [[0.0, log3], [log3, 0.0]]])
    shares = torch.tensor([[0.5, 0.5], [5 / 8, 3 / 8]])
    torch.testing.assert_close(torch.softmax(together(members, 1.0), 1), shares)
    torch.testing.assert_close(torch.softmax(together(2 * members, 2.0) / 2, 1), shares)


def test_one_net_alone_is_itself() -> None:
    logits = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(1))
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    alone = soft_targets(student, together(logits, 3.0), 3.0)
    torch.testing.assert_close(alone, soft_targets(student, logits[0], 3.0))


SHARES = torch.tensor([[1 / 4, 1 / 2, 1 / 4]]), torch.tensor([[1 / 2, 1 / 4, 1 / 4]])  # of a student and its teacher


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_decoupled_by_hand(t: float) -> None:
    # class 0 is true: the teacher has 1/2 against 1/2, the student 1/4 against 3/4;
    # among the others the teacher has 1/2 and 1/2, the student 2/3 and 1/3
    student, teacher = (t * shares.log() + 5 for shares in SHARES)
    target, others = decoupled(student, teacher, torch.tensor([0]), t)
    assert target.item() == pytest.approx(t**2 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3)), rel=1e-5)
    assert others.item() == pytest.approx(t**2 * (0.5 * math.log(3 / 4) + 0.5 * math.log(3 / 2)), rel=1e-5)


@pytest.mark.parametrize("y", [0, 1, 2])
def test_the_halves_sum_up_to_soft_targets_by_what_the_teacher_leaves_to_others(y: int) -> None:
    generator = torch.Generator().manual_seed(y)
    student, teacher = torch.randn(1, 3, generator=generator), 3 * torch.randn(1, 3, generator=generator)
    target, others = decoupled(student, teacher, torch.tensor([y]), 2.0)
    left = 1 - torch.softmax(teacher / 2, 1)[0, y]
    torch.testing.assert_close(target + left * others, soft_targets(student, teacher, 2.0))


def test_decoupled_is_the_mean_over_samples_and_takes_blended_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 4, generator=generator) for _ in range(2))
    y = torch.tensor([3, 0, 1, 1, 2])
    whole = torch.stack(decoupled(student, teacher, y, 4.0))
    parts = [torch.stack(decoupled(student[i, None], teacher[i, None], y[i, None], 4.0)) for i in range(5)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(0))
    blended = 0.4 / 4 + 0.6 * torch.nn.functional.one_hot(y, 4)
    torch.testing.assert_close(torch.stack(decoupled(student, teacher, blended, 4.0)), whole)


def test_two_classes_leave_nothing_among_others_and_extremes_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    target, others = decoupled(student, -student.detach(), torch.tensor([0]), 1.0)
    (grad,) = torch.autograd.grad(target + others, student)
    assert torch.isfinite(target) and torch.isfinite(grad).all() and others.item() == 0.0

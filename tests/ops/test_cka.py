"""CKA against NumPy written another way, numbers by hand, and what must not move it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lessen.ops import cka


def features(n: int, p: int, seed: int) -> torch.Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def oracle(x: np.ndarray, y: np.ndarray) -> float:
    """Plain CKA from centred kernels, as equations 3 and 4 of Kornblith et al. have it."""
    n = len(x)
    h = np.eye(n) - 1 / n

    def hsic(k, l_):
        return np.trace(k @ h @ l_ @ h)

    k, l_ = x @ x.T, y @ y.T
    return hsic(k, l_) / np.sqrt(hsic(k, k) * hsic(l_, l_))


def debiased(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The estimate from HSIC_1 of one layer with one layer."""
    return cka.matrix(cka.Hsics.of([x], [y])).squeeze()


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 by its definition: a mean over all ordered quadruples of different samples (Song et al. 2012)."""
    from itertools import permutations

    k, l_ = x @ x.T, y @ y.T
    found = [k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return float(np.mean(found))


def test_by_hand():
    """x = -1, 0, 1 and y = 1, -2, 1 are centred and orthogonal; x and z = 0, 0, 3 correlate by sqrt(3)/2."""
    x, y, z = (torch.tensor(v)[:, None] for v in ([-1.0, 0, 1], [1.0, -2, 1], [0.0, 0, 3]))
    assert cka.linear(x, y) == pytest.approx(0)
    assert cka.linear(x, z) == pytest.approx(0.75)  # one feature each: the squared correlation


def test_linear_is_the_kernels_ratio():
    x, y = features(12, 30, 0), features(12, 5, 1) + features(12, 30, 0)[:, :5]
    assert cka.linear(x, y) == pytest.approx(oracle(x.numpy(), y.numpy()), rel=1e-10)


def test_debiased_is_the_mean_over_quadruples():
    x, y = features(7, 3, 0), features(7, 2, 1)
    y[:, 0] += x[:, 0]
    a, b = x.numpy(), y.numpy()
    expected = unbiased(a, b) / np.sqrt(unbiased(a, a) * unbiased(b, b))
    assert debiased(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_rotation_and_scale_move_nothing_but_other_maps_do():
    x = features(20, 6, 0)
    turn = torch.linalg.qr(features(6, 6, 3))[0]
    y = 7.5 * x @ turn + 3  # a shift too: features are centred
    assert cka.linear(x, y) == pytest.approx(1) and debiased(x, y).item() == pytest.approx(1)
    stretched = x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1], dtype=torch.float64))
    assert cka.linear(x, stretched) < 0.95
    other = features(20, 4, 5)
    assert cka.linear(x, other) == pytest.approx(cka.linear(x @ turn, -0.1 * other).item())


def test_few_samples_with_many_features_seem_alike_only_to_the_plain_estimate():
    x, y = features(40, 2000, 0), features(40, 2000, 1)
    assert cka.linear(x, y) > 0.9
    assert abs(debiased(x, y).item()) < 0.1


def test_minibatches_average_before_the_ratio():
    xs, ys = [features(9, 4, i) for i in range(3)], [features(9, 4, i) + features(9, 4, 50 + i) for i in range(3)]
    batches = [cka.Hsics.of([x], [y]) for x, y in zip(xs, ys, strict=True)]
    between = np.mean([unbiased(x.numpy(), y.numpy()) for x, y in zip(xs[:1], ys[:1], strict=True)])
    assert batches[0].between.item() == pytest.approx(between)
    top = torch.stack([b.between for b in batches]).sum()
    below = (torch.stack([b.own for b in batches]).sum() * torch.stack([b.other for b in batches]).sum()).sqrt()
    assert cka.matrix(*batches).item() == pytest.approx((top / below).item())


def test_left_out_is_the_estimate_of_the_rest():
    x, y = features(9, 4, 0), features(9, 4, 0) + features(9, 4, 1)
    found = cka.left_out(cka.Hsics.of([x], [y]))
    for i in range(9):
        rest = [j for j in range(9) if j != i]
        assert found[0, 0, i].item() == pytest.approx(debiased(x[rest], y[rest]).item(), rel=1e-9)


def test_left_out_of_two_batches_changes_its_own_batch():
    x, y = features(16, 4, 0), features(16, 4, 0) + features(16, 4, 1)
    a, b = cka.Hsics.of([x[:8]], [y[:8]]), cka.Hsics.of([x[8:]], [y[8:]])
    without_first = cka.Hsics.of([x[1:8]], [y[1:8]])
    assert cka.left_out(a, b).shape == (1, 1, 16)
    assert cka.left_out(a, b)[0, 0, 0].item() == pytest.approx(cka.matrix(without_first, b).item())


def test_every_layer_with_every_layer():
    xs, ys = [features(10, 3, i) for i in range(2)], [features(10, 5, 10 + i) for i in range(3)]
    found = cka.matrix(cka.Hsics.of(xs, ys))
    assert found.shape == (2, 3)
    assert found[1, 2].item() == pytest.approx(debiased(xs[1], ys[2]).item())


def test_a_layer_that_tells_nothing_apart_has_no_cka():
    assert debiased(torch.ones(8, 3), features(8, 2, 0)).isnan()


def test_three_samples_are_too_few():
    with pytest.raises(ValueError, match="needs 4 samples, not 3"):
        debiased(features(3, 2, 0), features(3, 2, 1))


def test_the_jackknife_of_a_mean_is_its_t_interval():
    """Leaving one out of a mean gives back the textbook standard error: of 1, 2, 3, 4 it is 0.6455, t(3) is 3.1824."""
    values = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    low, high = cka.jackknife(values.mean(), (values.sum() - values) / 3)
    assert (low.item(), high.item()) == (
        pytest.approx(2.5 - 3.18245 * 0.645497, rel=1e-5),
        pytest.approx(4.55426, 1e-4),
    )


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Two features of which one is shared, in 200 draws of 60 samples; the truth from 4,000 samples."""

    def pair(n, seed):
        x = features(n, 2, seed)
        return x, torch.cat([x[:, :1], features(n, 1, 10_000 + seed)], 1)

    truth = debiased(*pair(4000, 99)).item()
    held = 0
    for seed in range(200):
        hsics = cka.Hsics.of(*([v] for v in pair(60, seed)))
        low, high = cka.jackknife(cka.matrix(hsics), cka.left_out(hsics))
        held += low.item() <= truth <= high.item()
    assert 0.88 <= held / 200 <= 0.99

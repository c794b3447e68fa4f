"""The losses of layers against numbers worked by hand and NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessen.ops import feature_losses as fl


def test_tokens_stand_in_rows_on_a_square_and_vectors_on_one_place() -> None:
    tokens = torch.arange(8.0).reshape(1, 4, 2)  # token i is (2i, 2i + 1)
    assert fl.as_maps(tokens).tolist() == [[[[0.0, 2.0], [4.0, 6.0]], [[1.0, 3.0], [5.0, 7.0]]]]
    assert fl.as_maps(torch.zeros(3, 5, 2)).shape == (3, 2, 5, 1)
    assert fl.as_maps(torch.zeros(3, 5)).shape == (3, 5, 1, 1)
    assert fl.as_vectors(tokens).tolist() == [[3.0, 4.0]]
    maps = torch.rand(2, 3, 4, 5)
    assert fl.as_maps(maps) is maps


def test_the_larger_is_averaged_to_the_smaller() -> None:
    large, small = torch.arange(16.0).reshape(1, 1, 4, 4), torch.zeros(1, 3, 2, 2)
    a, b = fl.alike(large, small)
    assert a.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]] and b is small
    b, a = fl.alike(small, large)
    assert a.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]] and b is small
    a, b = fl.alike(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 2, 4))
    assert a.shape == b.shape == (1, 1, 2, 2)


def test_a_hint_is_the_mean_over_all_values() -> None:
    # differences 1, 2, 0, -1 in 2 samples of 2 channels: (1 + 4 + 0 + 1) / 4
    ours = torch.tensor([[1.0, 2.0], [0.0, 0.0]])[:, :, None, None]
    theirs = torch.tensor([[0.0, 0.0], [0.0, 1.0]])[:, :, None, None]
    assert fl.hint(ours, theirs).item() == pytest.approx(1.5)


def test_attention_by_hand() -> None:
    # sums of squares (3^2 + 0, 0 + 2 * 2^2) / 2 channels = (4.5, 4): direction (9, 8) / sqrt(145)
    maps = torch.tensor([[[[3.0, 2.0]], [[0.0, -2.0]]]])
    assert fl.attention(maps)[0].tolist() == pytest.approx([9 / math.sqrt(145), 8 / math.sqrt(145)])
    # one looks at the left place alone, the other at the right: ((1 - 0)^2 + (0 - 1)^2) / 2 places
    left, right = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, 0.1]]]])
    assert fl.attention_transfer(left, right).item() == pytest.approx(1.0)


def test_attention_ignores_scale_and_width_and_stands_zeros() -> None:
    maps = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert fl.attention_transfer(maps, torch.cat([maps, maps], 1) * -7).item() == pytest.approx(0, abs=1e-12)
    zeros = torch.zeros(1, 2, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(fl.attention_transfer(zeros, torch.ones(1, 1, 3, 3)), zeros)
    assert torch.isfinite(grad).all()


def test_attention_transfer_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 3, 4, 4)), rng.normal(size=(6, 8, 4, 4))

    def looks(x: np.ndarray) -> np.ndarray:
        sums = (x**2).sum(1).reshape(len(x), -1)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    expected = ((looks(a) - looks(b)) ** 2).mean()
    assert fl.attention_transfer(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_by_hand() -> None:
    # p = 3 c for the positive, c and c / 3 for two negatives, c = k / N: ln(4/3) + ln 2 + ln(4/3)
    c = 2 / 50
    positive, negatives = torch.tensor([3 * c]).log(), torch.tensor([[c, c / 3]]).log()
    expected = 2 * math.log(4 / 3) + math.log(2)
    assert fl.contrast(positive, negatives, math.log(c)).item() == pytest.approx(expected, abs=1e-6)


def test_contrast_is_the_published_sum_divided_by_samples() -> None:
    rng = np.random.default_rng(1)
    scores, n, k = rng.normal(size=(5, 8)), 30, 7
    likelihood, noise = np.exp(scores) / 40, k / n
    positive, negatives = likelihood[:, 0], likelihood[:, 1:]
    expected = -(np.log(positive / (positive + noise)).sum() + np.log(noise / (negatives + noise)).sum()) / 5
    logs = torch.tensor(np.log(likelihood))
    assert fl.contrast(logs[:, 0], logs[:, 1:], math.log(noise)).item() == pytest.approx(expected, rel=1e-6)
    far = torch.tensor([[-200.0, 200.0]], requires_grad=True)  # no logarithm of nought
    loss = fl.contrast(far[:, 0], far[:, 1:], math.log(noise))
    assert torch.isfinite(loss) and torch.isfinite(torch.autograd.grad(loss, far)[0]).all()


def test_negatives_are_of_other_classes_and_uniform_among_them() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0])
    order = labels.argsort(stable=True)
    starts = torch.tensor([0, 3, 5, 8])
    generator = torch.Generator().manual_seed(0)
    asked = torch.tensor([0, 1, 2])
    drawn = fl.unlike(asked, order, starts, 30_000, generator)
    assert drawn.shape == (3, 30_000)
    for label, row in zip(asked.tolist(), drawn, strict=True):
        counts = torch.bincount(row, minlength=8)
        others = labels != label
        assert not counts[~others].any()
        share = 30_000 / int(others.sum())
        assert ((counts[others] - share).abs() < 5 * math.sqrt(share)).all()

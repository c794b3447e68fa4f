"""Calibration by hand, by an oracle, and by what chance gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessen.analyze import closeness
from lessen.ops import confidence

SURE = torch.tensor([0.55, 0.65, 0.75, 0.85, 0.95, 0.95])
RIGHT = torch.tensor([True, False, True, True, True, False])


def test_bins_of_equal_count_by_hand():
    """(0.55, 0.65, 0.75) with 2 right and (0.85, 0.95, 0.95) with 2: |1.95 - 2| and |2.75 - 2| of 6."""
    found = confidence.bins(SURE, RIGHT, 2)
    assert [(b.n, b.right) for b in found] == [(3, 2), (3, 2)]
    assert [b.confidence for b in found] == [pytest.approx(0.65), pytest.approx(2.75 / 3)]
    assert confidence.ece(SURE, RIGHT, 2) == pytest.approx((0.05 + 0.75) / 6)


def test_bins_of_equal_width_by_hand():
    """(0.5, 1] holds all six: |4.7 - 4| / 6; with ten bins only the last has two."""
    assert [b.n for b in confidence.bins(SURE, RIGHT, 2, "width")] == [6]
    assert confidence.ece(SURE, RIGHT, 2, "width") == pytest.approx(0.7 / 6)
    found = confidence.bins(SURE, RIGHT, 10, "width")
    assert [(b.low, b.high, b.n) for b in found] == [
        (0.5, 0.6, 1), (0.6, 0.7, 1), (0.7, 0.8, 1), (0.8, 0.9, 1), (0.9, 1.0, 2)
    ]  # fmt: skip


def test_one_is_in_the_last_bin_and_zero_in_the_first():
    found = confidence.bins(torch.tensor([0.0, 1.0]), torch.tensor([False, True]), 10, "width")
    assert [(b.low, b.n) for b in found] == [(0.0, 1), (0.9, 1)] and confidence.error(found) == 0


def test_scores_by_hand():
    """Shares 3/4 and 1/4, the second class is right: Brier 2 * (3/4)^2, log loss ln 4."""
    logits, y = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([1])
    assert confidence.top(logits).item() == pytest.approx(0.75)
    assert confidence.brier(logits, y).item() == pytest.approx(9 / 8)
    assert confidence.nll(logits, y).item() == pytest.approx(math.log(4))


def test_chance_gives_an_error_that_shrinks_with_samples():
    """The mean over draws is the closed form of `analyze`, and quadruple samples halve it."""
    small = torch.rand(400, generator=torch.Generator().manual_seed(0)) / 2 + 0.5
    large = small.repeat(4)
    assert confidence.expected(small).mean().item() == pytest.approx(
        closeness.by_chance(small.double().numpy()), rel=0.05
    )
    assert confidence.expected(large).mean() / confidence.expected(small).mean() == pytest.approx(0.5, abs=0.05)


def test_the_interval_of_a_large_error_is_around_it():
    random = torch.Generator().manual_seed(0)
    sure = torch.full((500,), 0.95)
    right = torch.rand(500, generator=random) < 0.6
    low, high = confidence.resampled(sure, right)
    error = confidence.ece(sure, right)
    assert low < error < high and 0.05 < high - low < 0.15


def test_analyze_counts_the_same_error():
    random = np.random.default_rng(0)
    sure, right = random.uniform(0.3, 1, 137), random.random(137) < 0.6
    found = closeness.gaps(sure, right).mean()
    assert found == pytest.approx(confidence.ece(torch.from_numpy(sure), torch.from_numpy(right)))

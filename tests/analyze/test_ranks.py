"""Rank correlation by hand and against scipy; steadiness of rankings that are sure and that are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lessen.analyze.ranks import places_of, spearman, steadiness


def test_four_in_order_by_hand():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == (1.0, 2 / 24, 4)  # this order and its reverse, of 4! = 24
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1])[:2] == (-1.0, 2 / 24)


@pytest.mark.parametrize("n", [6, 30])
def test_rho_is_scipys_and_p_is_near_its_own(n):
    random = np.random.default_rng(n)
    a = random.random(n)
    b = np.round(a + random.random(n), 1)  # with ties
    expected = stats.spearmanr(a, b)
    found = spearman(list(a), list(b))
    assert found.rho == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_what_does_not_vary_correlates_with_nothing():
    found = spearman([1, 2, 3], [5, 5, 5])
    assert math.isnan(found.rho) and found.p == 1


def test_places_share_ties_and_start_at_the_largest():
    assert places_of(np.array([0.1, 0.5, 0.1])).tolist() == [2.5, 1.0, 2.5]


def test_a_sure_ranking_and_one_by_luck():
    random = np.random.default_rng(0)
    sure = steadiness(np.array([[0.1], [0.5], [0.9]]) + 0.01 * random.standard_normal((3, 50)))
    assert sure.places == [(3, 3), (2, 2), (1, 1)] and sure.low == pytest.approx(1)
    luck = steadiness(random.standard_normal((8, 20)))
    assert luck.low < 0.6 and max(high - low for low, high in luck.places) >= 3

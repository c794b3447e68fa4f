from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lessen.analyze.power import pooled_spread, smallest_effect


def test_pooled_spread_by_hand():
    # deviations: -1, 1 | -2, 0, 2 | one value says nothing: sum of squares 10, freedom 3
    assert pooled_spread([(1, 3), (4, 6, 8), (5,)]) == (pytest.approx(math.sqrt(10 / 3)), 3)
    assert pooled_spread([(1.0,), ()])[1] == 0


@pytest.mark.parametrize("freedom", [1, 2, 4, 10, 1000])
@pytest.mark.parametrize("tests", [1, 8, 45])
def test_the_smallest_effect_has_that_power(freedom, tests):
    effect = smallest_effect(2.0, 4, freedom, alpha=0.05 / tests)  # its standard error is 1
    assert stats.nct.sf(stats.t.ppf(1 - 0.025 / tests, freedom), freedom, effect) == pytest.approx(0.8, abs=1e-4)


def test_smallest_effect_with_many_degrees_of_freedom_by_table():
    assert smallest_effect(1.0, 1, 10**6) == pytest.approx(1.9600 + 0.8416, abs=1e-3)  # of the normal distribution
    assert math.isnan(smallest_effect(math.nan, 1, 0))


@pytest.mark.parametrize("n, tests", [(12, 1), (3, 10)])
def test_an_effect_of_that_size_is_seen_four_times_of_five(n, tests):
    sd, rng, alpha = 0.3, np.random.default_rng(0), 0.05 / tests
    draws = rng.normal(smallest_effect(sd, n, n - 1, alpha=alpha), sd, size=(20_000, n))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(n))
    assert (abs(t) > stats.t.ppf(1 - alpha / 2, n - 1)).mean() == pytest.approx(0.8, abs=0.02)

from __future__ import annotations

import math

import numpy as np
import pytest

from lessen.analyze.power import pooled_spread, smallest_effect


def test_pooled_spread_by_hand():
    # deviations: -1, 1 | -2, 0, 2 | one value says nothing: sum of squares 10, freedom 3
    assert pooled_spread([(1, 3), (4, 6, 8), (5,)]) == (pytest.approx(math.sqrt(10 / 3)), 3)
    assert pooled_spread([(1.0,), ()])[1] == 0


def test_smallest_effect_by_table():
    # t(0.975, 10) = 2.2281, t(0.8, 10) = 0.8791
    assert smallest_effect(2.0, 4, 10) == pytest.approx((2.2281 + 0.8791) * 2 / 2, abs=1e-3)
    assert math.isnan(smallest_effect(math.nan, 1, 0))


def test_an_effect_of_that_size_is_seen_four_times_of_five():
    n, sd, rng = 12, 0.3, np.random.default_rng(0)
    draws = rng.normal(smallest_effect(sd, n, n - 1), sd, size=(20_000, n))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(n))
    assert (abs(t) > 2.2010).mean() == pytest.approx(0.8, abs=0.02)  # t(0.975, 11)

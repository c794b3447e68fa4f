"""One number a seed: t intervals, paired differences and their correction, by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import nct

from lessen.analyze.over_seeds import corrected, gap, mean

NAN = math.nan


def test_a_mean_by_hand():
    """Of 1, 2, 3: standard error 1 / sqrt(3), and t at 97.5 % with two degrees of freedom is 0.95 / sqrt(0.04875)."""
    half = 0.95 / math.sqrt(0.04875) / math.sqrt(3)
    assert mean([1.0, 2.0, 3.0])[:3] == pytest.approx((2, 2 - half, 2 + half))
    assert mean([1.0, 2.0, 3.0], 0.0, 4.0)[1:3] == (0.0, 4.0)


def test_a_seed_without_a_value_is_left_out_and_kept_in_its_place():
    found = mean([1.0, NAN, 3.0])
    assert found.value == 2 and found.values[0] == 1 and math.isnan(found.values[1])
    assert mean([NAN, NAN]) is None and gap([1.0, NAN], [NAN, 1.0]) is None


def test_one_seed_has_neither_interval_nor_test():
    only = mean([0.5])
    assert only.value == 0.5 and math.isnan(only.low) and math.isnan(only.high)
    (one,) = corrected([gap([0.9], [0.1])])
    assert (one.value, one.p, one.p_holm, one.smallest, one.clear) == (0.8, None, None, None, False)


def test_a_difference_is_paired():
    """3 - 2, 5 - 3, 7 - 4 are 1, 2, 3: t = 2 sqrt(3), of which two degrees of freedom leave 1 - t / sqrt(t^2 + 2)."""
    found = gap([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    t = 2 * math.sqrt(3)
    assert found.values == (1, 2, 3) and found.value == 2 and found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert found.low == pytest.approx(2 - 2.4841, abs=1e-4)


@pytest.mark.parametrize("ours", [[0.9, 0.8, 0.7], [0.5, 0.5, 0.5]])
def test_without_a_spread_there_is_no_test(ours):
    """0.9 - 0.8 and 0.8 - 0.7 differ in their last digit alone."""
    theirs = [v - 0.1 for v in ours]
    (found,) = corrected([gap(ours, theirs)])
    assert found.value == pytest.approx(0.1) and found.p is None and not found.clear


def test_correction_is_over_all_that_have_a_test():
    steady, wild, none = gap([1.0, 1.01, 1.02], [0.0, 0.0, 0.0]), gap([1.0, -2.0, 2.0], [0.0, 0.0, 0.0]), gap([1], [0])
    found = corrected([wild, None, none, steady])
    assert found[1] is None and found[2] == none
    assert found[3].p_holm == pytest.approx(2 * steady.p) and found[3].clear
    assert found[0].p_holm == pytest.approx(wild.p) and not found[0].clear


def test_what_would_have_been_seen_is_seen_in_four_of_five_studies():
    """With two degrees of freedom t at p is (2 p - 1) / sqrt(2 p (1 - p)); of two tests each has 2.5 %."""
    other = gap([1.0, -2.0, 2.0], [0.0, 0.0, 0.0])
    found, _ = corrected([gap([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), other])
    p = 1 - 0.025 / 2
    limit = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert nct.sf(limit, 2, found.smallest * math.sqrt(3)) == pytest.approx(0.8)  # the standard error is 1 / sqrt 3

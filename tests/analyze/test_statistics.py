"""Intervals and differences against scipy, brute force and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lessen.analyze.power import smallest_effect
from lessen.analyze.statistics import (
    Difference,
    holm,
    mean_interval,
    paired_difference,
    seed_difference,
    summary,
    wilson,
)


@pytest.mark.parametrize("n", [1, 2, 7, 898, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.997, 1.0])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(n: int, share: float, confidence: float) -> None:
    right = round(n * share)
    expected = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert wilson(right, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends_are_exact() -> None:
    for n in range(1, 200):
        assert wilson(0, n)[0] == 0.0
        assert wilson(n, n)[1] == 1.0


@pytest.mark.parametrize(("right", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(right, n)


def test_summary_by_hand() -> None:
    assert summary([0.9, 0.8, 0.7, 0.8]) == pytest.approx((0.8, math.sqrt(0.02 / 3), 4))


def test_one_value_has_no_known_spread() -> None:
    mean, sd, n = summary([0.5])
    assert (mean, n) == (0.5, 1)
    assert math.isnan(sd)


def test_summary_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        summary([])


def answers(seed: int, seeds: int, images: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < share


def test_difference_by_hand() -> None:
    a = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    b = np.array([[0, 1, 0, 0], [1, 0, 0, 0]])
    found = paired_difference(a, b)  # d = [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert found.value == 3 / 8
    # seeds' means 1/2, 1/4: variance 1/32, over 2 seeds; images' means 1/2, 1/2, 1/2, 0: variance 1/16, over 4
    parts = (1 / 32 / 2, 1 / 16 / 4)
    assert found.error == pytest.approx(math.sqrt(sum(parts)))
    assert found.freedom == int(sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 3)) == 3
    assert stats.nct.sf(stats.t.ppf(0.975, 3), 3, found.smallest() / found.error) == pytest.approx(0.8)


def test_bootstrap_is_the_brute_force_one() -> None:
    a, b = answers(1, 4, 60, 0.9), answers(2, 4, 60, 0.7)
    found = paired_difference(a, b, resamples=40_000)
    d, random = a.astype(float) - b, np.random.default_rng(5)
    naive = [d[np.ix_(random.integers(0, 4, 4), random.integers(0, 60, 60))].mean() for _ in range(20_000)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])), abs=0.006)


def test_one_seed_is_scipys_bootstrap_over_images() -> None:
    a, b = answers(3, 1, 400, 0.9), answers(4, 1, 400, 0.85)
    d = (a.astype(float) - b)[0]
    expected = stats.bootstrap((d,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    found = paired_difference(a, b, resamples=20_000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)
    assert "other seeds may differ" in str(found)


def test_seeds_that_disagree_are_not_outvoted_by_many_images() -> None:
    """Gains of 0, 4 and 8 points over three seeds: the images are sure of each, the seeds of nothing."""
    b = np.zeros((3, 10_000), bool)
    a = b.copy()
    a[1, :400] = a[2, :800] = True
    found = paired_difference(a, b)
    assert found.value == pytest.approx(0.04)
    assert not found.clear
    assert found.smallest() > 0.1
    assert "not clear" in str(found)


def test_false_alarms_stay_rare_with_three_seeds() -> None:
    """Two recipes that are equal but for luck of seed (1 point) and image: at most 5 % may look clear."""
    random, alarms = np.random.default_rng(0), 0
    for trial in range(200):
        shares = 0.9 + 0.01 * random.standard_normal((2, 3, 1))
        a, b = random.random((2, 3, 500)) < shares
        alarms += paired_difference(a, b, resamples=400, seed=trial).clear
    assert alarms <= 16  # 5 % of 200 is 10, and two standard deviations


def test_a_large_difference_is_seen() -> None:
    found = paired_difference(answers(6, 3, 898, 0.95), answers(7, 3, 898, 0.80))
    assert found.clear
    assert 0.10 < found.low < found.value < found.high < 0.20
    assert str(found).startswith(f"+{100 * found.value:.2f} points (95 % ")
    assert f"3 seeds; 898 images), clear; a difference below {100 * found.smallest():.2f} points" in str(found)


def test_equal_answers_differ_by_nothing() -> None:
    a = answers(8, 3, 50, 0.5)
    found = paired_difference(a, a)
    assert (found.value, found.low, found.high, found.clear) == (0, 0, 0, False)
    assert math.isnan(found.smallest())
    assert "nan" not in str(found)


ALL_RIGHT = np.ones((2, 40), bool)


@pytest.mark.parametrize("found", [
    seed_difference([0.75, 0.5], [0.5, 0.25]),
    seed_difference([0.9, 0.8, 0.7], [0.89, 0.79, 0.69]),  # which differ in their last digits
    paired_difference(ALL_RIGHT, ~ALL_RIGHT),
    paired_difference(np.array([[1], [1], [0], [1]]), np.zeros((4, 1))),  # one image
], ids=["scores", "rounded scores", "every answer", "one image"])  # fmt: skip
def test_a_difference_without_a_spread_is_never_clear(found: Difference) -> None:
    assert found.value and (found.p, found.clear) == (1.0, False) and math.isnan(found.smallest())
    assert found.low < found.value < found.high or (found.value, found.high) == (1, 1)
    assert "not clear" in str(found) and "nan" not in str(found)


def test_images_that_are_all_lost_have_wilsons_interval() -> None:
    found = paired_difference(~ALL_RIGHT, ALL_RIGHT)
    z2 = stats.norm.ppf(0.975) ** 2
    # none of 40 stayed, which Wilson's interval takes for at most z2 / (40 + z2) of all
    assert (found.value, found.low, found.high) == (-1, -1, pytest.approx(2 * z2 / (40 + z2) - 1))


def test_without_a_spread_a_score_has_wilsons_interval() -> None:
    for right in (ALL_RIGHT, ~ALL_RIGHT, ALL_RIGHT[:1]):
        assert mean_interval(right) == wilson(int(right[0].sum()), 40)
    assert mean_interval(np.array([[0.93], [0.93], [0.93]]), 100) == wilson(93, 100)
    assert mean_interval(np.array([[0.92], [0.94]]), 100) != wilson(93, 100)  # seeds that differ speak for themselves


@pytest.mark.parametrize("tests", [1, 20])
def test_a_difference_called_visible_is_clear_in_four_of_five_studies_after_correction(tests: int) -> None:
    n, sd, studies, random = 6, 0.01, 1_000, np.random.default_rng(0)
    real = np.arange(tests) == 0
    effect = Difference(0.0, 0.0, 0.0, sd / math.sqrt(n), n - 1, n, 0).smallest(tests)
    draws = random.normal(real * effect, sd, (studies, n, tests))
    ps = stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert np.mean([holm(row)[0] <= 0.05 for row in ps.tolist()]) == pytest.approx(0.8, abs=0.05)
    assert effect == pytest.approx(smallest_effect(sd, n, n - 1, alpha=0.05 / tests))


def test_difference_is_repeatable_and_turns_round() -> None:
    a, b = answers(9, 3, 200, 0.9), answers(10, 3, 200, 0.8)
    assert paired_difference(a, b) == paired_difference(a, b)
    assert paired_difference(b, a).value == -paired_difference(a, b).value


@pytest.mark.parametrize("shape", [(3,), (2, 4), (0, 5)])
def test_difference_refuses_what_is_no_pair(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.zeros(shape), np.zeros((3, 4)) if shape != (0, 5) else np.zeros((0, 5)))

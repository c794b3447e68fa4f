"""Laws with known constants are found again, whatever is none is said to be none, and the front is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lessen.analyze import scaling
from lessen.analyze.scaling import Arm, between, fit, front, law, resampled, solve

BITS = np.array([10e3, 20e3, 45e3, 90e3, 200e3])


def arm(name: str, bits: np.ndarray, errors: np.ndarray, spread: float = 0.05, draws: int = 400) -> Arm:
    """Draws that vary by `spread` around the errors, on a logarithmic scale."""
    noise = np.random.default_rng(1).normal(0, spread, (draws, len(bits)))
    return Arm(name, bits, errors, errors * np.exp(noise))


@pytest.mark.parametrize("a, b, c", [(900.0, 1.0, 0.0), (40.0, 0.6, 0.01), (2e5, 1.7, 0.02), (3.0, 0.3, 0.0)])
def test_known_constants_are_found_again(a, b, c):
    found = fit(arm("4 bits", BITS, a * BITS**-b + c), seeds=5)
    assert found.why == "" and found.sizes == 5 and found.floor
    assert found.b == pytest.approx(b, abs=0.01) and found.c == pytest.approx(c, abs=1e-3)
    assert found.a == pytest.approx(a, rel=0.1)
    assert found.low is not None and found.high is not None and found.low < b < found.high
    assert found.miss == pytest.approx(0, abs=1e-3) and found.explains == pytest.approx(1, abs=1e-4)
    assert found.at(45e3) == pytest.approx(a * 45e3**-b + c, rel=1e-3)


def test_noise_widens_the_interval_and_is_the_residual():
    errors = 900 * BITS**-1.0
    noisy = errors * np.exp(np.random.default_rng(2).normal(0, 0.1, 5))
    sure, unsure = fit(arm("a", BITS, errors, 0.02), 5), fit(arm("a", BITS, noisy, 0.15), 5)
    assert sure.high - sure.low < unsure.high - unsure.low
    assert 0.02 < unsure.miss < 0.3 and unsure.explains < sure.explains


def test_without_a_floor_the_fit_is_the_straight_line_of_the_logarithms():
    errors = np.array([0.3, 0.2, 0.08])
    a, b, c, left = (float(v[0]) for v in solve(BITS[:3], errors[None], floor=False))
    slope, start = np.polyfit(np.log(BITS[:3]), np.log(errors), 1)
    assert (a, b, c) == pytest.approx((np.exp(start), -slope, 0), rel=5e-3)  # the last grid is 0.001 apart
    assert left == pytest.approx(((np.log(errors) - start - slope * np.log(BITS[:3])) ** 2).sum(), rel=1e-3)


def test_a_floor_is_never_negative():
    steeper = np.exp(-((np.log(BITS) - np.log(1e3)) ** 2) / 10)  # bends down on both logarithmic scales
    assert float(solve(BITS, steeper[None], floor=True)[2][0]) == 0


@pytest.mark.parametrize("errors, why", [
    ([0.3, 0.2], "needs 3 sizes or more, and 2 finished"),
    ([0.02, 0.05, 0.1, 0.2, 0.3], "does not fall as bits grow"),
    ([0.3, 0.02, 0.28, 0.03, 0.2], "points do not follow a curve"),
    ([0.1, 0.1, 0.1, 0.1, 0.1], ""),
    ([0.9, 0.02, 0.02, 0.02, 0.02], "over a cliff"),
])  # fmt: skip
def test_what_is_no_law_is_said_to_be_none(errors, why):
    found = fit(arm("a", BITS[: len(errors)], np.array(errors), 0.02), seeds=5)
    assert found.why and why in found.why
    assert found.at(5e4) is None


def test_a_law_that_the_resamples_do_not_bear_is_none():
    errors = np.array([0.12, 0.11, 0.105, 0.1, 0.095])
    assert fit(arm("a", BITS, errors, 0.01), 5).why == ""
    assert "does not clearly fall" in fit(arm("a", BITS, errors, 0.5), 5).why
    assert "one seed" in fit(arm("a", BITS, errors, 0.01), 1).why


def test_the_front_is_the_least_error_between_sizes_on_logarithmic_scales():
    # at 20 k, the geometric mean of 10 k and 40 k: 4 bits sqrt(0.4 x 0.1) = 0.2, 8 bits 0.3
    four = arm("4 bits", np.array([10e3, 40e3]), np.array([0.4, 0.1]), 0.01)
    eight = arm("8 bits", np.array([20e3, 80e3]), np.array([0.3, 0.02]), 0.01)
    assert between(four.bits, four.errors[None], 20e3)[0] == pytest.approx(0.2)
    found = front([four, eight], seeds=5)
    assert [found[0].budget, found[-1].budget] == pytest.approx([20e3, 80e3]) and len(found) == scaling.BUDGETS
    assert found[0].errors == pytest.approx({"4 bits": 0.2, "8 bits": 0.3})
    assert (found[0].arm, found[0].share, found[0].rivals, found[0].sure) == ("4 bits", 1.0, (), True)
    assert found[-1].errors == pytest.approx({"4 bits": 0.1, "8 bits": 0.02})  # nothing is guessed above 40 k
    assert found[-1].arm == "8 bits"


def test_prices_are_bits_at_an_error_that_all_reach():
    four = arm("4 bits", np.array([10e3, 40e3]), np.array([0.4, 0.1]), 0.01)
    eight = arm("8 bits", np.array([20e3, 80e3]), np.array([0.9, 0.1]), 0.01)
    found = law([eight, four], 5, 100)
    assert found.level == pytest.approx(0.2)  # sqrt(0.1 x 0.4)
    assert [p.arm for p in found.prices] == ["4 bits", "8 bits"]
    assert found.prices[0].bits == pytest.approx(20e3)
    # ln(0.9 / 0.2) / ln(0.9 / 0.1) = 0.6845 of the way from 20 k to 80 k: 20 k x 4^0.6845
    assert found.prices[1].bits == pytest.approx(20e3 * 4**0.68453, rel=1e-3)
    assert found.prices[0].low < 20e3 < found.prices[0].high


def test_an_error_out_of_an_arms_reach_has_no_price():
    good, bad = arm("a", BITS, 0.1 * (BITS / BITS[0]) ** -1), arm("b", BITS, np.full(5, 0.5))
    assert law([good, bad], 5, 100).prices == ()
    assert np.isinf(scaling.needed(BITS, np.full((1, 5), 0.5), 0.2)).all()


def test_where_two_arms_are_as_good_the_front_is_not_sure():
    one, two = (arm(name, BITS, 900 / BITS) for name in ("a", "b"))
    two = two._replace(draws=np.random.default_rng(3).permutation(two.draws))
    for held in front([one, two], seeds=5):
        assert 0.3 < held.share < 0.7 and not held.sure and held.rivals


def test_one_arm_has_no_front():
    assert law([arm("a", BITS, 900 / BITS)], 5, 100).front == ()


def test_one_seed_is_sure_of_nothing():
    good, bad = arm("a", BITS, 900 / BITS), arm("b", BITS, 2000 / BITS)
    for seeds in (1, 5):
        assert {(held.arm, held.share, held.sure) for held in law([good, bad], seeds, 100).front} == {
            ("a", 1.0, seeds > 1)
        }


def test_two_models_of_one_size_are_one_with_the_mean_of_their_errors():
    # at 10 k both 0.4 and 0.1: 0.2; half way to 40 k on the scale, at 20 k, sqrt(0.2 x 0.05) = 0.1
    twice = arm("a", np.array([10e3, 10e3, 40e3]), np.array([0.4, 0.1, 0.05]), 0.01)
    found = law([twice, arm("b", np.array([5e3, 20e3]), np.array([0.5, 0.3]), 0.01)], 5, 100)
    assert [held.errors["a"] for held in found.front] == pytest.approx(
        [0.2 * 2 ** -np.log2(held.budget / 10e3) for held in found.front]
    )
    assert all(held.arm == "a" and held.sure for held in found.front)
    assert scaling.merged(twice).draws == pytest.approx(
        np.stack([np.sqrt(twice.draws[:, 0] * twice.draws[:, 1]), twice.draws[:, 2]], 1)
    )
    largest = arm("a", np.array([10e3, 40e3, 40e3]), np.array([0.4, 0.2, 0.05]), 0.01)
    assert law([largest, twice._replace(name="b")], 5, 100).front[-1].errors["a"] == pytest.approx(0.1)


def test_resamples_are_paired_and_keep_the_mean():
    random = np.random.default_rng(0)
    right = [random.random((5, 300)) < share for share in (0.9, 0.7)]
    drawn = resampled(right, 0.5 / 300, 2_000)
    assert drawn.shape == (2_000, 2)
    assert drawn.mean(0) == pytest.approx([1 - r.mean() for r in right], abs=2e-3)
    same = resampled([right[0], right[0]], 0.5 / 300, 50)
    assert (same[:, 0] == same[:, 1]).all()
    assert (resampled([np.ones((2, 100))], 0.5 / 100, 10) == 0.5 / 100).all()  # no error has no logarithm

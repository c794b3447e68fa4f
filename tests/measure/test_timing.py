"""Alternated timing on a clock made by hand: no test here depends on how fast the machine is."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from lessen.measure import timing
from lessen.measure.timing import alternate, latency


class Clock:
    """Time that moves only when a call is made, faster or slower by `drift` as it goes on."""

    def __init__(self, drift: float = 0.0) -> None:
        self.now, self.drift, self.calls = 0.0, drift, []

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, seconds: float):
        def run() -> None:
            self.calls.append(name)
            self.now += seconds * (1 + self.drift * self.now)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_times_are_per_call(clock: Clock) -> None:
    ms = alternate([clock.call("a", 0.001), clock.call("b", 0.004)], 30)
    assert ms.shape == (30, 2)
    np.testing.assert_allclose(ms, np.tile([1.0, 4.0], (30, 1)))
    row = latency(64, ms)
    assert (row.batch, row.n) == (64, 30)
    assert (row.median_ms, row.ratio) == pytest.approx((1.0, 0.25))
    assert (row.iqr_ms, row.ratio_iqr) == pytest.approx((0, 0), abs=1e-9)


def test_short_calls_run_in_blocks_of_5_ms_and_one_call_before(clock: Clock) -> None:
    alternate([clock.call("a", 0.001)], 1)
    assert len(clock.calls) == 50 + 1 + 5  # warm-up of 50 ms, one for the caches, the block


def test_long_calls_run_one_by_one_and_the_order_turns_round(clock: Clock) -> None:
    alternate([clock.call("a", 0.1), clock.call("b", 0.2)], 4)
    assert clock.calls == ["a"] * 3 + ["b"] * 3 + list("abbaabba")


def test_a_machine_that_slows_down_moves_times_but_not_the_ratio(clock: Clock) -> None:
    clock.drift = 0.5
    row = latency(1, alternate([clock.call("a", 0.01), clock.call("b", 0.02)], 40))
    assert row.iqr_ms > 1
    assert row.ratio == pytest.approx(0.5, rel=0.02)


def test_the_ratio_is_the_median_of_pairs_not_a_ratio_of_medians() -> None:
    ms = np.array([[1.0, 1.0], [2.0, 4.0], [30.0, 10.0], [4.0, 5.0], [5.0, 10.0]])
    row = latency(1, ms)  # pairs 1, 0.5, 3, 0.8, 0.5
    assert (row.median_ms, row.iqr_ms) == (4.0, 3.0)
    assert (row.ratio, row.ratio_iqr) == (0.8, 0.5)


def test_without_baseline_there_is_no_ratio() -> None:
    row = latency(1, np.array([[1.0], [3.0], [2.0]]))
    assert (row.median_ms, row.n, row.ratio, row.ratio_iqr) == (2.0, 3, None, None)


def test_a_call_too_fast_for_the_clock_still_ends(clock: Clock) -> None:
    alternate([clock.call("a", 0.0)], 2)
    assert len(clock.calls) == timing.MOST_CALLS * 3 + 2


def test_the_garbage_collector_rests_meanwhile_and_comes_back() -> None:
    seen: list[bool] = []
    alternate([lambda: seen.append(gc.isenabled())], 1)
    assert not seen[-1]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        alternate([fails_when_timed()], 1)
    assert gc.isenabled()


def fails_when_timed():
    def run() -> None:
        if not gc.isenabled():
            raise ZeroDivisionError

    return run

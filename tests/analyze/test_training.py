"""Courses of training worked by hand: recovery, steadiness, effort, bands."""

from __future__ import annotations

import pytest
from made_rows import DENSE, record, trial

from lessen.analyze import training


@pytest.mark.parametrize(
    "scores, level, epoch",
    [
        ((0.7, 0.9, 0.8, 0.9, 0.95), 0.85, 4),  # it fell once more after the second
        ((0.7, 0.9, 0.8, 0.9, 0.84), 0.85, None),  # it ends below
        ((0.9, 0.9), 0.85, 1),
        ((0.1, 0.85), 0.85, 2),  # exactly there
        ((0.1, 0.95 * 0.9), 0.95 * 0.9, 2),
        ((), 0.1, None),
    ],
)
def test_recovered_is_for_good(scores, level, epoch):
    assert training.recovered(list(enumerate(scores, 1)), level) == epoch


def test_a_course_counts_epochs_over_all_steps_and_shows_what_did_not_train():
    steps = (
        record("ChannelPrune(ratio=0.5)", score=0.3),
        record("Finetune(epochs=2)", (0.7, 0.8)),
        record("Int8()", score=0.6),
    )
    assert training.course(steps) == [(0, 0.3), (1, 0.7), (2, 0.8), (2, 0.6)]
    assert training.recovered(training.course(steps), 0.65) is None  # Int8 lost it again
    assert training.recovered(training.course(steps), 0.5) == 1
    assert training.recovered(training.course(steps), 0.2) == 0
    assert training.course([record("Int8()", score=None)]) == []


def test_the_recipes_own_steps_are_the_last():
    row = trial("ChannelPrune(ratio=0.5) >> Int8()", 0, 0.9, record("a"), record("b"))
    assert [r.technique for r in training.own(row)] == ["a", "b"]
    assert training.own(trial("", 0, 0.9)) == ()


def test_steadiness_is_of_the_last_five_epochs():
    seen = list(enumerate((0.0, 0.5, 0.6, 0.5, 0.6, 0.55), 1))
    assert training.unsteadiness(seen) == pytest.approx(0.05)  # squares 0.0025 * 4 + 0, over 4
    assert training.unsteadiness([(0, 0.1), (1, 0.5)]) is None  # what no epoch made is no training


def test_effort_is_epochs_times_macs_in_units_of_the_baselines():
    half = DENSE.model_copy(update={"macs": 250})
    steps = (
        record("ChannelPrune(ratio=0.5)", (0.1, 0.2), after=half),  # 2 epochs at the mean of 500 and 250
        record("Finetune(epochs=4)", (0.1,) * 4, before=half, after=half),
    )
    found = training.effort(trial("ChannelPrune(ratio=0.5) >> Finetune(epochs=4)", 0, 0.9, *steps))
    assert found.share == pytest.approx((2 * 375 + 4 * 250) / (4 * 500))
    assert (found.epochs, found.seconds) == (6, 4.0)


def test_what_a_step_trained_and_threw_away_counts():
    ticket = record("LotteryTicket()", (0.5, 0.9), details={"epochs_trained": 10})
    found = training.effort(trial("LotteryTicket()", 0, 0.9, ticket))
    assert (found.epochs, found.share) == (10, 2.5)


def test_a_baseline_that_was_not_trained_is_no_unit():
    row = trial("Finetune(epochs=1)", 0, 0.9, record("Finetune(epochs=1)", (0.9,)))
    untrained = row.model_copy(update={"records": (record("Finetune(epochs=0)", score=0.1), row.records[-1])})
    assert training.effort(untrained).share is None


def test_bands_reach_from_the_worst_seed_to_the_best():
    found = training.bands([[(0, 0.2), (1, 0.5), (2, 0.8), (2, 0.1)], [(0, 0.4), (1, 0.9)]])
    assert [(b.epoch, b.low, b.high) for b in found] == [(0, 0.2, 0.4), (1, 0.5, 0.9), (2, 0.8, 0.8)]
    assert [b.mean for b in found] == pytest.approx([0.3, 0.7, 0.8])

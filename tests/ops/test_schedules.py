"""Learning rates step by step: by hand, and against torch's own one cycle."""

from __future__ import annotations

import math

import pytest
import torch

from lessen.ops.schedules import schedule


def shares(name, steps, **settings):
    f = schedule(name, steps, **settings)
    return [f(i) for i in range(steps)]


def test_constant_with_warmup():
    assert shares("constant", 5, warmup=2) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_cosine_by_hand():
    half = math.sqrt(0.5)
    assert shares("cosine", 4) == pytest.approx([1.0, (1 + half) / 2, 0.5, (1 - half) / 2])


def test_cosine_starts_at_its_peak_after_the_warmup():
    assert shares("cosine", 6, warmup=2) == pytest.approx([0.5, 1.0, *shares("cosine", 4)])


def test_linear_falls_from_its_peak_to_one_step_above_zero():
    assert shares("linear", 6, warmup=2) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_step_drops_tenfold_at_each_milestone():
    assert shares("step", 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("steps", [10, 37])
def test_one_cycle_is_torchs(steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2.0, total_steps=steps, final_div_factor=1e4)
    wanted = []
    for _ in range(steps):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step() if len(wanted) < steps else None
    assert [2.0 * s for s in shares("onecycle", steps)] == pytest.approx(wanted)


def test_one_cycle_rises_for_the_warmup_when_there_is_one():
    found = shares("onecycle", 20, warmup=5)
    assert found[0] == pytest.approx(1 / 25)
    assert found[4] == 1.0 == max(found)
    assert found[-1] == pytest.approx(1 / 250_000)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step", "onecycle"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 5), (3, 3)])
def test_no_run_is_too_short(name, steps, warmup):
    found = shares(name, steps, warmup=warmup)
    assert all(0 <= s <= 1 for s in found)
    assert found[0] > 0

"""Smoothed labels are the formula, and training on them is the one loop's."""

from __future__ import annotations

import math

import pytest
import torch

from lessen.distill.finetune import Finetune
from lessen.distill.label_smoothing import LabelSmoothing


def test_the_loss_by_hand(task) -> None:
    # shares (1/2, 1/4, 1/8, 1/8); class 0 smoothed by 0.2 over 4 classes is (0.85, 0.05, 0.05, 0.05)
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    expected = 0.85 * math.log(2) + 0.05 * math.log(4) + 0.1 * math.log(8)
    assert task.loss(logits, torch.tensor([0]), 0.2).item() == pytest.approx(expected, rel=1e-6)


def test_it_trains_as_finetune_does_with_the_same_settings(task, teacher) -> None:
    smooth, record = LabelSmoothing(epochs=2, batch=32, smoothing=0.3).apply(teacher, task, seed=3)
    same, other = Finetune(epochs=2, batch=32, smoothing=0.3, lr=0.05).apply(teacher, task, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(smooth.parameters(), same.parameters(), strict=True))
    assert [e.loss for e in record.history] == [e.loss for e in other.history] and len(record.history) == 2


def test_it_learns_and_is_less_sure(task) -> None:
    with task.seeded(0):
        fresh = task.build("cnn(width=0.25)")
    x = task.inputs(task.split("test").x)
    sure = []
    for smoothing in (0.0, 0.4):
        net, _ = LabelSmoothing(epochs=6, batch=16, smoothing=smoothing).apply(fresh, task)
        assert task.evaluate(net, "test") == 1.0
        with torch.no_grad():
            sure.append(torch.softmax(net.eval()(x), 1).amax(1).mean().item())
    assert sure[1] < 0.85 < sure[0]

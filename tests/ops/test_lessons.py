"""Lessons weigh their terms as they say, and a rise begins at nothing."""

from __future__ import annotations

import pytest
import torch
from tiny_task import TinyTask
from torch import nn
from torch.nn import functional as F

from lessen.core.run import Run
from lessen.ops import lessons, losses
from lessen.ops.teaching import Together, View
from lessen.ops.train import Batch, Plan, fit

Z = torch.tensor([[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, -3.0]])
T = torch.tensor([[1.0, 4.0, 0.0, 0.0], [0.0, 2.0, 2.5, 1.0]])
Y = torch.tensor([1, 2])


def value(lesson, epoch: float = 0.0) -> torch.Tensor:
    return lesson(View(Z), (View(T),), Batch(Z, Y, Y, epoch), nn.Module())


def test_shares_and_labels_are_weighed_by_alpha_and_total() -> None:
    soft, hard = losses.soft_targets(Z, T, 2.0), F.cross_entropy(Z, Y)
    task = TinyTask()
    torch.testing.assert_close(value(lessons.shares_and_labels(task, 2.0, 0.7)), 0.7 * soft + 0.3 * hard)
    # the published weights of standardized logits: 9 and 1
    z = losses.soft_targets(losses.standardized(Z), losses.standardized(T), 2.0)
    found = value(lessons.shares_and_labels(task, 2.0, 0.9, total=10.0, standardize=True))
    torch.testing.assert_close(found, 9 * z + hard)


def test_layers_stand_beside_labels_and_shares_by_their_weights() -> None:
    soft, hard = losses.soft_targets(Z, T, 2.0), F.cross_entropy(Z, Y, label_smoothing=0.1)

    def own(student: View, taught: View, batch: Batch, aids: nn.Module) -> torch.Tensor:
        assert student.logits is Z and taught.logits is T and batch.y is Y
        return torch.tensor(0.02)

    task = TinyTask()
    lesson = lessons.layers_and_labels(task, own, (1.0, 0.0, 100.0), 2.0, smoothing=0.1)
    torch.testing.assert_close(value(lesson), hard + 2)
    lesson = lessons.layers_and_labels(task, own, (0.5, 3.0, 10.0), 2.0, smoothing=0.1)
    torch.testing.assert_close(value(lesson), 0.5 * hard + 3 * soft + 0.2)


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (0.5, 0.25), (2.0, 1.0), (9.0, 1.0)])
def test_the_soft_terms_rise_in_a_line(epoch: float, share: float) -> None:
    target, others = losses.decoupled(Z, T, Y, 4.0)
    hard = F.cross_entropy(Z, Y)
    lesson = lessons.decoupled_and_labels(TinyTask(), 4.0, 1.0, 8.0, hard=0.5, rise=2.0)
    torch.testing.assert_close(value(lesson, epoch), 0.5 * hard + share * (target + 8 * others))
    at_once = lessons.decoupled_and_labels(TinyTask(), 4.0, 1.0, 8.0)
    torch.testing.assert_close(value(at_once, epoch), hard + target + 8 * others)


def test_a_batch_knows_how_many_epochs_are_behind() -> None:
    task, seen = TinyTask(), []

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        seen.append(batch.epoch)
        return task.loss(model(batch.x), batch.y)

    fit(task.build(""), task, Plan(epochs=2, batch=24), Run(), loss=loss)
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def test_nets_together_answer_with_the_mean_of_their_shares() -> None:
    nets = [nn.Linear(3, 4), nn.Linear(3, 4)]
    x = torch.randn(5, 3)
    mean = sum(torch.softmax(net(x) / 2, 1) for net in nets) / 2
    torch.testing.assert_close(torch.softmax(Together(nets, 2.0)(x) / 2, 1), mean)

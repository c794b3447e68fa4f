"""Generations of one architecture, each from fresh weights, taught by the one before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen.core.errors import Refused
from lessen.core.record import Epoch
from lessen.core.run import Run
from lessen.distill.self_distill import SelfDistill
from lessen.models import chain
from lessen.ops import teaching


def test_generations_are_born_again_and_learn(task, teacher) -> None:
    net, record = SelfDistill(generations=2, epochs=6, batch=16, alpha=1.0).apply(teacher, task)
    first, second = record.details["stages"]
    assert first["model"] == second["model"] == "cnn(width=0.25)" and record.after == record.before
    assert (first["teacher"], second["teacher"]) == ("cnn(width=0.25)", "cnn(width=0.25) of stage 1")
    assert task.evaluate(net, "test") == 1.0 and second["validation"] == record.score
    assert not teaching.same(net, teacher)


def test_generations_have_first_weights_of_their_own(task, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[nn.Module] = []

    def spy(net: nn.Module, teachers, task, plan, run, lesson) -> nn.Module:
        born.append(net)
        run.details["teachers"] = []
        return net

    monkeypatch.setattr(teaching, "teach", spy)
    SelfDistill(generations=3, epochs=1).apply(teacher, task, seed=1)
    weights = [next(net.parameters()).detach().flatten() for net in born]
    assert len(born) == 3
    assert not any(torch.equal(weights[i], weights[j]) for i in range(3) for j in range(i))


@pytest.mark.parametrize(("keep", "number"), [("last", 3), ("best", 2)])
def test_the_last_or_the_best_is_returned(keep, number, task, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [task.build("cnn(width=0.25)") for _ in range(3)]

    def chained(texts, model, task, run, plan, lesson):
        run.details["stages"] = [{"validation": score} for score in (0.5, 0.9, 0.7)]
        return nets, [[Epoch(epoch=1, loss=float(i), score=None, lr=0.1, seconds=0.0)] for i in range(1, 4)]

    monkeypatch.setattr(chain, "taught_in_turn", chained)
    run = Run()
    assert SelfDistill(generations=3, keep=keep)._apply(teacher, task, run) is nets[number - 1]
    assert [epoch.loss for epoch in run.history] == [number]  # of the net that is returned
    assert run.notes == (["kept generation 2 of 3, the best on validation (0.9000)"] if keep == "best" else [])


def test_no_epochs_change_nothing(task, teacher) -> None:
    net, record = SelfDistill(**SelfDistill.neutral).apply(teacher, task)
    assert teaching.same(net, teacher) and record.history == ()


def test_it_needs_a_builder(task) -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(Refused, match="does not know its builder; build it by a name of the zoo"):
        SelfDistill().apply(bare, task)

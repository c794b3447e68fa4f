"""What a user froze stays so: batch norms keep their statistics, and every flag is as it was."""

from __future__ import annotations

import pytest
import torch
from tiny_task import TinyTask, net
from torch import nn

from lessen.core.run import Run
from lessen.ops import layers, modes, teaching
from lessen.ops.train import Plan, fit

PLAN = Plan(epochs=2, batch=32, lr=0.05)


def stopped() -> nn.Sequential:
    """In training mode but for the first batch norm, as users write it to keep its statistics."""
    model = net().train()
    model[1].eval()
    return model


def fixed() -> nn.Sequential:
    """In evaluation mode, as every loaded model is; the first convolution and norm want no gradient."""
    model = net().eval()
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    return model


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("make", [stopped, fixed])
def test_a_frozen_norm_keeps_its_statistics_and_the_others_learn(make) -> None:
    model, task = layers.own(make()), TinyTask()
    before, asked = {k: v.clone() for k, v in model.state_dict().items()}, flags(model)
    with task.seeded(0):
        fit(model, task, PLAN, Run())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not changed & {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert {"3.weight", "4.running_mean", "4.weight", "8.weight"} <= changed
    assert ("1.weight" in changed, "0.weight" in changed) == ((True, True) if make is stopped else (False, False))
    assert flags(model) == asked


@pytest.mark.parametrize("make", [stopped, fixed])
@pytest.mark.parametrize("aided", [False, True])
def test_a_frozen_norm_of_a_student_too(make, aided: bool) -> None:
    student, task = make(), TinyTask()
    before, asked = student[1].running_mean.clone(), flags(student)
    aids = nn.ModuleDict({"a": nn.Linear(4, 4)}) if aided else None

    def lesson(own, teachers, batch, aids):
        assert [m.training for m in student][1:] == [False, *[True] * 7]
        assert not aided or aids["a"].training
        logits = aids["a"](own.logits) if aided else own.logits
        return nn.functional.mse_loss(logits, teachers[0].logits)

    with task.seeded(0):
        taught = teaching.teach(student, {"t": net(1).eval()}, task, PLAN, Run(), lesson, aids=aids)
    assert torch.equal(taught[1].running_mean, before) and flags(taught) == asked


def test_a_block_without_gradients_rests_whole() -> None:
    block = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2, affine=False)).requires_grad_(False)
    model = nn.Sequential(block, nn.Dropout(0.5), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2)).eval()
    with modes.training(model) as wake:
        wake()
        assert flags(model) == [True, False, False, False, False, True, True, True]
    assert not any(flags(model))
    model.train()
    with modes.training(model) as wake:  # its user says that all of it trains
        wake()
        assert all(flags(model))

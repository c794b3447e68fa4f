"""DKD: what is minimized, what is learned, and a run that goes on where it was killed, its rise included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quarters import images
from torch import nn
from torch.nn import functional as F

from lessen.core.errors import BadField
from lessen.core.run import Run
from lessen.distill.decoupled_distill import DecoupledDistill
from lessen.distill.student import Student
from lessen.ops import checkpoints, losses, train
from lessen.tasks.dataset import Settings
from lessen.tasks.images import ImageTask


def test_its_fields_are_the_formula(task, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(model: nn.Module, task: ImageTask, plan: train.Plan, run: Run, *, loss) -> nn.Module:
        raw, y = task.split("train").x[:8], task.split("train").y[:8]
        model.eval()
        z, t = model(task.inputs(raw)), teacher.eval()(task.inputs(raw))
        target, others = losses.decoupled(losses.standardized(z), losses.standardized(t), y, 3.0)
        for epoch, share in ((0.0, 0.0), (1.0, 0.5), (2.0, 1.0), (3.5, 1.0)):  # half of 4 epochs
            batch = train.Batch(task.inputs(raw), y, torch.arange(8), epoch)
            expected = 2 * F.cross_entropy(z, y, label_smoothing=0.1) + share * (0.5 * target + 6 * others)
            torch.testing.assert_close(loss(model, batch), expected)
        return model

    monkeypatch.setattr(train, "fit", spy)
    technique = DecoupledDistill(
        epochs=4, temperature=3.0, alpha=0.5, beta=6.0, hard=2.0, rise=0.5, standardize=True, smoothing=0.1,
        augment=False,
    )  # fmt: skip
    (Student() >> technique).apply(teacher, task)


def test_a_student_learns_how_its_teacher_sees_the_others(task, teacher) -> None:
    # labels of the student's task are all wrong and the hard term is off: what is left is the teacher's word
    wrong = ImageTask(images((np.arange(160) + 1) % 4), Settings())
    untrained, _ = Student(width=0.5).apply(teacher, task)
    run = Run(origin=teacher)
    student, record = DecoupledDistill(epochs=8, hard=0.0, batch=16).apply(untrained, wrong, run=run)
    assert task.evaluate(student, "test") == 1.0 and len(record.history) == 8


def test_a_killed_run_goes_on_with_the_same_rise(task, teacher, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    technique = DecoupledDistill(epochs=4, batch=32, rise=1.0)
    student, _ = Student().apply(teacher, task)

    def stop(share: float, text: str) -> None:
        if text.startswith("epoch 2/4"):
            raise KeyboardInterrupt

    whole, record = technique.apply(student, task, seed=5, run=Run(origin=teacher))
    with pytest.raises(KeyboardInterrupt):
        technique.apply(student, task, seed=5, run=Run(origin=teacher, checkpoint=tmp_path, progress=stop))
    again, later = technique.apply(student, task, seed=5, run=Run(origin=teacher, checkpoint=tmp_path))
    assert [e.loss for e in later.history] == [e.loss for e in record.history]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(BadField, match=r"DecoupledDistill\.temperature"):
        DecoupledDistill(temperature=temperature)

"""The loss is the formula, the teacher the model before the recipe, and the student learns what only it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quarters import images
from torch import nn
from torch.nn import functional as F

from lessen.core.errors import BadField, Refused
from lessen.core.recipe import Recipe
from lessen.core.run import Run
from lessen.distill.logit_distill import LogitDistill
from lessen.distill.student import Student
from lessen.ops import checkpoints, teaching, train
from lessen.tasks.dataset import Settings
from lessen.tasks.images import ImageTask


def test_the_loss_is_the_formula(task: ImageTask, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(model: nn.Module, task: ImageTask, plan: train.Plan, run: Run, *, loss: Any) -> nn.Module:
        seen.update(plan=plan)
        raw, y = task.split("train").x[:8], task.split("train").y[:8]
        batch = train.Batch(task.inputs(raw), y, torch.arange(8))
        model.eval()
        assert plan.epochs == 3 and not plan.augment  # so what the teacher shows is kept, and looked up by index
        z, t = model(batch.x), teacher(batch.x)
        p, q = F.softmax(t / 3, 1), F.softmax(z / 3, 1)
        soft = 9 * (p * (p / q).log()).sum(1).mean()
        torch.testing.assert_close(loss(model, batch), 0.7 * soft + 0.3 * F.cross_entropy(z, y, label_smoothing=0.1))
        loss(model, batch).backward()
        seen.update(grads=[p.grad for p in model.parameters()])
        return model

    monkeypatch.setattr(train, "fit", spy)
    technique = LogitDistill(epochs=3, temperature=3.0, alpha=0.7, lr=0.02, batch=8, smoothing=0.1, augment=False)
    teacher.eval()
    (Student() >> technique).apply(teacher, task)
    assert seen["plan"] == train.Plan(epochs=3, batch=8, lr=0.02, smoothing=0.1, augment=False)
    assert all(g is not None and torch.isfinite(g).all() for g in seen["grads"])
    assert all(p.grad is None for p in teacher.parameters())


def test_a_student_learns_from_its_teacher_alone(task: ImageTask, teacher: nn.Module) -> None:
    # labels of the students' task are all wrong; with alpha = 1 they have no say
    wrong = ImageTask(images((np.arange(160) + 1) % 4), Settings())
    untrained, _ = Student(width=0.5).apply(teacher, task)
    student, record = LogitDistill(epochs=8, alpha=1.0, batch=16, lr=0.05).apply(
        untrained, wrong, run=Run(origin=teacher)
    )
    assert task.evaluate(teacher, "test") == 1.0
    assert task.evaluate(student, "test") == 1.0 and record.score == 0.0
    assert record.history[-1].loss < record.history[0].loss and len(record.history) == 8
    (taught_by,) = record.details["teachers"]
    assert taught_by == {"name": "cnn(width=0.25)", "validation": 0.0}
    chance = 100 * wrong.evaluate(untrained, "validation")
    assert record.notes == (
        f"the teacher cnn(width=0.25) scores 0.0 % on validation, its student before it was taught {chance:.1f} %",
    )


@pytest.mark.parametrize("other", ["alpha", "temperature", "teacher"])
def test_another_lesson_does_not_go_on_from_a_killed_one(
    other: str, task: ImageTask, teacher: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    student, _ = Student(width=0.5).apply(teacher, task)
    with task.seeded(1):
        unlike = task.build("cnn(width=0.25)").eval()

    def stop(share: float, text: str) -> None:
        if share == 1.0:
            raise KeyboardInterrupt

    def go(teacher: nn.Module, run: Run, **fields: Any) -> nn.Module:
        run.origin = teacher
        return LogitDistill(epochs=2, batch=32, **fields).apply(student, task, run=run)[0]

    with pytest.raises(KeyboardInterrupt):
        go(teacher, Run(checkpoint=tmp_path, progress=stop))
    change = {"alpha": {"alpha": 0.5}, "temperature": {"temperature": 2.0}, "teacher": {}}[other]
    by = unlike if other == "teacher" else teacher
    assert teaching.same(go(by, Run(checkpoint=tmp_path), **change), go(by, Run(), **change))


def test_a_recipe_hands_its_origin_on_as_the_teacher(task: ImageTask, teacher: nn.Module) -> None:
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    recipe = Recipe.of(Student(width=0.5) >> LogitDistill(epochs=8, alpha=0.9, batch=16))
    student, records = recipe.apply(teacher, task, seed=1)
    assert task.evaluate(student, "test") == 1.0
    assert records[1].after.parameters == records[1].before.parameters < records[0].before.parameters
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


def test_no_epochs_change_nothing(task: ImageTask, teacher: nn.Module) -> None:
    student, _ = LogitDistill(**LogitDistill.neutral).apply(teacher, task)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_a_teacher_of_other_classes_is_refused_with_both_counts(task: ImageTask, teacher: nn.Module) -> None:
    other = ImageTask(images(np.arange(160) % 4 + np.arange(160) // 155, "abcde"), Settings())
    with pytest.raises(Refused, match="teach 4 classes by a teacher of 5"):
        LogitDistill(epochs=1).apply(teacher, task, run=Run(origin=other.build("cnn(width=0.25)")))


def test_teaching_oneself_is_said(task: ImageTask, teacher: nn.Module) -> None:
    _, record = LogitDistill(epochs=1, batch=160).apply(teacher, task)
    assert any("the teacher is the model itself" in note for note in record.notes)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(BadField, match=r"LogitDistill\.temperature"):
        LogitDistill(temperature=temperature)


def test_a_teacher_that_is_not_there_is_said(task: ImageTask, teacher: nn.Module, tmp_path) -> None:
    with pytest.raises(BadField, match=r"LogitDistill finds no teacher in '.*gone'; name the folder of an artifact"):
        LogitDistill(epochs=1, teacher=str(tmp_path / "gone")).apply(teacher, task)

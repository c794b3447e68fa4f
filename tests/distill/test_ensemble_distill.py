"""Several teachers as one: artifacts, the origin, and nets trained here; each and all together are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from quarters import images
from torch import nn

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.distill.ensemble_distill import EnsembleDistill
from lessen.distill.student import Student
from lessen.models.state import save_model
from lessen.ops import checkpoints, teaching, train
from lessen.tasks.dataset import Settings
from lessen.tasks.images import ImageTask


@pytest.fixture
def student(task, teacher) -> nn.Module:
    return Student().apply(teacher, task)[0]


def kept(model: nn.Module, folder: Path) -> str:
    folder.mkdir()
    save_model(model, folder)
    return str(folder)


def members(record) -> list[str]:
    return [teacher["name"] for teacher in record.details["teachers"]]


def test_the_origin_and_others_trained_here(task, teacher, student) -> None:
    technique = EnsembleDistill(count=3, epochs=6, batch=16)
    net, record = technique.apply(student, task, run=Run(origin=teacher))
    assert members(record) == ["cnn(width=0.25)", "cnn(width=0.25) of seed 1", "cnn(width=0.25) of seed 2"]
    assert all(t["validation"] == 1.0 for t in record.details["teachers"]) and record.details["ensemble"] == 1.0
    assert task.evaluate(net, "test") == 1.0 and len(record.history) == 6


def test_what_is_taught_is_the_mean_of_the_members_shares(task, teacher, student, monkeypatch) -> None:
    seen: list[nn.Module] = []
    teach = teaching.teach

    def spy(model: nn.Module, teachers, *rest) -> nn.Module:
        seen.extend(teachers.values())
        return teach(model, teachers, *rest)

    monkeypatch.setattr(teaching, "teach", spy)
    EnsembleDistill(count=2, epochs=1, teacher_epochs=2, batch=80, temperature=3.0).apply(
        student, task, run=Run(origin=teacher)
    )
    (jury,) = seen
    one, two = jury.nets
    assert teaching.same(one, teacher) and not teaching.same(one, two)
    x = task.inputs(task.split("test").x)
    with torch.no_grad():
        mean = (torch.softmax(one(x) / 3, 1) + torch.softmax(two(x) / 3, 1)) / 2
        torch.testing.assert_close(torch.softmax(jury(x) / 3, 1), mean)


def test_members_are_trained_on_labels_with_their_own_plan(task, teacher, student, monkeypatch) -> None:
    plans: list[train.Plan] = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda m, t, plan, run, **k: plans.append(plan) or fit(m, t, plan, run, **k))
    run = Run(origin=teacher)
    EnsembleDistill(count=2, epochs=1, teacher_epochs=2, teacher_lr=0.02, lr=0.03, batch=80).apply(
        student, task, run=run
    )
    EnsembleDistill(count=2, epochs=1, batch=80).apply(student, task, run=run)
    assert [(p.epochs, p.lr) for p in plans] == [(2, 0.02), (1, 0.03), (1, 0.05), (1, 0.05)]


def test_artifacts_come_first_and_may_be_all(task, teacher, student, tmp_path) -> None:
    one, two = kept(teacher, tmp_path / "one"), kept(teacher, tmp_path / "two")
    run = Run(origin=nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    quick = {"epochs": 1, "batch": 80}
    _, record = EnsembleDistill(teachers=(one, two), count=1, **quick).apply(student, task, run=run)
    assert members(record) == [one, two]
    _, record = EnsembleDistill(teachers=(one, two), **quick).apply(student, task, run=run)
    assert members(record) == [one, two, "Sequential"]  # three in all: the origin is the third
    with pytest.raises(Refused, match=r"cannot train 1 more teachers because the first does not know .* count=3"):
        EnsembleDistill(teachers=(one, two), count=4, **quick).apply(student, task, run=run)


def test_a_member_of_other_classes_is_refused(task, student, tmp_path) -> None:
    other = ImageTask(images(np.arange(160) % 4 + np.arange(160) // 155, "abcde"), Settings())
    folder = kept(other.build("cnn(width=0.25)"), tmp_path / "other")
    with pytest.raises(Refused, match="teach 4 classes by a teacher of 5"):
        EnsembleDistill(teachers=(folder,), count=1).apply(student, task)


def test_a_killed_ensemble_keeps_the_teachers_it_has(task, teacher, student, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    technique = EnsembleDistill(count=3, epochs=3, batch=32)
    told: list[str] = []

    def stop(share: float, text: str) -> None:
        if text.startswith("student, epoch 2/3"):
            raise KeyboardInterrupt

    whole, record = technique.apply(student, task, seed=2, run=Run(origin=teacher))
    with pytest.raises(KeyboardInterrupt):
        technique.apply(student, task, seed=2, run=Run(origin=teacher, checkpoint=tmp_path, progress=stop))
    assert {"teacher-1", "teacher-2"} <= {f.parent.name for f in tmp_path.rglob("*.pt")}
    run = Run(origin=teacher, checkpoint=tmp_path, progress=lambda share, text: told.append(text))
    again, later = technique.apply(student, task, seed=2, run=run)
    assert teaching.same(whole, again) and later.details == record.details
    assert told and all(text.startswith("student") and "epoch 1/3" not in text for text in told)


def test_no_epochs_train_nobody(task, teacher) -> None:
    net, record = EnsembleDistill(**EnsembleDistill.neutral).apply(teacher, task)
    assert teaching.same(net, teacher) and record.history == () and record.details == {}

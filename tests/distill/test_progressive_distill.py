"""A chain of sizes: each taught by the one before, told stage by stage, and gone on with after a kill."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.distill.progressive_distill import ProgressiveDistill
from lessen.models import chain
from lessen.ops import checkpoints, layers, teaching

QUICK = {"widths": (0.75, 0.5), "epochs": 6, "batch": 16}


def test_each_size_is_taught_by_the_one_before(task, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[tuple[nn.Module, nn.Module]] = []
    teach = teaching.teach

    def spy(net: nn.Module, teachers, *rest) -> nn.Module:
        (known,) = teachers.values()
        taught.append((net, known))
        return teach(net, teachers, *rest)

    monkeypatch.setattr(teaching, "teach", spy)
    student, record = ProgressiveDistill(**QUICK).apply(teacher, task)
    (one, first), (two, second) = taught
    assert teaching.same(first, layers.own(task.copy(teacher))) and teaching.same(second, one)
    assert teaching.same(two, student) and task.evaluate(student, "test") == 1.0
    stages = record.details["stages"]
    assert [s["model"] for s in stages] == ["cnn(width=0.1875)", "cnn(width=0.125)"]
    assert [s["teacher"] for s in stages] == ["cnn(width=0.25)", "cnn(width=0.1875) of stage 1"]
    assert record.before.parameters > stages[0]["parameters"] > stages[1]["parameters"] == record.after.parameters
    assert stages[1]["validation"] == record.score and len(record.history) == 6
    assert stages[0]["to_first"] == stages[0]["to_teacher"] and stages[1]["to_first"] != stages[1]["to_teacher"]
    assert all(0 <= s[to]["agreement"] <= 1 and s[to]["kl"] >= 0 for s in stages for to in ("to_teacher", "to_first"))


def test_nearness_by_hand() -> None:
    # (3/4, 1/4) taught (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2; the second sample has the same answer in other words
    teacher = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    student = torch.tensor([[0.5, 0.5], [0.1, 0.3]]).log()
    found = chain.nearness(student, teacher)
    expected = (0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()) / 2
    assert found == {"agreement": 1.0, "kl": pytest.approx(expected.item(), abs=1e-6)}
    assert chain.nearness(student.flip(1), teacher)["agreement"] == 0.5  # type: ignore[index]
    assert chain.nearness(torch.zeros(0, 1), torch.zeros(0, 1)) is None


@pytest.mark.parametrize("stage", [1, 2])
def test_a_killed_chain_goes_on_where_it_was(
    stage: int, task, teacher, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    technique = ProgressiveDistill(**QUICK | {"epochs": 3})
    told: list[str] = []

    def stop(share: float, text: str) -> None:
        if text.startswith(f"stage-{stage}, epoch 2/3"):
            raise KeyboardInterrupt

    whole, record = technique.apply(teacher, task, seed=2)
    with pytest.raises(KeyboardInterrupt):
        technique.apply(teacher, task, seed=2, run=Run(checkpoint=tmp_path, progress=stop))
    assert {f.parent.name for f in tmp_path.rglob("*.pt")} == {f"stage-{i}" for i in range(1, stage + 1)}
    run = Run(checkpoint=tmp_path, progress=lambda share, text: told.append(text))
    again, later = technique.apply(teacher, task, seed=2, run=run)
    assert teaching.same(whole, again) and later.details == record.details
    assert not any(text.startswith(f"stage-{stage}, epoch 1/3") for text in told)  # that one was kept
    assert not any(text.startswith("stage-1,") for text in told) or stage == 1


def test_the_chain_may_be_named(task, teacher) -> None:
    technique = ProgressiveDistill(models=("cnn(width=0.2)", "resnet8(width=0.1)"), epochs=1, batch=80)
    student, _ = technique.apply(teacher, task)
    assert student.builder.name == "resnet8"  # type: ignore[union-attr]


def test_what_makes_no_sense_is_refused_before_anything_is_trained(task, teacher) -> None:
    def no_training(share: float, text: str) -> None:
        raise AssertionError(text)

    run = Run(progress=no_training)
    with pytest.raises(Refused, match=r"'cnn\(width=0.125\)' with ([\d,]+) parameters is not smaller .* with \1;"):
        ProgressiveDistill(widths=(0.5, 0.5)).apply(teacher, task, run=run)
    with pytest.raises(BadField, match=r"ProgressiveDistill\.widths = \(\) names no student"):
        ProgressiveDistill(widths=()).apply(teacher, task, run=run)
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(BadField, match=r"ProgressiveDistill\.models is empty and the model does not know its builder"):
        ProgressiveDistill().apply(bare, task, run=run)
    run.done = ("Finetune(epochs=1)", "Student()")
    with pytest.raises(Refused, match=r"ProgressiveDistill cannot follow Student\(\) because .* untrained"):
        ProgressiveDistill().apply(teacher, task, run=run)
    cut = layers.own(task.copy(teacher))
    layer = next(iter(layers.weighted(cut).values()))
    layer.set_mask(layer.weight.abs() > layer.weight.abs().median())
    with pytest.raises(Refused, match=r"would throw away what it won; put ProgressiveDistill first"):
        ProgressiveDistill().apply(cut, task, run=Run(progress=no_training))

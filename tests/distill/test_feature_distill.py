"""Hints, attention maps and contrast: what each adds to the labels, between which layers, and what stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lessen import catalog, tasks
from lessen.core.errors import Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.distill.attention_distill import AttentionDistill
from lessen.distill.contrastive_distill import ContrastiveDistill
from lessen.distill.hint_distill import HintDistill
from lessen.ops import layers, teaching, train
from lessen.ops.losses import soft_targets

ALL = (HintDistill, AttentionDistill, ContrastiveDistill)
every = pytest.mark.parametrize("technique", ALL, ids=lambda t: t.__name__)


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.task("digits(limit=200, validation=60)")


def built(task: Task, text: str, seed: int = 0) -> nn.Module:
    with task.seeded(seed):
        return task.build(text).eval()


@pytest.fixture(scope="module")
def teacher(task: Task) -> nn.Module:
    with task.seeded(0):
        model = task.build("cnn(width=0.25)")
        return train.fit(model, task, train.Plan(epochs=6, batch=32, lr=0.1), Run()).eval()


def lesson_of(technique: Technique, student: nn.Module, teacher: nn.Module, task: Task, monkeypatch: Any) -> Any:
    """What the technique hands to `teach`, its Views of 16 training samples, and the batch."""
    seen: dict[str, Any] = {}

    def spy(model: nn.Module, teachers: Any, task: Task, plan: train.Plan, run: Run, lesson: Any, **more: Any) -> Any:
        seen.update(more, plan=plan, lesson=lesson, model=model, details=run.details)
        return model

    monkeypatch.setattr(teaching, "teach", spy)
    technique.apply(student, task, run=Run(origin=teacher))
    index = torch.arange(16)
    raw, y = task.split("train").x[:16], task.split("train").y[:16]
    batch = train.Batch(task.inputs(raw), y, index)
    with teaching.seen(seen["model"], seen["paths"]) as own:
        logits = seen["model"](batch.x)
    ours = teaching.View(logits, tuple(own[p] for p in seen["paths"]))
    return seen, ours, teaching.view(teacher, batch.x, seen["teacher_paths"]), batch


@every
def test_labels_softened_shares_and_its_own_term_add_up(task, teacher, technique, monkeypatch) -> None:
    student = built(task, "cnn(width=0.125)", 1)
    losses = {}
    for hard, soft, weight in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.5, 3.0, 2.0)):
        made = technique(hard=hard, soft=soft, weight=weight, temperature=3.0, smoothing=0.1)
        seen, ours, theirs, batch = lesson_of(made, student, teacher, task, monkeypatch)
        aids = seen.get("aids") or nn.Module()
        torch.manual_seed(0)
        losses[hard, soft] = seen["lesson"](ours, (theirs,), batch, aids.eval()).item()
        assert seen["plan"].momentum == 0.9  # no field of a technique means another thing to the optimizer
    labels = F.cross_entropy(ours.logits, batch.y, label_smoothing=0.1).item()
    shares = soft_targets(ours.logits, theirs.logits, 3.0).item()
    assert losses[1.0, 0.0] == pytest.approx(labels, rel=1e-5) and losses[0.0, 0.0] > 0
    assert losses[0.5, 3.0] == pytest.approx(0.5 * labels + 3 * shares + 2 * losses[0.0, 0.0], rel=1e-4)


def test_the_hint_is_the_middle_stage_through_an_adapter(task, teacher, monkeypatch) -> None:
    student = built(task, "cnn(width=0.125)", 1)
    seen, ours, theirs, batch = lesson_of(HintDistill(hard=0.0), student, teacher, task, monkeypatch)
    assert seen["paths"] == seen["teacher_paths"] == ("features.conv2_1.act",)
    (row,) = seen["details"]["pairs"]
    assert row["shapes"] == [[8, 4, 4], [16, 4, 4]] and row["adapter_parameters"] == 8 * 16 + 2 * 16
    (fit,) = seen["aids"]
    assert isinstance(fit[-1], nn.ReLU)  # what the teacher gives is rectified
    expected = 100 * (fit.eval()(ours.features[0]) - theirs.features[0]).square().mean()
    torch.testing.assert_close(seen["lesson"](ours, (theirs,), batch, seen["aids"]), expected)
    seen, *_ = lesson_of(HintDistill(several=True), student, teacher, task, monkeypatch)
    assert seen["paths"] == tuple(f"features.conv{i}_1.act" for i in (1, 2, 3)) and len(seen["aids"]) == 3


def test_attention_weighs_a_stage_as_at_32_pixels(task, teacher, monkeypatch) -> None:
    student = built(task, "cnn(width=0.125)", 1)
    seen, ours, theirs, batch = lesson_of(AttentionDistill(hard=0.0), student, teacher, task, monkeypatch)
    assert seen["paths"] == ("features.conv1_1.act", "features.conv2_1.act")  # 2 x 2 is no map

    def looks(x: torch.Tensor) -> torch.Tensor:
        sums = x.square().sum(1).flatten(1)
        return sums / sums.norm(dim=1, keepdim=True)

    pairs = zip(ours.features, theirs.features, strict=True)
    expected = sum(1000 * 64 / 1024 * (looks(s) - looks(t)).square().mean() for s, t in pairs)
    torch.testing.assert_close(seen["lesson"](ours, (theirs,), batch, nn.Module()), expected)


@every
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("resnet8(width=0.25)", "vgg8(width=0.125)"),
        ("vgg8(width=0.0625)", "resnet8"),
        ("vit(patch=2, depth=1, dim=8)", "vit(patch=2, depth=2, dim=16)"),
        ("vit(patch=2, depth=1, dim=8)", "resnet8(width=0.25)"),
        ("resnet8(width=0.25)", "vit(patch=4, depth=1, dim=16)"),
    ],
)
def test_families_teach_each_other(task, technique, student, teacher) -> None:
    origin, lr = built(task, teacher), 0.01
    taught, record = technique(epochs=1, batch=50, lr=lr).apply(built(task, student, 1), task, run=Run(origin=origin))
    assert record.history[0].loss > 0 and len(record.details.get("pairs", [0])) >= 1
    assert taught.state_dict().keys() == built(task, student, 1).state_dict().keys()


@every
def test_zeros_and_integers_stay(task, teacher, technique) -> None:
    for compress in ("MagnitudePrune(sparsity=0.5)", "Int8()", "ChannelPrune(ratio=0.5)"):
        student, before = catalog.recipe(compress).steps[0].apply(teacher, task)
        taught, record = technique(epochs=1, batch=50).apply(student, task, run=Run(origin=teacher, done=(compress,)))
        assert record.after.weight_bits == before.after.weight_bits
        if compress != "Int8()":  # what rounds to zero may change while weights and steps are trained
            assert record.after.nonzeros <= before.after.nonzeros
        kept, own = layers.weighted(student), layers.weighted(taught)
        assert [m.wq is None for m in own.values()] == [m.wq is None for m in kept.values()]
        assert any(not torch.equal(own[p].weight, kept[p].weight) for p in own)


@every
def test_its_own_term_falls_without_any_label(task, teacher, technique) -> None:
    student = built(task, "cnn(width=0.125)", 1)
    _, record = technique(epochs=12, batch=20, lr=0.02, hard=0.0).apply(student, task, run=Run(origin=teacher))
    assert record.history[-1].loss < 0.9 * record.history[0].loss


@pytest.mark.parametrize("technique", [HintDistill, AttentionDistill], ids=lambda t: t.__name__)
def test_named_layers_may_differ_in_size_and_are_told_when_unknown(task, teacher, technique) -> None:
    student, run = built(task, "cnn(width=0.125)", 1), Run(origin=teacher)
    pairs = (("features.conv1_1", "features.conv2_1.act"),)
    _, record = technique(epochs=1, batch=50, layers=pairs).apply(student, task, run=run)
    assert [(p["student"], p["teacher"]) for p in record.details["pairs"]] == list(pairs)
    assert (
        "features.conv1_1 4x8x8 and the teacher's features.conv2_1.act 16x4x4 differ in size and are pooled to 4x4"
        in (record.notes)
    )
    with pytest.raises(UnknownName, match=rf"layer of the student in {technique.__name__}\.layers .* mean 'features"):
        technique(layers=(("conv1_1.actt", "features.conv1_1"),)).apply(student, task, run=run)
    with pytest.raises(UnknownName, match=r"layer of the teacher in .*layers 'features.conv4_1'; did you mean"):
        technique(layers=(("features.conv1_1", "features.conv4_1"),)).apply(student, task, run=run)


def test_attention_of_one_place_is_refused(task, teacher) -> None:
    with pytest.raises(Refused, match="cannot compare pool 16x1x1 with pool 32x1x1: one place alone is no map"):
        AttentionDistill(layers=(("pool", "pool"),)).apply(
            built(task, "cnn(width=0.125)"), task, run=Run(origin=teacher)
        )


def test_an_adapter_is_rectified_only_where_no_sample_shows_anything_below_zero(task, teacher, monkeypatch) -> None:
    def below(module: nn.Module, args: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y[:6], y[6:] - 1])  # the first samples show nothing of it

    net = task.copy(teacher)
    net.get_submodule("features.conv2_1.act").register_forward_hook(below)
    seen, *_ = lesson_of(HintDistill(), built(task, "cnn(width=0.125)", 1), net, task, monkeypatch)
    assert isinstance(seen["aids"][0][-1], nn.BatchNorm2d)

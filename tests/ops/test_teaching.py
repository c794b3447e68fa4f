"""Teachers show the same batch, once where they can, never a gradient; aids train and stay behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.ops import layers, teaching, train
from lessen.ops.training_plan import batch_count

TEACHER, STUDENT = "cnn(width=0.25)", "cnn(width=0.125)"


@pytest.fixture
def pair(digits) -> tuple[nn.Module, nn.Module]:
    """A student and a teacher, both untrained."""
    with digits.seeded(0):
        return digits.build(STUDENT), digits.build(TEACHER).eval()


def mimic(student: teaching.View, teachers: tuple[teaching.View, ...], batch: train.Batch, aids: nn.Module) -> Tensor:
    return F.mse_loss(student.logits, teachers[0].logits)


@pytest.mark.parametrize("augment", [True, False])
def test_what_a_teacher_shows_is_its_answer_to_that_batch(digits, pair, augment) -> None:
    student, teacher = pair
    seen = []

    def lesson(own: teaching.View, teachers: Any, batch: train.Batch, aids: nn.Module) -> Tensor:
        assert not teachers[0].logits.requires_grad and own.logits.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(teachers[0].logits, teacher(batch.x), rtol=1e-4, atol=1e-5)
        seen.append(len(batch.index))
        return mimic(own, teachers, batch, aids)

    plan = train.Plan(epochs=2, batch=512, lr=0.01, augment=augment)
    teaching.teach(student, {"t": teacher}, digits, plan, Run(), lesson)
    assert sum(seen) == 2 * len(digits.split("train"))
    assert all(p.grad is None for p in teacher.parameters())


def test_a_teacher_sees_images_as_small_as_its_student_does(digits, pair) -> None:
    student, teacher = pair
    sides = []

    def lesson(own: teaching.View, teachers: Any, batch: train.Batch, aids: nn.Module) -> Tensor:
        torch.testing.assert_close(teachers[0].logits, teacher(batch.x).detach(), rtol=1e-4, atol=1e-5)
        sides.append(batch.x.shape[-1])
        return mimic(own, teachers, batch, aids)

    teaching.teach(student, {"t": teacher}, digits, train.Plan(epochs=2, batch=512, sizes=(6, 8)), Run(), lesson)
    assert sides == sorted(sides)
    assert sides.count(6) == sides.count(8) > 0


def test_a_sample_is_shown_once_where_nothing_is_augmented(digits, pair) -> None:
    student, teacher = pair
    shown = []
    teacher.register_forward_hook(lambda module, args, out: shown.append(len(out)))
    n, looks = len(digits.split("train")), len(digits.split("validation")) + 1  # its score, and one sample's size
    for epochs, augment, times in ((3, False, 1), (3, True, 3)):
        shown.clear()
        plan = train.Plan(epochs=epochs, batch=256, lr=0.01, augment=augment)
        teaching.teach(student, {"t": teacher}, digits, plan, Run(), mimic)
        assert sum(shown) - times * n in (looks, looks - 1)


def test_what_is_too_large_to_keep_is_computed_with_each_step(digits, pair, monkeypatch) -> None:
    student, teacher = pair
    plan = train.Plan(epochs=2, batch=256, lr=0.01, augment=False)
    results = []
    for kept in (teaching.KEPT, 1000):
        monkeypatch.setattr(teaching, "KEPT", kept)
        with digits.seeded(0):
            taught = teaching.teach(digits.copy(student), {"t": teacher}, digits, plan, Run(), mimic)
        results.append(digits.evaluate(taught, "validation"))
    assert results[0] == pytest.approx(results[1], abs=0.02)


def features(own: teaching.View, teachers: Any, batch: train.Batch, aids: Any) -> Tensor:
    return F.mse_loss(aids["fit"](own.features[0]), teachers[0].features[0]) + mimic(own, teachers, batch, aids)


def aids(digits, pair, paths) -> nn.Module:
    student, teacher = pair
    wide = [teaching.look(m, digits, paths).features[0].shape[1] for m in (student, teacher)]
    return nn.ModuleDict({"fit": nn.Conv2d(*wide, 1)})


def test_aids_are_trained_with_the_student_and_left_out(digits, pair) -> None:
    student, teacher = pair
    paths = (next(p for p, m in student.named_modules() if isinstance(m, nn.ReLU)),)
    help = aids(digits, pair, paths)
    before, run = help["fit"].weight.clone(), Run()  # type: ignore[index]
    taught = teaching.teach(
        digits.copy(student), {"t": teacher}, digits, train.Plan(epochs=3, batch=128, lr=0.02), run, features,
        paths=paths, teacher_paths=paths, aids=help,
    )  # fmt: skip
    assert not torch.equal(before, help["fit"].weight)  # type: ignore[index]
    assert taught.state_dict().keys() == student.state_dict().keys()
    assert run.history[-1].loss < run.history[0].loss


def test_a_run_with_aids_goes_on_where_it_was_killed(digits, pair, tmp_path) -> None:
    student, teacher = pair
    paths = (next(p for p, m in student.named_modules() if isinstance(m, nn.ReLU)),)
    plan = train.Plan(epochs=3, batch=128, lr=0.02, augment=False)

    def go(run: Run, stop: int = 0) -> nn.Module:
        def lesson(own: teaching.View, teachers: Any, batch: train.Batch, aids: nn.Module) -> Tensor:
            if stop and run.history == [] and len(calls) == stop:
                raise KeyboardInterrupt
            calls.append(1)
            return features(own, teachers, batch, aids)

        calls: list[int] = []
        lesson.__qualname__ = "lesson"
        with digits.seeded(0):
            help = aids(digits, pair, paths)
            return teaching.teach(
                digits.copy(student), {"t": teacher}, digits, plan, run, lesson, paths=paths, teacher_paths=paths,
                aids=help,
            )  # fmt: skip

    whole = go(Run())
    batches = batch_count(len(digits.split("train")), 128)
    with pytest.raises(KeyboardInterrupt):
        go(Run(checkpoint=tmp_path), stop=2 * batches + 1)
    resumed = go(Run(checkpoint=tmp_path))
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_zeros_and_quantizers_stay(digits, pair) -> None:
    student, teacher = pair
    own = layers.own(student)
    for layer in layers.weighted(own).values():
        layer.set_mask(layer.weight.abs() >= layer.weight.abs().median())
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers.weighted(own).values())
    taught = teaching.teach(own, {"t": teacher}, digits, train.Plan(epochs=1, batch=128, lr=0.05), Run(), mimic)
    assert sum(int((layer.weight == 0).sum()) for layer in layers.weighted(taught).values()) >= zeros > 0


def test_a_teacher_worse_than_its_student_is_said_with_both_scores() -> None:
    assert teaching.warnings({"t": 0.9}, 0.5, 0.8) == []
    (line,) = teaching.warnings({"t": 0.9}, 0.5, 0.95)
    assert line == "the teacher t scores 90.0 % on validation, its student after it was taught 95.0 %"
    (line,) = teaching.warnings({"t": 0.9}, 0.91, 0.95)
    assert "before it was taught 91.0 %" in line
    assert teaching.warnings({"t": None}, 0.5, None) == []  # nothing to validate on


def test_other_inputs_are_refused_with_both_shapes(digits, pair) -> None:
    from lessen.models import build

    student, _ = pair
    with pytest.raises(Refused, match=r"takes inputs of shape \(3, 32, 32\), for a task of \(1, 8, 8\)"):
        teaching.refuse_misfit("LogitDistill", "t", build(TEACHER, classes=10), student, digits)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(100, 10))
    with pytest.raises(Refused, match=r"does not take inputs of shape \(1, 8, 8\) \(.*64.*100"):
        teaching.refuse_misfit("LogitDistill", "t", flat, student, digits)


def test_a_teacher_that_cannot_take_the_sizes_is_named(digits, pair) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    plan = train.Plan(epochs=1, sizes=(6, 8))
    with pytest.raises(BadField, match="holds 6, but the teacher flat cannot take images of 6 px"):
        teaching.teach(pair[0], {"flat": teacher}, digits, plan, Run(), mimic)


def test_aids_go_where_the_student_is(digits, pair, monkeypatch) -> None:
    taught = []
    monkeypatch.setattr(train, "fit", lambda model, *_, **__: taught.append(model))
    monkeypatch.setattr(digits, "evaluate", lambda *_: None)
    student = pair[0].to("meta")
    teaching.teach(student, {"t": pair[1]}, digits, train.Plan(epochs=1), Run(), mimic, aids=nn.Linear(2, 2))
    assert {p.device.type for p in taught[0].parameters()} == {"meta"}


def test_a_teacher_of_two_views_shows_its_layers_for_the_image_as_it_is(digits) -> None:
    with digits.seeded(0):
        teacher, alone = (digits.build(f"fast75(width=0.1, views={n})").eval() for n in (2, 1))
    alone.load_state_dict(teacher.state_dict())
    x, path = digits.inputs(digits.split("train").x[:5]), "stages.1.act1"
    both, one = (teaching.view(m, x, (path,)) for m in (teacher, alone))
    torch.testing.assert_close(both.features[0], one.features[0])
    mirrored = teaching.view(alone, x.flip(3)).logits
    torch.testing.assert_close(both.logits, (one.logits + mirrored) / 2)

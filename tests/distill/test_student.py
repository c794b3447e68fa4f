"""A student is smaller, seeded, of the model's own family unless named, and takes nobody's winnings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.distill.student import Student
from lessen.ops import layers
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask


@pytest.fixture(scope="module")
def task() -> ImageTask:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 4
    return ImageTask(Images(x, y, x[:8], y[:8], classes=tuple("abcd"), license="none", baseline=""), Settings())


@pytest.fixture
def model(task: ImageTask) -> nn.Module:
    with task.seeded(0):
        return task.build("cnn(width=0.5)")


def test_the_default_is_the_same_net_with_half_its_width(task: ImageTask, model: nn.Module) -> None:
    student, record = Student().apply(model, task)
    assert student.builder.args == {"width": 0.25, "shape": (1, 8, 8), "classes": 4}  # type: ignore[union-attr]
    assert record.after.parameters < record.before.parameters / 3 and record.details["student"] == "cnn(width=0.25)"
    assert any("untrained" in note for note in record.notes)
    assert Student(width=0.25).apply(model, task)[0].builder.args["width"] == 0.125


def test_a_student_may_be_named(task: ImageTask, model: nn.Module) -> None:
    student, _ = Student(model="resnet8(width=0.25)").apply(model, task)
    assert student.builder.name == "resnet8" and student(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    with pytest.raises(UnknownName, match="unknown model 'resnet9'"):
        Student(model="resnet9").apply(model, task)


def test_what_its_builder_froze_stays_so(task: ImageTask, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    build = task.build

    def frozen(text: str) -> nn.Module:
        net = build(text)
        next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).eval()
        return net

    monkeypatch.setattr(task, "build", frozen)
    for training in (True, False):
        student, _ = Student().apply(model.train(training), task)
        assert student.training == training
        norms = [m.training for m in student.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms == [False, *[training] * (len(norms) - 1)] and len(norms) > 1


def test_its_weights_follow_from_the_seed(task: ImageTask, model: nn.Module) -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in Student().apply(model, task, seed=seed)[0].parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("technique", [Student(width=1.0), Student(model="cnn")])
def test_a_student_that_is_not_smaller_is_refused_with_both_counts(
    technique: Student, task: ImageTask, model: nn.Module
) -> None:
    teacher, student = (
        task.cost(m).parameters for m in (model, task.build("cnn" if technique.model else "cnn(width=0.5)"))
    )
    with pytest.raises(Refused) as e:
        technique.apply(model, task)
    assert f"{student:,}" in str(e.value) and f"{teacher:,}" in str(e.value)


def prune(model: nn.Module) -> None:
    layer = next(iter(layers.weighted(layers.own(model)).values()))
    layer.set_mask(torch.rand_like(layer.weight) > 0.5)


def quantize(model: nn.Module) -> None:
    layer = next(iter(layers.weighted(layers.own(model)).values()))
    layer.iq = layers.ActivationQuantizer()


def rebuild(model: nn.Module) -> None:
    parent = model.get_submodule("features")
    first = next(iter(parent._modules))
    parent._modules[first] = nn.Sequential(parent._modules[first], nn.Identity())


def invent(model: nn.Module) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    first = next(name for name, m in model.named_modules() if isinstance(m, nn.ReLU))
    model.set_submodule(first, Odd())


@pytest.mark.parametrize("change", [prune, quantize, rebuild, invent])
def test_it_never_throws_a_compression_away(change, task: ImageTask, model: nn.Module) -> None:
    change(model)
    with pytest.raises(Refused, match=r"Student cannot follow a compression because .*put Student first"):
        Student().apply(model, task)


def test_what_was_trained_may_be_replaced_and_teaches(task: ImageTask, model: nn.Module) -> None:
    student, _ = Student().apply(model, task, run=Run(done=("Finetune(epochs=1)",)))
    assert student.builder.args["width"] == 0.25  # type: ignore[union-attr]


def test_an_untrained_student_has_nothing_to_teach(task: ImageTask, model: nn.Module) -> None:
    with pytest.raises(Refused, match=r"Student cannot follow Student\(\) because .* untrained .*; put a step"):
        Student().apply(model, task, run=Run(done=("Finetune(epochs=1)", "Student()")))


def test_our_own_layers_alone_are_no_compression(task: ImageTask, model: nn.Module) -> None:
    Student().apply(layers.own(model), task)


def test_a_model_without_a_builder_needs_a_name(task: ImageTask) -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, 4))
    with pytest.raises(BadField, match=r"Student\.model is empty"):
        Student().apply(bare, task)
    assert Student(model="cnn").apply(bare, task)[0].builder.name == "cnn"
    prune(bare)
    with pytest.raises(Refused, match="put Student first"):
        Student(model="cnn").apply(bare, task)

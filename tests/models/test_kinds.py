"""Kinds of layers, read from one net and given to another of other widths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen import catalog
from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.distill.student import Student
from lessen.models import kinds
from lessen.ops import calibration, layers


@pytest.fixture(scope="module")
def model(digits) -> nn.Module:
    with digits.seeded(0):
        return digits.build("resnet8(width=0.5)")


def inherited(digits, model: nn.Module, before: str):
    """The student behind these steps, and its record."""
    student, records = catalog.recipe(f"{before} >> Student(inherit=True)").apply(model, digits)
    return student, records[-1]


def bits(net: nn.Module) -> list[int | None]:
    return [None if m.wq is None else m.wq.bits for m in layers.weighted(layers.own(net)).values()]


def test_most_has_the_kind_of_most() -> None:
    assert kinds.most([4, 8, 8, None], repr) == 8
    assert kinds.most([None, None, 8], repr) is None
    assert kinds.most([], repr) is None


def test_the_first_and_the_last_have_their_own_kind(digits, model) -> None:
    student, record = inherited(digits, model, "MixedBits(by='ends', bits=4)")
    n = len(layers.weighted(student))
    assert bits(student) == [8] + [4] * (n - 2) + [8]
    assert record.details["inherited"] == {
        "first": "8 bits",
        "inner": "4 bits",
        "last": "8 bits",
        "activations": "8 bits",
    }


def test_the_others_have_what_most_of_the_others_have(digits, model) -> None:
    paths = list(layers.weighted(layers.own(digits.copy(model))))
    by_hand = tuple((path, 2 if i < 3 else 4) for i, path in enumerate(paths))  # 2 bits in the first three of ten
    student, _ = inherited(digits, model, f"MixedBits(by='given', layers={by_hand!r})")
    n = len(layers.weighted(student))
    assert bits(student) == [2] + [4] * (n - 1)


def test_activations_stand_where_int8_would_put_them(digits, model) -> None:
    student, _ = inherited(digits, model, "Int4(activations=4)")
    like, _ = catalog.recipe("Int4(activations=4)").apply(digits.build("resnet8(width=0.25)"), digits)

    def places(net: nn.Module) -> dict[str, int]:
        return {path: m.bits for path, m in net.named_modules() if isinstance(m, layers.ActivationQuantizer)}

    assert places(student) == places(like) and set(places(student).values()) == {4, 8}  # the model's input keeps 8


def test_groups_zero_points_halves_signs_and_dynamic_ranges_go_over(digits, model) -> None:
    student, record = inherited(digits, model, "Int4(group=16, symmetric=False, activations='float')")
    assert all(m.wq.spec() == {"bits": 4, "group": 16, "symmetric": False} for m in layers.weighted(student).values())
    assert record.details["inherited"]["inner"] == "4 bits, groups of 16"
    student, _ = inherited(digits, model, "BFloat16()")
    assert {m.wq.kind for m in layers.weighted(student).values()} == {"bfloat16"}
    student, _ = inherited(digits, model, "Binary(epochs=0, activations=1, scale='learned')")
    assert bits(student)[0] == bits(student)[-1] == 8 and set(bits(student)[1:-1]) == {1}
    inner = list(layers.weighted(student).values())[1:-1]
    assert all(m.wq.follows == "learned" and isinstance(m.iq, layers.SignActivations) for m in inner)
    student, _ = inherited(digits, model, "DynamicInt8()")
    assert bits(student)[-1] == 8 and set(bits(student)[:-1]) == {None}
    assert isinstance(list(layers.weighted(student).values())[-1].iq, layers.DynamicQuantizer)


def test_zeros_stay_behind_and_that_is_said(digits, model) -> None:
    student, record = inherited(digits, model, "MagnitudePrune(sparsity=0.5) >> Int8()")
    assert all(m.mask is None for m in layers.weighted(student).values()) and set(bits(student)) == {8}
    assert any("which weights are zero is not inherited" in note for note in record.notes)
    student, record = inherited(digits, model, "MagnitudePrune(sparsity=0.5)")
    assert set(bits(student)) == {None} and any("not inherited" in note for note in record.notes)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("LowRank(keep=0.5)", r"LowRank\(.*\) because '.*' was factored into 2 layers, which .* cannot inherit"),
        (
            "ChannelPrune(ratio=0.5)",
            r"ChannelPrune\(.*\) because '.*' was cut to another shape, which .* cannot inherit",
        ),
    ],
)
def test_what_cannot_go_over_is_refused_with_the_reason(digits, model, before, reason) -> None:
    with pytest.raises(Refused, match=f"Student cannot follow {reason}; put Student first"):
        inherited(digits, model, before)


def test_a_change_that_nobody_knows_is_refused(digits, model) -> None:
    class Odd(nn.ReLU6):
        pass

    odd = digits.copy(model)
    odd.set_submodule(next(name for name, m in odd.named_modules() if isinstance(m, nn.ReLU)), Odd())
    with pytest.raises(Refused, match=r"Student cannot follow a compression because a part of it is no layer of"):
        Student(inherit=True).apply(odd, digits)
    odd.set_submodule(next(name for name, m in odd.named_modules() if isinstance(m, Odd)), nn.GELU())
    with pytest.raises(Refused, match=r"is a GELU that its builder does not make"):
        Student(inherit=True).apply(odd, digits)


def test_an_untrained_student_still_has_nothing_to_teach(digits, model) -> None:
    with pytest.raises(Refused, match=r"untrained and has nothing to teach; put a step"):
        Student(inherit=True).apply(model, digits, run=Run(done=("Student()",)))


def test_without_a_compression_it_is_a_plain_student(digits, model) -> None:
    one, _ = Student(inherit=True).apply(model, digits, seed=1)
    other, _ = Student().apply(model, digits, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_fresh_batch_norms_get_the_statistics_of_the_samples(digits) -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Conv2d(1, 1, 1)).train()
    kinds.settle(net, digits)
    x = calibration.samples(digits)
    torch.testing.assert_close(net[0].running_mean, x.mean().reshape(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net[0].running_var, x.var().reshape(1), atol=1e-5, rtol=1e-4)
    assert net.training and net[0].training and net[0].momentum == 0.1

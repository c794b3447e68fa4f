"""Stages are found by the shapes of what layers give; what does not fit is said with both models' layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen.core.errors import Refused, UnknownName
from lessen.models import build
from lessen.ops import layer_pairs, layers
from lessen.ops.layer_pairs import Output, Pair

TINY_VIT = "vit(patch=2, depth=2, dim=16)"


def shown(text: str, side: int = 32) -> list[Output]:
    model = build(text, classes=10, shape=(3, side, side))
    return layer_pairs.outputs(model, torch.rand(1, 3, side, side))


def ends(text: str, side: int = 32) -> list[str]:
    return [str(o) for o in layer_pairs.ends(shown(text, side))]


def test_a_stage_ends_at_the_last_output_of_its_size() -> None:
    assert ends("resnet20(width=0.25)") == [
        "features.stage1.2.relu 4x32x32", "features.stage2.2.relu 8x16x16", "features.stage3.2.relu 16x8x8",
        "pool 16x1x1",
    ]  # fmt: skip
    assert ends("vgg11(width=0.125)")[-2:] == ["features.relu5_2 64x4x4", "pool 64x1x1"]
    assert ends(TINY_VIT, 8) == ["encoders.1.add2 16x16"]  # not the layer norm behind it


def test_families_are_paired_by_equal_size() -> None:
    pairs = layer_pairs.find("X", shown("vgg8(width=0.125)"), shown("resnet8"))
    assert [(p.student.path, p.teacher.path) for p in pairs] == [
        ("features.relu1_1", "features.stage1.0.relu"),
        ("features.relu2_1", "features.stage2.0.relu"),
        ("features.relu3_1", "features.stage3.0.relu"),
    ]
    assert not any(p.pooled for p in pairs)
    assert layer_pairs.find("X", shown("vgg8(width=0.125)"), shown("resnet8"), places=256) == pairs[:2]
    (pair,) = layer_pairs.find("X", shown("resnet8", 8), shown(TINY_VIT, 8))  # tokens of a 4 x 4 grid
    assert (pair.student.shape, pair.teacher.shape, pair.size) == ((32, 4, 4), (16, 16), (4, 4))


def test_without_an_equal_size_stages_are_paired_from_the_deepest_up_and_pooled() -> None:
    ours = [Output("a", (8, 14, 14)), Output("b", (16, 7, 7))]
    theirs = [Output("x", (4, 32, 32)), Output("y", (8, 16, 16)), Output("z", (16, 8, 8))]
    pairs = layer_pairs.find("X", ours, theirs)
    assert [(p.student.path, p.teacher.path, p.size) for p in pairs] == [("a", "y", (14, 14)), ("b", "z", (7, 7))]
    details, notes = {}, []
    layer_pairs.account(pairs, details, notes)
    assert details["pairs"][1] == {"student": "b", "teacher": "z", "shapes": [[16, 7, 7], [16, 8, 8]]}
    assert notes[1] == "b 16x7x7 and the teacher's z 16x8x8 differ in size and are pooled to 7x7"


def test_perceptrons_are_paired_by_their_last_vectors_or_refused_with_all_layers() -> None:
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 10))
    found = layer_pairs.outputs(mlp, torch.rand(1, 3, 8, 8))
    assert [o.path for o in found] == ["1", "2", "3", "4"]  # neither pixels nor the head
    teacher = shown("resnet8", 8)
    assert layer_pairs.find("X", found, teacher) == (Pair(Output("4", (7,)), Output("pool", (64, 1, 1))),)
    with pytest.raises(
        Refused, match=r"X finds no layers .* student has 4 7, the teacher features.*relu 16x8x8, .*layers"
    ) as e:
        layer_pairs.find("X", found, teacher, 2)
    assert "\n" not in str(e.value)
    straight = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(Refused, match="the student has none before its head"):
        layer_pairs.find("X", layer_pairs.outputs(straight, torch.rand(1, 3, 8, 8)), teacher)


def test_names_are_looked_up_on_their_side() -> None:
    ours, theirs = shown("vgg8(width=0.125)"), shown("resnet8")
    (pair,) = layer_pairs.named("X", [("features.pool2", "features.stage1")], ours, theirs)
    assert pair.pooled and pair.size == (8, 8)
    with pytest.raises(
        UnknownName, match=r"unknown layer of the student in X\.layers 'relu3_2'; did you mean .*relu3_1"
    ):
        layer_pairs.named("X", [("relu3_2", "features.stage1")], ours, theirs)
    with pytest.raises(UnknownName, match=r"layer of the teacher in X\.layers 'features.stage4'; did you mean"):
        layer_pairs.named("X", [("features.relu1_1", "features.stage4")], ours, theirs)


def test_tokens_of_no_square_stand_beside_their_like_alone() -> None:
    tokens, maps = Output("t", (50, 8)), Output("m", (8, 7, 7))
    assert layer_pairs.find("X", [tokens], [Output("u", (50, 4))])[0].size == (50, 1)
    with pytest.raises(Refused, match="t 50x8 with m 8x7x7: the tokens of one fill no square"):
        layer_pairs.named("X", [("t", "m")], [tokens], [maps])
    with pytest.raises(Refused, match="finds no layers"):
        layer_pairs.find("X", [tokens], [maps])


def test_quantizers_are_no_layers_and_modes_stay(digits, trained) -> None:
    from lessen import catalog

    before = layer_pairs.outputs(trained, digits.inputs(digits.split("calibration").x[:1]))
    quantized = catalog.recipe("Int8()").steps[0].apply(trained, digits)[0].train()
    assert any(isinstance(m, layers.Quantizer) for m in quantized.modules())
    after = layer_pairs.outputs(quantized, digits.inputs(digits.split("calibration").x[:1]))
    assert [str(o) for o in layer_pairs.ends(after)] == [str(o) for o in layer_pairs.ends(before)]
    assert all(m.training for m in quantized.modules())


def test_the_head_is_the_last_linear_to_run(digits, trained) -> None:
    assert layer_pairs.head("X", "student", trained, digits) == "head"
    convolutions = nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(Refused, match="X finds no Linear head in the teacher"):
        layer_pairs.head("X", "teacher", convolutions, digits)
    x = digits.inputs(digits.split("calibration").x[:1])
    assert [o.path for o in layer_pairs.outputs(convolutions, x)] == ["0", "1"]  # the answer itself is no hint

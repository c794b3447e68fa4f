from __future__ import annotations

import math

import pytest
import torch

from lessen import catalog
from lessen.artifact import load, pack
from lessen.core.errors import BadData, BadField, Refused, UnknownName
from lessen.core.technique import Technique
from lessen.ops import layers

STEM, HEAD = "features.stem.conv", "head"


def mixed(**fields) -> Technique:
    return catalog.technique("MixedBits")(**fields)


@pytest.mark.parametrize("by", ["fisher", "hessian", "variance"])
def test_a_budget_of_average_bits_is_kept_and_told(digits, trained, by):
    model, record = mixed(by=by, budget=5.0, looks=32, draws=4).apply(trained, digits)
    told = record.details
    bits = {p: m.wq.bits for p, m in layers.weighted(model).items()}
    assert told["bits"] == bits and len(set(bits.values())) > 1
    assert told["reached"]["average bits"] <= 5.0 and told["budget"] == {"asked": 5.0, "of": "average bits"}
    assert set(told["sensitivity"]) == set(bits)
    chosen = [told["sensitivity"][p]["loss"][str(b)] for p, b in bits.items()]
    assert told["objective"] == pytest.approx(sum(chosen)) and math.isfinite(told["objective"])
    errors = [s["error"] for s in told["sensitivity"].values()]
    assert all(e is not None and e >= 0 for e in errors) if by == "hessian" else errors == [None] * len(bits)
    assert record.score is not None and record.score > digits.evaluate(trained, "validation") - 0.1


def test_a_budget_of_bytes_is_that_of_the_packed_file(digits, trained, baseline, tmp_path):
    model, record = mixed(budget=0.28, of="bytes kept", looks=32, choices=(8, 4, 2)).apply(trained, digits)
    artifact = pack(model, digits, tmp_path / "mixed", recipe="MixedBits()", records=(record,))
    real = artifact.runnable[0].stat().st_size
    reached = load(artifact.folder).manifest.records[0].details["reached"]
    assert reached["bytes"] == pytest.approx(real, rel=0.02)
    assert reached["float32 bytes"] == pytest.approx(baseline.runnable[0].stat().st_size, rel=0.02)
    assert 0.25 < reached["bytes kept"] <= 0.28
    assert real <= 0.28 * 1.02 * baseline.runnable[0].stat().st_size


def test_a_larger_budget_has_no_larger_loss(digits, trained):
    losses = []
    for budget in (2.5, 4.0, 8.0):
        _, record = mixed(budget=budget, looks=16).apply(trained, digits)
        losses.append(record.details["objective"])
    assert losses == sorted(losses, reverse=True)


def test_first_and_last_higher_and_layers_by_hand(digits, trained):
    _, record = mixed(by="ends", bits=2, layers=(("features.stage1.0.body.0.conv", 4),)).apply(trained, digits)
    bits = record.details["bits"]
    assert (bits[STEM], bits[HEAD], bits["features.stage1.0.body.0.conv"]) == (8, 8, 4)
    assert {b for p, b in bits.items() if p not in (STEM, HEAD, "features.stage1.0.body.0.conv")} == {2}
    assert "budget" not in record.details and "objective" not in record.details


def test_only_what_is_given_changes(digits, trained):
    model, record = mixed(by="given", layers=((HEAD, 3),), activations="float").apply(trained, digits)
    assert {p: b for p, b in record.details["bits"].items() if b < 32} == {HEAD: 3}
    assert all(m.wq is None for p, m in layers.weighted(model).items() if p != HEAD)


def test_a_layer_by_hand_is_part_of_the_budget(digits, trained):
    _, record = mixed(budget=5.0, layers=(("features.stage3.0.body.1.conv", 8),), looks=16).apply(trained, digits)
    assert record.details["bits"]["features.stage3.0.body.1.conv"] == 8
    assert record.details["reached"]["average bits"] <= 5.0


def test_it_trains_afterwards(digits, trained):
    recipe = "MixedBits(budget=2.5, looks=32, choices=(8, 4, 2)) >> Finetune(epochs=2, lr=0.02)"
    model, records = catalog.recipe(recipe).apply(trained, digits)
    assert records[1].score > records[0].score
    assert {p: m.wq.bits for p, m in layers.weighted(model).items()} == records[0].details["bits"]


def test_halves_are_chosen_with_float_activations_alone(digits, trained):
    for activations, most in ((8, 8), ("float", 16)):
        _, record = mixed(budget=9.0, looks=16, activations=activations).apply(trained, digits)
        assert max(record.details["bits"].values()) == most
    halves, _ = catalog.recipe("Float16()").apply(trained, digits)
    _, record = mixed(by="variance").apply(halves, digits)
    assert max(record.details["bits"].values()) <= 8


def test_half_of_large_weights_is_bfloat16(digits, trained):
    large = digits.copy(trained)
    with torch.no_grad():
        large.head.weight[0, 0] = 1e5
    model, _ = mixed(by="given", layers=((HEAD, 16),), activations="float").apply(large, digits)
    assert layers.weighted(model)[HEAD].wq.kind == "bfloat16"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"budget": 1.5}, BadField, r"1.5 \(average bits\) is below the smallest possible, 2;"),
        (
            {"budget": 0.05, "of": "bytes kept"},
            BadField,
            r"0.05 \(bytes kept\) is below the smallest possible, 0\.\d+;",
        ),
        ({"of": "bytes kept"}, BadField, "must be at most 1; it is a share"),
        ({"choices": ()}, BadField, "choices has nothing to choose from"),
        ({"choices": (16,)}, BadField, "choices has nothing to choose from"),
        ({"layers": ((HEAD, 16),)}, BadField, "'head' 16 bits, which needs activations='float'"),
        ({"layers": (("hed", 4),)}, UnknownName, "did you mean 'head'"),
    ],
)
def test_bad_input_is_one_line_with_the_mend(digits, trained, fields, error, message):
    with pytest.raises(error, match=message):
        mixed(**fields).apply(trained, digits)


def test_bits_that_do_not_exist():
    for fields in ({"bits": 5}, {"choices": (7,)}, {"layers": (("head", 1),)}):
        with pytest.raises(BadField, match=rf"^MixedBits.{next(iter(fields))}"):
            mixed(**fields)


def test_weights_that_are_not_finite(digits, trained):
    broken = digits.copy(trained)
    with torch.no_grad():
        broken.head.weight[0, 0] = math.nan
    with pytest.raises(Refused, match="MixedBits cannot quantize 'head'"):
        mixed().apply(broken, digits)


def test_a_calibration_split_that_is_empty(digits, trained, monkeypatch):
    split = digits.split

    def none(name):
        found = split(name)
        return type(found)(found.x[:0], found.y[:0]) if name == "calibration" else found

    monkeypatch.setattr(type(digits), "split", lambda self, name: none(name))
    with pytest.raises(BadData, match="calibration split is empty"):
        mixed(activations="float").apply(trained, digits)

"""The techniques below and beside int8: what they leave in the model, what they keep, and what they refuse."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from lessen import QAT, BFloat16, DynamicInt8, Float16, Int2, Int3, Int4, Int8, MixedBits, catalog
from lessen.artifact import load, pack
from lessen.core.errors import BadData, BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Split
from lessen.ops import bias_correction, calibration, equalization, layers
from lessen.ops.distortion import Distortion


def logits(model, task, n=300):
    with torch.inference_mode():
        return model.eval()(task.inputs(task.split("test").x[:n]))


def sqnr(model, trained, task) -> float:
    return Distortion.of(logits(trained, task), logits(model, task)).sqnr_db


def quantizers(model) -> list:
    return [layer.wq for layer in layers.weighted(model).values()]


# --- what they leave


@pytest.mark.parametrize(
    ("technique", "levels"),
    [
        (Int4(), 15),
        (Int4(levels="log"), 15),
        (Int3(), 7),
        (Int3(levels="log"), 7),
        (Int2(), 3),
        (Int2(symmetric=False), 4),
    ],
)
def test_weights_stand_on_few_levels_and_activations_on_256(digits, trained, technique, levels) -> None:
    model, record = technique.apply(trained, digits)
    for path, layer in layers.weighted(model).items():
        rows = layer.effective_weight().detach().flatten(1)
        assert max(len(row.unique()) for row in rows) <= levels, path
        assert record.details["bits"][path] == layer.wq.bits
    activations = [m for m in model.modules() if isinstance(m, layers.ActivationQuantizer)]
    assert activations and all(a.bits == 8 for a in activations)


def test_fewer_bits_are_fewer_decibels(digits, trained) -> None:
    found = [sqnr(t.apply(trained, digits)[0], trained, digits) for t in (Int8(), Int4(), Int3(), Int2())]
    assert found == sorted(found, reverse=True) and found[0] > 30 and found[1] > 10


def test_small_groups_lose_less_than_rows(digits, trained) -> None:
    rows, groups = (
        sqnr(Int4(group=g, activations="float", weight_ranges="coverage").apply(trained, digits)[0], trained, digits)
        for g in (0, 8)
    )
    assert groups > rows + 2


def test_four_bit_activations_leave_the_models_input_in_eight(digits, trained) -> None:
    model, _ = Int4(activations=4).apply(trained, digits)
    assert model.features.stem.conv.iq.bits == 8
    assert {m.bits for m in model.modules() if isinstance(m, layers.ActivationQuantizer)} == {4, 8}
    assert model.head.iq.bits == 4


@pytest.mark.parametrize(("technique", "db"), [(Float16(), 60), (BFloat16(), 40)])
def test_halves_are_near_and_half_the_bytes(digits, trained, technique, db) -> None:
    model, record = technique.apply(trained, digits)
    assert sqnr(model, trained, digits) > db
    assert record.after.weight_bits < 0.55 * record.before.weight_bits
    assert "compute them in float32" in record.notes[-1]
    again, record = technique.apply(Int4().apply(trained, digits)[0], digits)
    assert all(wq.bits == 4 for wq in quantizers(again)) and "fewer bits already" in record.notes[0]


def test_a_weight_beyond_float16_is_refused_and_fits_bfloat16(digits, trained) -> None:
    model = digits.copy(trained)
    with torch.no_grad():
        model.head.weight[0, 0] = 1e5
    with pytest.raises(Refused, match=r"Float16 cannot hold the weights of 'head', up to 100000; use BFloat16"):
        Float16().apply(model, digits)
    BFloat16().apply(model, digits)


def test_dynamic_int8_takes_linear_layers_alone(digits, trained) -> None:
    model, record = DynamicInt8().apply(trained, digits)
    assert isinstance(model.head.iq, layers.DynamicQuantizer) and model.head.wq.bits == 8
    assert all(m.wq is None for m in layers.weighted(model).values() if isinstance(m, nn.Conv2d))
    assert "9 convolutions are left out" in record.notes[-1] and sqnr(model, trained, digits) > 25
    static, _ = Int8().apply(model, digits)
    assert isinstance(static.head.iq, layers.ActivationQuantizer)
    kept, record = DynamicInt8().apply(static, digits)
    assert isinstance(kept.head.iq, layers.ActivationQuantizer) and "keeps the calibrated range" in record.notes[0]


def test_dynamic_int8_of_convolutions_alone_is_refused(digits) -> None:
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(Refused, match=r"finds no Linear layer.*slower than in float.*use Int8\(\)"):
        DynamicInt8().apply(model, digits)


# --- options


@pytest.mark.parametrize(
    ("nearest", "db"),
    [
        (Int4(), 1),
        (Int4(levels="log"), 1),
        (Int3(), 2),
        (Int2(), 1),
        (Int2(symmetric=False), 1.5),
        (Int2(group=8, activations="float"), 1),
        (MixedBits(budget=3.0), 3),
        (Int2(correct_bias=False, activations="float"), 1),
    ],
)
def test_gptq_is_nearer_to_the_float_model(digits, trained, nearest, db) -> None:
    gptq = catalog.recipe(str(nearest).replace(")", f"{', ' if '=' in str(nearest) else ''}rounding='gptq')"))
    (one, _), (other, records) = nearest.apply(trained, digits), gptq.apply(trained, digits)
    assert sqnr(other, trained, digits) > sqnr(one, trained, digits) + db
    told = records[-1].details["rounding"]
    assert set(told) == set(layers.weighted(other)) and all(e["gptq"] < e["nearest"] for e in told.values())
    for path, layer in layers.weighted(other).items():
        assert torch.equal(layer.wq(layer.weight), layer.weight), path


def test_gptq_keeps_zeros_and_fewer_bits_and_is_shipped_as_it_is(digits, trained, tmp_path) -> None:
    recipe = "MagnitudePrune(sparsity=0.5) >> Int2(symmetric=False, rounding='gptq') >> Int4(rounding='gptq')"
    model, records = catalog.recipe(recipe).apply(trained, digits)
    assert records[2].details["rounding"] == {} and all(wq.bits == 2 for wq in quantizers(model))
    for layer in layers.weighted(model).values():
        assert (layer.effective_weight()[~layer.mask] == 0).all() and (~layer.mask).any()
    pack(model, digits, tmp_path / "a")  # refuses a file that computes something else
    again = load(tmp_path / "a").model()
    assert torch.equal(logits(again, digits), logits(model, digits))


def test_bias_correction_takes_back_what_rounding_moved(digits, trained) -> None:
    plain, corrected = Int2(activations="float", correct_bias=False), Int2(activations="float")
    x = digits.inputs(digits.split("calibration").x[: bias_correction.SAMPLES])
    paths = list(layers.weighted(layers.own(digits.copy(trained))))
    reference = bias_correction._means(trained, paths, x)
    worst = []
    for technique in (plain, corrected):
        model, record = technique.apply(trained, digits)
        found = bias_correction._means(model, paths, x)
        # behind batch norm the mean itself stays and the norm's running mean follows: compare relative to it
        norms = {p: model.get_submodule(p.removesuffix("conv") + "norm") for p in paths if p != "head"}
        before = {p: trained.get_submodule(p.removesuffix("conv") + "norm") for p in norms}
        worst.append(
            max(
                float(
                    ((found[p].mean - norms[p].running_mean) - (reference[p].mean - before[p].running_mean)).abs().max()
                )
                for p in norms
            )
        )
        assert ("bias_shift" in record.details) == technique.correct_bias
    assert worst[1] < 1e-4 < worst[0]


def test_equalization_changes_scales_and_no_output(digits) -> None:
    with digits.seeded(0):
        model = layers.own(digits.build("cnn")).eval()
    with torch.no_grad():
        norm = model.features.conv1_1.norm
        norm.weight.mul_(torch.logspace(-2, 2, norm.num_features))
    before, chains = logits(model, digits), equalization.chains(model)
    assert len(chains) == 3 and chains[0].norm
    told = equalization.equalize(model)
    assert len(told) == 3 and max(told.values()) > 2
    torch.testing.assert_close(logits(model, digits), before, rtol=1e-3, atol=1e-4)
    for chain in equalization.chains(model):
        first, second, norm = (model.get_submodule(p) for p in (chain.first, chain.second, chain.norm))
        writes = first.weight.flatten(1).abs().amax(1) * (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()
        reads = equalization._columns(second, len(writes)).abs().amax((0, 2))
        torch.testing.assert_close(writes, reads, rtol=0.02, atol=1e-6)


def test_equalization_wins_back_what_uneven_channels_cost(digits, trained) -> None:
    model = digits.copy(trained)
    with torch.no_grad():
        norm, reader = model.features.stage2[0].body[0].norm, model.features.stage2[0].body[1].conv
        factor = torch.logspace(-1.5, 1.5, norm.num_features)
        norm.weight.mul_(factor)
        norm.bias.mul_(factor)
        reader.weight.div_(factor.reshape(1, -1, 1, 1))
    uneven = sqnr(Int4().apply(model, digits)[0], trained, digits)
    evened, record = Int4(equalize=True).apply(model, digits)
    assert sqnr(evened, trained, digits) > uneven + 3
    assert max(record.details["equalized"].values()) > 2


@pytest.mark.parametrize("rule", ["mse", "kl"])
def test_range_rules_reach_weights_and_activations(digits, trained, rule) -> None:
    plain, ruled = Int4(ranges="coverage", weight_ranges="coverage"), Int4(ranges=rule, weight_ranges=rule)
    one, other = (t.apply(trained, digits)[0] for t in (plain, ruled))
    narrower = [
        bool((b.scale <= a.scale * 1.001).all()) for a, b in zip(quantizers(one), quantizers(other), strict=True)
    ]
    assert all(narrower)
    tops = [
        [m.scale.item() for m in model.modules() if isinstance(m, layers.ActivationQuantizer)] for model in (one, other)
    ]
    assert all(b <= a * 1.01 for a, b in zip(*tops, strict=True)) and tops[0] != tops[1]


def test_old_texts_mean_what_they_did(digits, trained) -> None:
    assert str(Int8()) == "Int8()" and str(Int8(coverage=0.999)) == "Int8(coverage=0.999)"
    model, _ = catalog.recipe("Int8(coverage=0.999)").apply(trained, digits)
    x = digits.inputs(digits.split("calibration").x)
    path = next(p for p, m in layers.sites(model).items() if isinstance(m, nn.ReLU))
    span = calibration.spans(layers.own(digits.copy(trained)), x, outputs=[path], share=0.999)[0][path]
    assert model.get_submodule(path).oq.scale.item() == pytest.approx(float(span[1]) / 255, rel=1e-5)


# --- training


def test_qat_trains_weights_and_scales_and_tells_its_losses(digits, trained) -> None:
    rounded, _ = Int2(correct_bias=False).apply(trained, digits)
    model, record = QAT(bits=2, epochs=2, batch=32).apply(trained, digits)
    assert len(record.history) == 2 and record.history[1].loss < record.history[0].loss
    assert record.details["validation"]["before"] == digits.evaluate(trained, "validation")
    assert record.details["validation"]["rounded"] == digits.evaluate(rounded, "validation")
    assert record.score > record.details["validation"]["rounded"] + 0.3
    assert "2-bit weights and 8-bit activations" in record.notes[-1]
    for a, b in zip(quantizers(rounded), quantizers(model), strict=True):
        assert b.bits == 2 and not torch.equal(a.scale, b.scale) and bool((b.scale > 0).all())


def test_qat_goes_on_from_what_stands(digits, trained) -> None:
    model, _ = Int8().apply(trained, digits)
    fewer, _ = QAT(bits=4, activations=4, epochs=0).apply(model, digits)
    assert {wq.bits for wq in quantizers(fewer)} == {4} and fewer.head.iq.bits == 4
    kept, record = QAT(bits=8, epochs=0).apply(Int4(activations=4).apply(trained, digits)[0], digits)
    assert {wq.bits for wq in quantizers(kept)} == {4} and kept.head.iq.bits == 4
    assert record.details["epochs_to_recover"] is None


# --- what bad input gets


def test_groups_need_float_activations_in_either_order(digits, trained) -> None:
    with pytest.raises(BadField, match=r"Int4\.group = 16 needs activations='float'"):
        Int4(group=16).apply(trained, digits)
    grouped, _ = Int4(group=16, activations="float").apply(trained, digits)
    with pytest.raises(Refused, match=r"Int8 cannot follow groups of weights \('.*'\) because .*; do group=0 there"):
        Int8().apply(grouped, digits)
    static, _ = Int8().apply(trained, digits)
    with pytest.raises(Refused, match=r"Int4 cannot follow quantized activations because .*; do Int4\(group=0\)"):
        Int4(group=16, activations="float").apply(static, digits)
    kept, _ = DynamicInt8().apply(grouped, digits)
    assert kept.head.iq is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["Int8", "Int4", "Float16", "DynamicInt8", "QAT"])
def test_weights_that_are_not_finite_are_named(digits, trained, name, value) -> None:
    model = digits.copy(trained)
    with torch.no_grad():
        model.head.weight[0, :2] = value
    with pytest.raises(Refused, match=rf"{name} cannot quantize 'head': 2 of its weights are NaN or infinite; train"):
        catalog.technique(name)().apply(model, digits)


@pytest.mark.parametrize(
    ("rows", "says"), [(0, "the calibration split is empty"), (5, "all 5 calibration samples are the same")]
)
def test_calibration_data_that_says_nothing(digits, trained, monkeypatch, rows, says) -> None:
    split = digits.split

    def poor(name):
        found = split(name)
        return Split(found.x[:1].repeat(rows, 1, 1, 1), found.y[:1].repeat(rows)) if name == "calibration" else found

    monkeypatch.setattr(digits, "split", poor)
    with pytest.raises(BadData, match=says):
        Int4().apply(trained, digits)
    plain = {"activations": "float", "correct_bias": False}
    Int4(**plain).apply(trained, digits)  # needs none
    with pytest.raises(BadData, match=says):
        Int4(**plain, rounding="gptq").apply(trained, digits)


@pytest.mark.parametrize("text", ["QAT(bits=5)", "QAT(bits=1)", "Int4(activations=3)", "Int4(activations='half')"])
def test_bits_that_do_not_exist(text) -> None:
    with pytest.raises(BadField, match=r"^(QAT\.bits|Int4\.activations) = "):
        catalog.recipe(text)


def test_layers_that_no_quantizer_fits_are_named_and_stay_float(digits) -> None:
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.fc = nn.ConvTranspose2d(1, 2, 3), nn.Linear(200, 10)

        def forward(self, x):
            return self.fc(self.up(x).flatten(1))

    run = Run()
    model = Int4()._apply(Odd(), digits, run)
    assert "kept in float, there is no quantizer for them: 'up' (ConvTranspose2d)" in run.notes
    assert model.fc.wq.bits == 4
    with pytest.raises(Refused, match="finds no convolution or linear layer"):
        Int4()._apply(nn.Sequential(nn.Flatten()), digits, Run())


def test_a_group_that_does_not_divide_ends_in_a_shorter_one(digits, trained) -> None:
    model, _ = Int4(group=50, activations="float").apply(trained, digits)
    layer = model.features.stage2[0].body[0].conv
    columns = layer.weight[0].numel()
    assert columns % 50 and layer.wq.scale.shape == (len(layer.weight), -(-columns // 50))


def test_fewer_calibration_samples_see_no_wider_ranges(trained, digits):
    def ranges(text: str) -> dict[str, list[float]]:
        return catalog.recipe(text).apply(trained, digits)[1][0].details["activation_ranges"]

    few, all_ = ranges("Int8(samples=4)"), ranges("Int8()")
    assert few.keys() == all_.keys() and few != all_
    assert all(
        low >= below and high <= above for (low, high), (below, above) in zip(few.values(), all_.values(), strict=True)
    )
    assert ranges("Int8(samples=100_000)") == all_


# --- powers of two


@pytest.mark.parametrize("technique", [Int4(levels="log"), Int3(levels="log")])
def test_neighbouring_logarithmic_levels_are_twice_as_large(digits, trained, technique) -> None:
    model, _ = technique.apply(trained, digits)
    for path, layer in layers.weighted(model).items():
        assert type(layer.wq) is layers.LogWeights, path
        for row in layer.effective_weight().detach().flatten(1):
            size = row.abs().unique()
            steps = (size[size > 0] / size[size > 0].min()).log2()
            torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)
            assert steps.max() <= 2 ** (layer.wq.bits - 1) - 2


def test_training_on_logarithmic_levels_moves_scales_and_wins_back_score(digits, trained) -> None:
    rounded, _ = QAT(bits=3, levels="log", epochs=0).apply(trained, digits)
    model, record = QAT(bits=3, levels="log", epochs=2, batch=32).apply(trained, digits)
    told = record.details["validation"]
    assert digits.evaluate(model, "validation") > told["rounded"], told
    assert any("3-bit logarithmic weights" in note for note in record.notes)
    moved = [not torch.equal(a.scale, b.scale) for a, b in zip(quantizers(model), quantizers(rounded), strict=True)]
    assert all(moved) and all(bool((w.scale > 0).all()) for w in quantizers(model))


def test_logarithmic_levels_stay_under_int4_and_go_with_groups(digits, trained) -> None:
    model, _ = Int4(levels="log", group=16, activations="float").apply(trained, digits)
    kept, _ = Int4(activations="float", correct_bias=False).apply(model, digits)
    assert all(type(w) is layers.LogWeights for w in quantizers(kept)) and torch.equal(
        logits(model, digits), logits(kept, digits)
    )


@pytest.mark.parametrize(
    ("technique", "why"),
    [
        (QAT(bits=8, levels="log"), "QAT.levels = 'log' needs bits=4 or 3"),
        (QAT(bits=2, levels="log"), "QAT.levels = 'log' needs bits=4 or 3"),
        (Int4(levels="log", symmetric=False), "Int4.levels = 'log' needs symmetric=True"),
        (Int3(levels="log", weight_ranges="kl"), "Int3.levels = 'log' needs weight_ranges='mse' or 'coverage'"),
    ],
)
def test_what_powers_of_two_cannot_do_is_said_before_anything_changes(digits, trained, technique, why) -> None:
    with pytest.raises(BadField, match=re.escape(why)):
        technique.apply(trained, digits)

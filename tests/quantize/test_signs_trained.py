"""Binary and Ternary on a trained net: what they leave, what training wins back, what others may do to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen import Binary, ChannelPrune, Int2, Int8, LowRank, MagnitudePrune, NMPrune, Ternary, catalog
from lessen.core.errors import BadData, BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Split
from lessen.ops import layers

ENDS = {"features.stem.conv", "head"}
KINDS = [(Binary, 1), (Ternary, 2)]
both = pytest.mark.parametrize(("kind", "bits"), KINDS)


def quantizers(model) -> dict:
    return {path: layer.wq for path, layer in layers.weighted(model).items()}


# --- what they leave


@both
def test_inner_rows_have_two_or_three_levels_and_the_ends_keep_their_bits(digits, trained, kind, bits) -> None:
    for ends in (8, 4, "float"):
        model, record = kind(epochs=0, ends=ends).apply(trained, digits)
        for path, layer in layers.weighted(model).items():
            if path in ENDS:
                assert (32 if layer.wq is None else layer.wq.bits) == (32 if ends == "float" else ends)
            else:
                rows = layer.effective_weight().detach().flatten(1)
                assert max(len(row.unique()) for row in rows) <= bits + 1 and layer.wq.bits == bits, path
            assert record.details["bits"][path] == (32 if layer.wq is None else layer.wq.bits)


@both
def test_activations_are_float_eight_bits_or_signs(digits, trained, kind, bits) -> None:
    for activations in ("float", 8, 1):
        model, _ = kind(epochs=0, activations=activations).apply(trained, digits)
        inputs = {path: layer.iq for path, layer in layers.weighted(model).items()}
        signs = {path for path, iq in inputs.items() if isinstance(iq, layers.SignActivations)}
        assert signs == (set(inputs) - ENDS if activations == 1 else set())
        eights = [m for m in model.modules() if isinstance(m, layers.ActivationQuantizer)]
        assert bool(eights) == (activations != "float") and {m.bits for m in eights} <= {8}


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("Ternary(epochs=3, batch=32)", 0.8), ("Binary(epochs=3, batch=32, activations=8, scale='learned')", 0.75),
        ("Binary(epochs=3, batch=32, scale='one')", 0.75), ("Binary(epochs=3, batch=32, activations=1)", 0.4),
    ],
)  # fmt: skip
def test_training_wins_back_what_rounding_lost(digits, trained, text, least) -> None:
    _, record = catalog.recipe(text).apply(trained, digits)
    record = record[-1]
    assert record.details["validation"]["rounded"] < 0.5 < 0.9 < record.details["validation"]["before"]
    assert record.score > least and record.history[-1].loss < record.history[0].loss
    assert "trained for 3 epochs with" in record.notes[-1] and "8 bits in the first" in record.notes[-1]


def test_without_training_the_record_says_so(digits, trained) -> None:
    _, record = Binary(epochs=0).apply(trained, digits)
    assert record.notes[-1].startswith("not trained with 1-bit weights") and "set epochs" in record.notes[-1]
    assert record.score < 0.5 and record.details["validation"]["rounded"] == record.score


# --- orders


@both
def test_pruned_weights_never_come_back(digits, trained, kind, bits) -> None:
    pruned, _ = MagnitudePrune(sparsity=0.7).apply(trained, digits)
    model, record = kind(epochs=1, batch=64).apply(pruned, digits)
    for (path, layer), before in zip(layers.weighted(model).items(), layers.weighted(pruned).values(), strict=True):
        assert not layer.effective_weight()[before.weight == 0].any(), path
        assert not layer.weight[before.weight == 0].any()
    assert record.after.nonzeros <= record.before.nonzeros
    model, _ = catalog.recipe("Finetune(epochs=1, lr=0.01)").apply(model, digits)
    assert all(not m.effective_weight()[~m.mask].any() for m in layers.weighted(model).values() if m.mask is not None)


@pytest.mark.parametrize("prune", [MagnitudePrune(), NMPrune()])
def test_zeros_after_one_bit_are_refused_and_after_two_are_not(digits, trained, prune) -> None:
    binary, _ = Binary(epochs=0).apply(trained, digits)
    with pytest.raises(Refused, match=r"Prune cannot follow 1-bit weights \('.*'\) because a zero .* second bit.*; do"):
        prune.apply(binary, digits)
    ternary, _ = Ternary(epochs=0).apply(trained, digits)
    model, record = prune.apply(ternary, digits)
    assert record.after.nonzeros < record.before.nonzeros
    kept = [
        (a.effective_weight(), b) for a, b in zip(*(layers.weighted(m).values() for m in (ternary, model)), strict=True)
    ]
    assert all(torch.equal(a * (1 if b.mask is None else b.mask), b.effective_weight()) for a, b in kept)


@both
def test_channels_leave_and_signs_stay(digits, trained, kind, bits) -> None:
    signs, _ = kind(epochs=0).apply(trained, digits)
    model, record = ChannelPrune(ratio=0.3).apply(signs, digits)
    assert record.after.macs < record.before.macs and record.after.weight_bits < record.before.weight_bits
    assert {p: wq.bits for p, wq in quantizers(model).items()} == {p: wq.bits for p, wq in quantizers(signs).items()}
    rows = [row.unique() for m in layers.weighted(model).values() if m.wq.bits < 8 for row in m.effective_weight()]
    assert max(map(len, rows)) <= bits + 1
    before = {round(float(v), 6) for m in layers.weighted(signs).values() if m.wq.bits < 8 for v in m.wq.scale}
    assert {round(float(r.detach().abs().max()), 6) for r in rows} <= before | {0.0}


@both
def test_factors_are_signs_in_either_order(digits, trained, kind, bits) -> None:
    factors, _ = LowRank(keep=0.5).apply(trained, digits)
    model, _ = kind(epochs=0).apply(factors, digits)
    inner = [wq for path, wq in quantizers(model).items()][1:-1]
    assert all(isinstance(wq, layers.SignWeights) for wq in inner) and len(inner) > 8
    other, _ = LowRank(keep=0.5).apply(kind(epochs=0).apply(trained, digits)[0], digits)
    found = list(quantizers(other).values())
    assert len(found) > 8 and {wq.bits for wq in found} == {bits, 8}


def test_fewer_bits_stay_and_more_bits_go(digits, trained) -> None:
    binary, _ = Binary(epochs=0).apply(trained, digits)
    inner = [p for p in quantizers(binary) if p not in ENDS]
    for later in (Int8(), Int2(), Ternary(epochs=0), catalog.technique("Float16")()):
        model, _ = later.apply(binary, digits)
        assert all(quantizers(model)[p].bits == 1 for p in inner), later
    for first in (Int8(), Int2(), catalog.technique("Float16")(), Ternary(epochs=0)):
        model, _ = Binary(epochs=0).apply(first.apply(trained, digits)[0], digits)
        assert all(quantizers(model)[p].bits == 1 for p in inner), first
    model, _ = Int8().apply(Binary(epochs=0, activations=1).apply(trained, digits)[0], digits)
    assert all(isinstance(m.iq, layers.SignActivations) for p, m in layers.weighted(model).items() if p in inner)


def test_training_on_goes_through_the_signs(digits, trained) -> None:
    binary, _ = Binary(epochs=0).apply(trained, digits)
    model, _ = catalog.recipe("Finetune(epochs=2, lr=0.03, batch=32)").apply(binary, digits)
    a, b = (layers.weighted(m)["features.stage1.0.body.0.conv"] for m in (binary, model))
    assert (a.effective_weight().sign() != b.effective_weight().sign()).any()
    assert not torch.equal(a.wq.scale, b.wq.scale) and b.wq.bits == 1
    assert digits.evaluate(model, "validation") > digits.evaluate(binary, "validation") + 0.3


# --- what bad input gets


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@both
def test_weights_that_are_not_finite_are_named(digits, trained, kind, bits, value) -> None:
    model = digits.copy(trained)
    with torch.no_grad():
        model.features.stage1[0].body[0].conv.weight[0, 0, 0, :2] = value
    with pytest.raises(
        Refused, match=rf"{kind.__name__} cannot quantize 'features.stage1.*': 2 of its weights are NaN"
    ):
        kind().apply(model, digits)


@pytest.mark.parametrize(
    ("rows", "says"), [(0, "the calibration split is empty"), (5, "all 5 calibration samples are the same")]
)
@pytest.mark.parametrize("activations", [8, 1])
def test_calibration_data_that_says_nothing(digits, trained, monkeypatch, rows, says, activations) -> None:
    split = digits.split

    def poor(name):
        found = split(name)
        return Split(found.x[:1].repeat(rows, 1, 1, 1), found.y[:1].repeat(rows)) if name == "calibration" else found

    monkeypatch.setattr(digits, "split", poor)
    with pytest.raises(BadData, match=says):
        Binary(epochs=0, activations=activations).apply(trained, digits)
    Binary(epochs=0).apply(trained, digits)  # needs none


@pytest.mark.parametrize(
    "text", ["Binary(activations=4)", "Binary(ends=1)", "Binary(scale='median')", "Ternary(activations='half')"]
)
def test_choices_that_do_not_exist(text) -> None:
    with pytest.raises(BadField, match=r"^(Binary|Ternary)\.(activations|ends|scale) = "):
        catalog.recipe(text)


def test_nets_without_inner_layers_and_layers_without_quantizers(digits) -> None:
    with pytest.raises(Refused, match="finds no convolution or linear layer"):
        Binary()._apply(nn.Sequential(nn.Flatten()), digits, Run())
    with pytest.raises(Refused, match=r"Binary finds no layer between the first and the last.*use Int8\(\)"):
        Binary()._apply(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Linear(2, 10)), digits, Run())
    run = Run()
    odd = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ConvTranspose2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Flatten(),
                        nn.Linear(128, 10))  # fmt: skip
    model = Ternary(epochs=0)._apply(odd, digits, run)
    assert "kept in float, there is no quantizer for them: '1' (ConvTranspose2d)" in run.notes
    assert [wq.bits for wq in quantizers(model).values()] == [8, 2, 8]


def test_the_ends_are_told_by_the_order_of_computing(digits) -> None:
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.b, self.a = nn.Linear(8, 10), nn.Linear(8, 8), nn.Linear(64, 8)

        def forward(self, x):
            return self.c(self.b(self.a(x.flatten(1))))

    model = Binary(epochs=0)._apply(Turned(), digits, Run())
    assert {p: wq.bits for p, wq in quantizers(model).items()} == {"a": 8, "b": 1, "c": 8}

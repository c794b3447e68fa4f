"""Binary and ternary weights in the file: one or two bits each, the kernels of int8, both runtimes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from lessen import catalog, models
from lessen.artifact import export as exporting
from lessen.artifact import forms, pack
from lessen.artifact.fidelity import sqnr_db
from lessen.artifact.runtimes import RUNTIMES, open_session
from lessen.measure import sizes
from lessen.ops import layers

UNPACKING = {"Cast", "Div", "Mod", "Gather", "Slice", "Concat", "CumSum", "BitwiseAnd", "BitShift"}
INTEGER = ("QLinearConv", "QGemm", "QLinearAdd")


@pytest.fixture(scope="module")
def packed(digits, trained, baseline, tmp_path_factory):
    """Models and artifacts of the trained net by recipe, each made once."""
    folder, known = tmp_path_factory.mktemp("signs"), {}

    def artifact(recipe: str):
        if recipe not in known:
            model, records = catalog.recipe(recipe).apply(trained, digits)
            made = pack(model, digits, folder / str(len(known)), recipe=recipe, records=records, parent=baseline)
            known[recipe] = model, made
        return known[recipe]

    return artifact


W1, W1A8, W1A1, W2A8, SPARSE = (
    "Binary(epochs=1, batch=64)", "Binary(epochs=1, batch=64, activations=8)",
    "Binary(epochs=2, batch=32, activations=1)", "Ternary(epochs=1, batch=64, activations=8)",
    "MagnitudePrune(sparsity=0.7) >> Binary(epochs=1, batch=64, activations=8)",
)  # fmt: skip


@pytest.mark.parametrize("recipe", [W1A8, W2A8, SPARSE])
def test_eight_bit_activations_run_in_integer_kernels_throughout(packed, recipe) -> None:
    _, artifact = packed(recipe)
    counts = open_session(artifact.runnable).operators()
    assert [counts[k] for k in INTEGER] == [9, 1, 3]
    assert not {"Conv", "FusedConv", "Gemm", "BatchNormalization"} & set(counts) and not UNPACKING & set(counts)
    assert "int8 weights and uint8 activations in 10 of 10" in artifact.manifest.computes


def test_signs_of_inputs_are_compared_between_integer_kernels(packed) -> None:
    _, artifact = packed(W1A1)
    counts = open_session(artifact.runnable).operators()
    assert [counts[k] for k in INTEGER] == [9, 1, 3] and not UNPACKING & set(counts)
    assert counts["GreaterOrEqual"] == counts["Where"] == 6  # one for each tensor that binary layers read
    assert artifact.manifest.fidelity.least_agreement == 0.95  # one flipped sign is the whole range


def test_float_activations_fold_at_load(packed) -> None:
    _, artifact = packed(W1)
    counts = open_session(artifact.runnable).operators()
    assert counts["Conv"] == 9 and not (UNPACKING | {"Mul", "Sub", "DequantizeLinear"}) & set(counts)
    assert artifact.manifest.fidelity.sqnr_db > 100


@pytest.mark.parametrize(("recipe", "bits", "said"), [(W1A8, 1, "1 bit in 7 layers"), (W2A8, 2, "2 bits in 7 layers")])
def test_the_bits_are_real_and_the_manifest_says_so(packed, baseline, recipe, bits, said) -> None:
    model, artifact = packed(recipe)
    manifest, proto = artifact.manifest, onnx.load(artifact.runnable[0])
    inner = {path: m for path, m in layers.weighted(model).items() if m.wq.bits == bits}
    assert len(inner) == 8 and said in manifest.computes
    narrow = set(inner) - {"features.stage2.0.shortcut.conv"}  # of 128 weights, fewer bytes than their unpacking
    assert manifest.bits == dict.fromkeys(narrow, bits)
    stored = sum(numpy_helper.to_array(i).nbytes for i in proto.graph.initializer if ".dense." in i.name)
    assert stored == sum(-(-inner[path].weight.numel() * bits // 8) for path in narrow)
    assert manifest.files["model.onnx"].bytes < baseline.manifest.files["model.onnx"].bytes
    assert sizes.contradictions(artifact.runnable, manifest.cost) == () and manifest.notes == ()
    kept = dict(forms.weights(proto))
    for path in inner:
        (found,) = (v for name, v in kept.items() if name.startswith(path))
        assert set(np.unique(np.sign(found))) <= ({-1, 1} if bits == 1 else {-1, 0, 1}), path


def test_a_mask_beside_signs_is_stored_in_at_most_two_bits(packed) -> None:
    model, artifact = packed(SPARSE)
    kept = dict(forms.weights(onnx.load(artifact.runnable[0])))
    for path, layer in layers.weighted(model).items():
        (found,) = (v for name, v in kept.items() if name.startswith(path))
        assert layer.mask is None or not found.reshape(layer.mask.shape)[~layer.mask.numpy()].any(), path
        assert layer.wq.bits > 1 or layer.weight.numel() < 200 or artifact.manifest.bits[path] in (1, 2)


def test_many_zeros_beside_signs_are_a_mask_bit_and_a_sign_for_the_living() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = layers.Linear(300, 300, bias=False)
        layer.set_mask(torch.rand_like(layer.weight) < 0.2)
        layer.wq = layers.SignWeights.fitting(layer, 1)
    proto = exporting.export(nn.Sequential(layer), torch.zeros(1, 300)).proto
    done = forms.shrink(proto)
    assert list(done.bits.values()) == [1] and done.sparse[0].nonzeros == int(layer.mask.sum())
    assert done.sparse[0].bytes < 300 * 300 * 1.2 / 8 + 900


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("recipe", "least"), [(W1, 30), (W1A8, 30), (W2A8, 30), (SPARSE, 30), (W1A1, 8)])
def test_both_runtimes_compute_what_the_model_computes(digits, packed, runtime, recipe, least) -> None:
    model, artifact = packed(recipe)
    x = digits.inputs(digits.split("test").x[:300])
    with torch.inference_mode():
        expected = model.eval()(x).numpy()
    assert sqnr_db(expected, open_session(artifact.runnable, runtime).run(x.numpy())) > least


def test_a_loaded_model_goes_on_as_it_was(digits, packed) -> None:
    model, artifact = packed(W1A1)
    x = digits.inputs(digits.split("test").x[:64])
    with torch.inference_mode():
        assert torch.equal(artifact.model()(x), model.eval()(x))


def test_negative_and_dead_batch_norm_channels_fold_exactly(digits, trained, tmp_path) -> None:
    model = digits.copy(trained)
    norm = model.features.stage2[0].body[0].norm
    with torch.no_grad():
        norm.weight[0] *= -1
        norm.weight[1] = 0.0
    changed, _ = catalog.recipe("Binary(epochs=0)").apply(model, digits)
    artifact = pack(changed, digits, tmp_path / "out")
    assert artifact.manifest.fidelity.sqnr_db > 100
    assert artifact.manifest.bits["features.stage2.0.body.0.conv"] <= 2  # the dead channel is zeros beside signs


@pytest.mark.parametrize("text", ["vgg11(width=0.5)", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_a_binary_vgg_11_is_at_most_6_percent_of_its_float_file(text: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = layers.own(models.build(text).eval())
    sample = torch.zeros(1, 3, 32, 32)
    before = len(exporting.export(model, sample).proto.SerializeToString())
    first, *inner, last = layers.weighted(model).values()
    for layer in (first, last):
        layer.wq = layers.WeightQuantizer.fitting(layer, 8)
    for layer in inner:
        layer.wq = layers.SignWeights.fitting(layer, 1)
    for layer in (m for m in layers.sites(model).values() if isinstance(m, nn.ReLU)):
        layer.oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(1.0))
    first.iq = layers.ActivationQuantizer.covering(*torch.tensor([-1.0, 1.0]))
    proto = exporting.export(model, sample).proto
    forms.shrink(proto)
    assert len(proto.SerializeToString()) <= 0.06 * before

"""Nets as users write them come back from their artifact as they went in."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from users_nets import shared_activation

from lessen import catalog
from lessen.artifact import pack
from lessen.artifact.export import export
from lessen.artifact.fidelity import worst_layer
from lessen.models.state import STRUCTURE, load_model, save_model
from lessen.ops import layers

# torch says what it plans for nested tensors and for its older weight_norm
pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensors", "ignore:.*weight_norm")


@cache
def built(task, name: str) -> nn.Module:
    """Trained a little; do not edit it, techniques copy."""
    with task.seeded(0):
        model = task.build(f"users_nets:{name}")
    recipe = "Finetune(epochs=2, lr=0.005, batch=64, optimizer='adamw', augment=False)"
    return catalog.recipe(recipe).apply(model, task)[0].eval()


def same(one: nn.Module, other: nn.Module, task) -> bool:
    """But for the last digit, which the alignment of memory may decide where a weight is computed."""
    x = task.inputs(task.split("test").x[:300])
    with torch.inference_mode():
        return torch.allclose(one.eval()(x), other.eval()(x), rtol=1e-5, atol=1e-6)


def test_a_layer_that_stands_twice_in_a_net_without_a_builder_comes_back_twice(digits, tmp_path):
    model = shared_activation(digits.shape, 10)
    artifact = pack(model, digits, tmp_path / "a")
    back = artifact.model()
    assert back[1] is back[3] and same(model, back, digits)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("shared_activation", "Int4(activations=4)"),
        ("Alias", "MagnitudePrune(sparsity=0.8)"),
        ("Alias", "LowRank(keep=0.4, by='rank')"),
        ("InPlace", "Int8()"),
    ],
)
def test_what_stands_twice_or_writes_in_place_comes_back(digits, tmp_path, name, recipe):
    model, _ = catalog.recipe(recipe).apply(built(digits, name), digits)
    back = pack(model, digits, tmp_path / "a", recipe=recipe).model()
    assert same(model, back, digits)
    assert [layer.mask is None for layer in layers.weighted(back).values()] == [
        layer.mask is None for layer in layers.weighted(model).values()
    ]
    if name == "Alias":
        assert back.a is back.b


def test_a_structure_that_names_a_layer_that_stands_twice_only_once_goes_to_both(digits, tmp_path):
    """As artifacts were written before."""
    model, _ = catalog.recipe("LowRank(keep=0.4, by='rank') >> Int8()").apply(built(digits, "Alias"), digits)
    save_model(model, tmp_path)
    described = json.loads((tmp_path / STRUCTURE).read_text(encoding="utf-8"))
    assert "tied" not in described and set(described["specs"]) == {"stem", "a", "act", "head"}
    back = load_model(tmp_path)
    assert back.a is back.b and same(model, back, digits)


def test_layers_that_a_step_has_made_one_are_told(digits, tmp_path: Path):
    model = digits.build("users_nets:Alias")
    model.head, model.b = nn.Sequential(model.a, model.head), nn.Linear(32, 32)
    save_model(model, tmp_path)
    specs = json.loads((tmp_path / STRUCTURE).read_text(encoding="utf-8"))["specs"]
    assert specs["head"]["children"]["0"] == {"same_as": "a"} and specs["b"]["type"] == "Linear"
    back = load_model(tmp_path)
    assert back.head[0] is back.a and back.b is not back.a and same(model, back, digits)


@pytest.mark.parametrize("recipe", ["", "Int8()", "DynamicInt8()", "Int4(activations='float')", "Float16()"])
@pytest.mark.parametrize("name", ["Alias", "Tied", "Tied(norms=True)", "TiedTokens"])
def test_tied_layers_and_layers_of_two_names_are_packed_and_come_back_tied(digits, tmp_path, name, recipe):
    model = built(digits, name)
    model = catalog.recipe(recipe).apply(model, digits)[0] if recipe else model
    artifact = pack(model, digits, tmp_path / "a", recipe=recipe)
    back = artifact.model()
    assert same(model, back, digits)
    assert back.a.weight is back.b.weight and model.a.weight is model.b.weight
    weights = [i for i in onnx.load(artifact.folder / "model.onnx").graph.initializer if len(i.dims) > 1]
    folded = name == "Tied(norms=True)" and recipe in ("", "DynamicInt8()")  # each float is scaled by its norm
    assert len(weights) == 3 + folded, [i.name for i in weights]


@pytest.mark.parametrize("recipe", ["", "Int8()"])
@pytest.mark.parametrize("name", ["Encoder", "Cosine"])
def test_torchs_encoder_layers_and_heads_of_ones_own_are_packed(digits, tmp_path, name, recipe):
    model = built(digits, name)
    model = catalog.recipe(recipe).apply(model, digits)[0] if recipe else model
    artifact = pack(model, digits, tmp_path / "a", recipe=recipe)
    assert same(layers.own(copy.deepcopy(model)), artifact.model(), digits)


def test_the_worst_layer_is_found_beside_modules_that_give_several_tensors(digits):
    model = layers.own(copy.deepcopy(built(digits, "Encoder")))
    x = digits.inputs(digits.split("test").x[:8])
    path, ratio = worst_layer(model, export(model, x), x)
    assert path and ratio > 60


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("OddNorm", ""),
        ("Transposed", ""),
        ("computed", "remove_weight_norm"),
        ("computed(by='spectral_norm')", "remove_spectral_norm"),
        ("computed(by='parametrized')", "parametrize.remove_parametrizations"),
    ],
)
def test_norms_without_statistics_and_computed_weights_are_packed(digits, tmp_path, name, mend):
    model = built(digits, name)
    whole = pack(model, digits, tmp_path / "whole").model()
    assert same(model, whole, digits)
    model, records = catalog.recipe("Int8()").apply(model, digits)
    assert same(model, pack(model, digits, tmp_path / "a", recipe="Int8()").model(), digits)
    if mend:
        kind = type(whole[0]).__name__
        line = f"'0' ({kind}, its weight is computed: torch.nn.utils.{mend} first)"
        assert f"kept in float, there is no quantizer for them: {line}" in records[0].notes


def test_a_model_is_copied_right_after_a_step_of_ones_own(digits):
    for name in ("computed", "Transposed"):
        model = digits.copy(built(digits, name)).train()
        model(digits.inputs(digits.split("train").x[:4])).sum().backward()
        assert same(digits.copy(model), model, digits)

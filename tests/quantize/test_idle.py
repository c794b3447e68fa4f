"""Quantizers stand where the model's code runs them, and nothing is said of others."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lessen import catalog
from lessen.core.run import Run
from lessen.ops import insertion, layers
from lessen.ops.modes import in_parts
from lessen.tasks import task

pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensors")  # torch says so on its fused path
INNER = ("layer.linear1", "layer.linear2", "stack.layers.0.linear1", "stack.layers.0.linear2")


@pytest.fixture(scope="module")
def small() -> Any:
    return task("digits(limit=200)")


def built(small: Any, name: str) -> Any:
    with small.seeded(0):
        return small.build(f"users_nets:{name}")


def test_multiply_accumulates_of_torchs_encoder_layers_are_all_counted(small: Any) -> None:
    tokens, width, hidden = 16, 32, 64
    attention = 4 * tokens * width * width + 2 * tokens * tokens * width
    one = attention + 2 * tokens * width * hidden
    for model in (built(small, "Encoder"), layers.own(built(small, "Encoder"))):
        assert small.cost(model).macs == tokens * 4 * width + 2 * one + 10 * width
    assert torch.backends.mha.get_fastpath_enabled()


def test_torchs_fused_path_is_ruled_out_for_our_layers_and_computes_the_same(small: Any) -> None:
    model = built(small, "Encoder").eval()
    x = small.inputs(small.split("test").x[:20])
    with torch.inference_mode():
        fused, parts = model(x), layers.own(copy.deepcopy(model))(x)
        with in_parts():
            assert torch.allclose(model(x), parts, atol=1e-5)
    assert torch.allclose(fused, parts, atol=1e-5)


@pytest.mark.parametrize("recipe", ["Int8()", "Int2(activations='float', correct_bias=False)", "Float16()"])
def test_layers_inside_torchs_encoder_run_their_quantizers(recipe: str, small: Any) -> None:
    model, records = catalog.recipe(recipe).apply(built(small, "Encoder"), small)
    weighted, x = layers.weighted(model), small.inputs(small.split("test").x[:5])
    assert set(INNER) < set(weighted) and all(weighted[p].wq is not None for p in INNER)
    assert not any("does not run" in note for note in records[0].notes)
    with torch.inference_mode():
        before = model.eval()(x)
        for path in INNER:
            layer = weighted[path]
            layer.weight.copy_(layer.effective_weight())
            layer.wq = None
        torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize(
    "recipe",
    [
        "Int8()", "QAT(bits=4, epochs=1)", "DynamicInt8()", "Float16()", "Ternary(epochs=0)",
        "MixedBits(by='given', layers=(('2.head', 8), ('2.conv', 4)))",
    ],
)  # fmt: skip
def test_what_the_code_does_not_run_is_not_quantized_and_said(recipe: str, small: Any) -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), built(small, "Cosine"))
    model, records = catalog.recipe(recipe).apply(model, small)
    assert model[2].head.wq is None and model[2].head.iq is None
    assert records[0].details["bits"]["2.head"] == 32
    assert any(
        note.startswith("kept in float, the model's code does not run these layers, though it may read their weights: "
        "'2.head'; call the layer itself")
        for note in records[0].notes
    )  # fmt: skip


def test_quantizers_of_inputs_and_outputs_leave_as_well(small: Any) -> None:
    model, run = layers.own(built(small, "Cosine")), Run()
    for slot in ("iq", "oq"):
        setattr(model.head, slot, layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(1.0)))
    model.conv.oq = layers.ActivationQuantizer.covering(torch.tensor(-1.0), torch.tensor(1.0))
    insertion.take_out_idle(model, small, run)
    assert model.head.iq is None and model.head.oq is None and model.conv.oq is not None
    assert len(run.notes) == 1 and "'head'" in run.notes[0] and "conv" not in run.notes[0]

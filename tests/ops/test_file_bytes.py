"""Foretold bytes against the real ones of packed files: within 2 %."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen import catalog, tasks
from lessen.artifact.export import export
from lessen.artifact.forms import shrink
from lessen.ops import file_bytes, layers


def real(model, task):
    exported = export(task.copy(model).cpu().eval(), task.inputs(task.split("train").x[:1]))
    shrink(exported.proto)
    return exported.proto.ByteSize()


def lived(task, text):
    """A net whose norms and biases are not those of a fresh one, which exporters simplify."""
    with task.seeded(0):
        model = task.build(text).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                nn.init.normal_(module.weight, 1.0, 0.1)
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                nn.init.normal_(module.bias)
    return layers.own(model)


def close(task, model, recipe):
    if recipe:
        model, _ = catalog.recipe(recipe).apply(model, task)
    found, expected = file_bytes.of_model(model.eval()), real(model, task)
    assert found == pytest.approx(expected, rel=0.02), (recipe, found, expected, found / expected - 1)
    return found


@pytest.fixture(scope="module")
def small():
    return tasks.task("digits(limit=400, validation=100)")


@pytest.mark.parametrize(
    "recipe",
    ["", "Int2()", "Int4()", "Int4(levels='log')", "MixedBits(by='variance', activations='float', budget=6.0)"],
)
def test_a_residual_net(trained, small, recipe):
    close(small, layers.own(small.copy(trained)), recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net", ["cnn", "vgg8(width=0.25)", "resnet20", "mobilenetv2(width=0.5)", "vit(width=0.25, depth=2)"]
)
@pytest.mark.parametrize(
    "recipe",
    [
        "", "Float16()", "Int8()", "Int4()", "Int2()", "Int4(activations='float')", "Int2(activations='float')",
        "Int4(activations=4)", "Int4(levels='log')", "Int3(levels='log')", "Int4(levels='log', activations='float')",
        "MagnitudePrune(sparsity=0.8) >> Int8()", "MagnitudePrune(sparsity=0.5) >> Int2()",
        "MixedBits(by='variance', budget=3.0)", "MixedBits(by='ends', bits=2)",
    ],
)  # fmt: skip
def test_the_zoo(small, net, recipe):
    close(small, lived(small, net), recipe)


def test_a_transformers_products_have_float_biases(small):
    model = lived(small, "vit(width=0.25, depth=1, patch=4)")
    for recipe in ("", "Int4()", "Int2()"):
        close(small, model, recipe)


def test_float32_is_the_plain_net_whatever_stands_in_it(trained, small):
    model, _ = catalog.recipe("Int4()").apply(trained, small)
    own = layers.own(small.copy(trained))
    assert file_bytes.of_float32(model) == pytest.approx(file_bytes.of_model(own), rel=1e-6)


def test_protobuf_is_counted_to_the_byte():
    from onnx import helper, numpy_helper

    node = helper.make_node("DequantizeLinear", ["abc.integers", "abc.scale", "abc.zero"], ["abc.weight"], axis=0)
    assert file_bytes._node(16, (12, 9, 8), 10, file_bytes.AXIS) == file_bytes._message(node.ByteSize())
    values = numpy_helper.from_array(torch.zeros(3, 300).numpy(), "abc.weight")
    assert file_bytes._tensor(10, (3, 300), 3600) == file_bytes._message(values.ByteSize())

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen import Int8, MagnitudePrune, catalog
from lessen.core.run import Run
from lessen.ops import calibration, layers


def test_every_weight_is_on_its_grid_and_every_produced_tensor_too(digits, trained):
    model, record = Int8().apply(trained, digits)
    for path, layer in layers.weighted(model).items():
        integers = layer.wq.integers(layer.weight)
        assert integers.abs().max() <= 127, path
        scale = layer.wq.scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        assert torch.allclose(layer.effective_weight(), integers * scale, atol=1e-7)
        assert record.details["bits"][path] == 8
    seen = []
    relu = next(m for m in model.modules() if isinstance(m, nn.ReLU))
    relu.register_forward_hook(lambda m, i, y: seen.append(y))
    model(digits.inputs(digits.split("test").x[:8]))
    steps = seen[0] / relu.oq.scale
    assert torch.allclose(steps, steps.round(), atol=1e-3) and steps.min() >= 0 and steps.max() <= 255.001


def test_score_stays_and_batch_norm_stays(digits, trained):
    model, record = Int8().apply(trained, digits)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == sum(
        isinstance(m, nn.BatchNorm2d) for m in trained.modules()
    )
    assert record.score is not None
    assert abs(record.score - digits.evaluate(trained, "validation")) <= 0.02
    assert record.after.weight_bits < 0.3 * record.before.weight_bits


def test_quantizing_twice_changes_nothing(digits, trained):
    once, _ = Int8().apply(trained, digits)
    twice, _ = Int8().apply(once, digits)
    x = digits.inputs(digits.split("test").x[:32])
    assert torch.equal(once(x), twice(x))


def test_zeros_of_an_earlier_mask_stay_zero(digits, trained):
    model, _ = (MagnitudePrune(sparsity=0.7) >> Int8()).apply(trained, digits)
    zeros = sum(int((m.effective_weight() == 0).sum()) for m in layers.weighted(model).values())
    total = sum(m.weight.numel() for m in layers.weighted(model).values())
    assert zeros / total >= 0.699


def test_training_goes_on_through_the_rounding(digits, trained):
    model, _ = catalog.recipe("Int8() >> Finetune(epochs=1, lr=0.01)").apply(trained, digits)
    before, _ = Int8().apply(trained, digits)
    moved = [
        not torch.equal(a.weight, b.weight)
        for a, b in zip(layers.weighted(model).values(), layers.weighted(before).values(), strict=True)
    ]
    assert all(moved)
    assert all(m.wq is not None for m in layers.weighted(model).values())
    assert digits.evaluate(model, "validation") >= digits.evaluate(trained, "validation") - 0.03


def test_a_model_that_cannot_be_traced_is_quantized_at_its_inputs_and_says_so(digits):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 10)

        def forward(self, x):
            y = self.conv(x)
            return self.fc((y if y.sum() > 0 else -y).flatten(1))

    run = Run()
    model = Int8()._apply(Branches(), digits, run)
    assert model.conv.iq is not None and model.fc.iq is not None and model.conv.oq is None
    assert "could not be traced" in run.notes[0]


def test_spans_by_hand():
    model = nn.Sequential(layers.ReLU())
    x = torch.tensor([[-3.0, 1.0], [2.0, 5.0]])
    outputs, inputs = calibration.spans(model, x, outputs=["0"], inputs=["0"])
    assert [float(v) for v in outputs["0"]] == [0.0, 5.0]
    assert [float(v) for v in inputs["0"]] == [-3.0, 5.0]


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.0, 99.0), (0.98, 1.0, 98.0), (0.9, 5.0, 94.0)])
def test_a_span_leaves_the_same_share_outside_at_both_ends(share, low, high):
    found = calibration.batch_span(torch.arange(100.0), share)
    assert (float(found[0]), float(found[1])) == (low, high)

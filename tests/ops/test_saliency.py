"""Scores: worked by hand, the model untouched, and chance that has nothing to do with the first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen.ops import layers, saliency
from lessen.tasks import task


@pytest.fixture(scope="module")
def small():
    return task("digits(limit=100, validation=100)")


@pytest.fixture
def linear(small):
    torch.manual_seed(0)
    return layers.own(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def test_gradient_scores_are_the_softmax_regressions_own(small, linear) -> None:
    x, y = small.split("calibration")
    flat = small.inputs(x).flatten(1)
    error = (linear(small.inputs(x)).softmax(1) - nn.functional.one_hot(y, 10)).detach()
    expected = (error.T @ flat / len(y)) * linear[1].weight.detach()  # w * dL/dw of cross-entropy, by hand
    found, _ = saliency.scores(linear, "gradient", small, 0)["1"]
    assert torch.allclose(found.view(10, 64), expected.abs(), atol=1e-6)
    assert found.max() > 0


def test_gradients_add_up_over_batches_as_a_mean(small, linear, monkeypatch) -> None:
    """A calibration split of more than one batch has the gradient of its mean loss."""
    many = task("digits(validation=100)")
    x, y = many.split("calibration")
    assert len(y) > 128 and len(y) % 128
    loss = many.loss(linear(many.inputs(x)), y)
    (expected,) = torch.autograd.grad(loss, linear[1].weight)
    assert torch.allclose(saliency.gradients(linear, many)["1"], expected, atol=1e-6)


def test_the_model_stays_as_it_was_and_frozen_weights_are_scored(small, trained) -> None:
    model = small.copy(trained).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    path = next(iter(layers.weighted(model)))
    layers.weighted(model)[path].weight.requires_grad_(False)
    scores = saliency.scores(model, "gradient", small, 0)
    assert scores[path][0].max() > 0 and scores.keys() == layers.weighted(model).keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model.training


@pytest.mark.parametrize("criterion", ["magnitude", "gradient", "random"])
def test_what_is_pruned_comes_first(criterion, small, linear) -> None:
    mask = torch.rand(10, 64, generator=torch.Generator().manual_seed(1)) > 0.5
    linear[1].set_mask(mask)
    first, _ = saliency.scores(linear, criterion, small, 0)["1"]
    assert torch.equal(first < 0, ~mask.flatten())
    assert (first[mask.flatten()] >= 0).all()


def test_chance_follows_the_seed_and_not_the_first_weights(small) -> None:
    with small.seeded(3):
        model = layers.own(small.build("cnn"))
    one, again, other = (saliency.scores(model, "random", small, s) for s in (3, 3, 4))
    for path, (first, _) in one.items():
        assert torch.equal(first, again[path][0]) and not torch.equal(first, other[path][0])
        size = layers.weighted(model)[path].weight.detach().abs().flatten()
        if len(first) > 1000:
            assert abs(torch.corrcoef(torch.stack([first, size]))[0, 1]) < 0.1, path

"""Fisher by hand, the Hessian's trace against the exact one, and what both leave out."""

from __future__ import annotations

import pytest
import torch
from tiny_task import TinyTask, net
from torch import nn

from lessen.core.errors import BadData
from lessen.ops import curvature, layers


class Few(TinyTask):
    """Calibrates on its first 12 training samples."""

    def split(self, name):
        split = super().split("train" if name == "calibration" else name)
        return type(split)(split.x[:12], split.y[:12]) if name == "calibration" else split


@pytest.fixture(scope="module")
def task():
    return Few()


@pytest.fixture
def model():
    return layers.own(net()).eval()


def small():
    """One convolution, one Linear: few enough weights for a whole Hessian."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Sigmoid(), nn.Flatten(), nn.Linear(18, 4))
    return layers.own(body).eval()


def dense_hessian(model, task, path):
    """(n, n) of the mean loss over the calibration split, by autograd."""
    x, y = task.split("calibration")

    def loss(weight):
        return task.loss(torch.func.functional_call(model, {f"{path}.weight": weight}, (task.inputs(x),)), y)

    weight = model.get_submodule(path).weight.detach()
    return torch.autograd.functional.hessian(loss, weight).reshape(weight.numel(), weight.numel())


def test_fisher_of_a_linear_layer_is_the_mean_of_squared_products(task):
    model = layers.own(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))).eval()
    x, y = task.split("calibration")
    rows = task.inputs(x).flatten(1)
    delta = model(task.inputs(x)).softmax(1) - torch.eye(4)[y]  # of cross-entropy to the logits
    by_hand = (delta.detach().square()[:, :, None] * rows.square()[:, None, :]).mean(0)
    found = curvature.measure(model, task, "fisher", samples=12)["1"]
    assert torch.allclose(found.weight, by_hand.double(), rtol=1e-4, atol=1e-9)
    assert found.mean == pytest.approx(float(by_hand.mean()), rel=1e-4) and found.error is None
    error = torch.full((4, 64), 0.5)
    assert found.loss(error) == pytest.approx(float(by_hand.sum()) / 4, rel=1e-4)


def test_trace_is_that_of_the_whole_hessian(task):
    model = small()
    found = curvature.measure(model, task, "hessian", samples=12, draws=600, seed=1)
    for path, layer in layers.weighted(model).items():
        exact = float(dense_hessian(model, task, path).trace()) / layer.weight.numel()
        assert abs(found[path].mean - exact) < 4 * found[path].error, (path, exact, found[path])
        assert found[path].error < 0.2 * abs(exact), "a wide error would make this test blind"
        assert found[path].loss(torch.ones(layer.weight.shape)) == pytest.approx(
            max(0.0, found[path].mean) * layer.weight.numel()
        )


def test_batches_of_the_trace_add_up(task, monkeypatch):
    whole = curvature.measure(small(), task, "hessian", samples=12, draws=4)
    monkeypatch.setattr(curvature, "BATCH", 5)
    parts = curvature.measure(small(), task, "hessian", samples=12, draws=4)
    for path, known in whole.items():
        assert parts[path].mean == pytest.approx(known.mean, rel=1e-4)


def test_pruned_weights_have_no_part(task):
    model = small()
    mask = torch.zeros(4, 18, dtype=torch.bool)
    mask[:, :3] = True
    model[3].set_mask(mask)
    hessian = dense_hessian(layers.plain(model), task, "3").reshape(4, 18, 4, 18)[:, :3, :, :3]
    exact = float(hessian.reshape(12, 12).trace()) / 12
    found = curvature.measure(model, task, "hessian", samples=12, draws=400)["3"]
    assert abs(found.mean - exact) < 4 * found.error


def test_variance_is_of_what_the_layer_reads(task, model):
    found = curvature.measure(model, task, "variance", samples=12)
    x = task.inputs(task.split("calibration").x)
    model.requires_grad_(False)
    assert found["0"].mean == pytest.approx(float(x.var(unbiased=False)), rel=1e-4)
    assert found["8"].mean == pytest.approx(float(model[:8](x).var(unbiased=False)), rel=1e-4)


@pytest.mark.parametrize("kind", ["fisher", "hessian", "variance"])
def test_the_seed_decides_and_the_model_stays(task, model, kind):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one, same, other = (curvature.measure(model, task, kind, samples=6, draws=2, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(one[p].weight, same[p].weight) for p in one)
    assert any(not torch.equal(one[p].weight, other[p].weight) for p in one)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_two_seeds_draw_no_vector_in_common(task, monkeypatch):
    drawn = []
    draw = curvature.rademacher
    monkeypatch.setattr(curvature, "rademacher", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    for seed in (0, 1):
        curvature.measure(small(), task, "hessian", samples=12, draws=16, seed=seed)
    assert len({tuple(torch.cat([s.flatten() for s in signs]).tolist()) for signs in drawn}) == 32


def test_a_negative_trace_counts_as_none():
    found = curvature._of_trace(torch.tensor([-2.0, -4.0], dtype=torch.float64))
    assert (found.mean, found.error, found.loss(torch.ones(3))) == (-3.0, 1.0, 0.0)


def test_samples_that_are_all_the_same(task, model):
    class Constant(Few):
        def split(self, name):
            split = super().split(name)
            return type(split)(split.x[:1].expand(5, -1, -1, -1), split.y[:5])

    with pytest.raises(BadData, match="all 5 calibration samples are the same"):
        curvature.measure(model, Constant(), "fisher")

"""Each optimizer's first steps by hand, and which parameter goes where."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny_task import net
from torch import nn

from lessen.core.errors import Refused
from lessen.ops import layers, optimizers


def quantized():
    model = layers.own(net())
    model[0].wq = layers.WeightQuantizer(torch.full((8,), 0.01), 8)
    model[2].oq = layers.ActivationQuantizer()
    return model


def ids(values):
    return {id(v) for v in values}


def test_sorting():
    model = quantized()
    found = optimizers.sort(model, model[8])
    assert ids(found.matrices) == ids([model[0].weight, model[3].weight])
    assert ids(found.others) == ids([model[8].weight])
    assert ids(found.free) == ids(
        [model[1].weight, model[1].bias, model[3].bias, model[4].weight, model[4].bias, model[8].bias]
    )
    assert ids(found.scales) == ids([model[0].wq.scale, model[2].oq.scale])


def test_frozen_shared_and_embedded_parameters():
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    last.weight = first.weight
    first.bias.requires_grad_(False)
    model = nn.ModuleList([nn.Embedding(3, 4), first, nn.LayerNorm((2, 4)), last])
    found = optimizers.sort(model, last)
    assert ids(found.matrices) == ids([first.weight])
    assert ids(found.others) == ids([model[0].weight])
    assert ids(found.free) == ids([model[2].weight, model[2].bias, last.bias])


def test_muon_leaves_the_layer_that_computes_last_alone():
    """Defined first, it gives the logits: its step is Adam's, the rate for every weight."""

    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(6, 3, bias=False), nn.Linear(4, 6, bias=False)

        def forward(self, x):
            return self.head(self.body(x).relu())

    model = HeadFirst()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    optimizer = optimizers.optimizer(model, "muon", lr=0.1, momentum=0.9, weight_decay=0.0)
    for i, p in enumerate(model.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    optimizer.step()
    moved = {k: (v.detach() - before[k]).abs() for k, v in model.named_parameters()}
    torch.testing.assert_close(moved["head.weight"], torch.full((3, 6), 0.1), rtol=1e-4, atol=0)
    assert moved["body.weight"].std() > 0.005


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_only_weights_decay(name):
    """Without a gradient nothing but decay moves a parameter."""
    model = quantized()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    optimizer = optimizers.optimizer(model, name, lr=0.1, momentum=0.0, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for k, v in model.named_parameters():
        decays = k in ("0.weight", "3.weight", "8.weight")
        assert torch.allclose(v, before[k] * (0.95 if decays else 1.0), rtol=1e-6, atol=0), k


def one(name, weight, gradients, **settings):
    """A linear layer before a head: its weight after steps along the gradients."""
    model = nn.Sequential(nn.Linear(*weight.shape[::-1], bias=False), nn.Linear(1, 1, bias=False))
    model[0].weight.data.copy_(weight)
    optimizer = optimizers.optimizer(model, name, **settings)
    for gradient in gradients:
        model[0].weight.grad = gradient.clone()
        optimizer.step()
    return model[0].weight.detach()


def test_sgd_by_hand():
    """v1 = 2; w = 1 - .1 * 2 = .8; v2 = .5 * 2 + 4 = 5; w = .8 - .5 = .3."""
    found = one(
        "sgd", torch.tensor([[1.0]]), [torch.tensor([[2.0]]), torch.tensor([[4.0]])],
        lr=0.1, momentum=0.5, weight_decay=0.0,
    )  # fmt: skip
    assert found.item() == pytest.approx(0.3)


def test_adamw_by_hand():
    """The first step is lr * sign(g), after decay: 1 * (1 - .1 * .5) - .1."""
    found = one("adamw", torch.tensor([[1.0]]), [torch.tensor([[3.0]])], lr=0.1, momentum=0.9, weight_decay=0.5)
    assert found.item() == pytest.approx(0.85, rel=1e-5)


def test_muon_steps_by_an_orthogonal_matrix():
    """Of a gradient with singular values 3 and 1 the step has both near 1, times .2 * sqrt(4) * lr."""
    u, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    gradient = u[:, :2] @ torch.diag(torch.tensor([3.0, 1.0]))
    moved = one("muon", torch.zeros(4, 2), [gradient], lr=0.1, momentum=0.0, weight_decay=0.0)
    size = torch.linalg.svdvals(moved) / (0.1 * 0.2 * 2)
    assert ((size > 0.6) & (size < 1.3)).all()
    assert torch.dot(moved.flatten(), gradient.flatten()) < 0


def test_muon_unit_keeps_rows_at_unit_length_and_steps_by_a_share_of_them():
    """3 rows of length 2 become 3 of length 1 (norm sqrt(3)); an orthogonal step of .1 moves them, then again."""
    gradient = torch.eye(3)
    once = one("muon-unit", 2 * torch.eye(3), [gradient], lr=0.1, momentum=0.0, weight_decay=0.5)
    step = torch.eye(3) - once
    torch.testing.assert_close(step, 0.1 * torch.eye(3), rtol=0.35, atol=1e-3)  # five iterations give 0.7 to 1.2
    twice = one("muon-unit", 2 * torch.eye(3), [gradient, gradient], lr=0.1, momentum=0.0, weight_decay=0.5)
    torch.testing.assert_close(twice, torch.eye(3) - step)
    larger = one("muon-unit", 20 * torch.eye(3), [gradient], lr=0.1, momentum=0.0, weight_decay=0.5)
    torch.testing.assert_close(larger, once)
    zeros = one("muon-unit", torch.zeros(3, 3), [torch.zeros(3, 3)], lr=0.1, momentum=0.0, weight_decay=0.5)
    assert torch.equal(zeros, torch.zeros(3, 3))


@pytest.mark.parametrize(("name", "share"), [("adamw", 1.0), ("muon", 1.0), ("muon-unit", 0.1)])
def test_biases_and_norms_move_at_a_tenth_beside_muon_unit(name, share):
    """Adam's first step is the learning rate, whatever the gradient."""
    model = net()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    optimizer = optimizers.optimizer(model, name, lr=0.5, momentum=0.6, weight_decay=0.0)
    optimizers.set_lr(optimizer, 0.2)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = {k: (before[k] - v.detach()).flatten() for k, v in model.named_parameters()}
    for k in ("1.weight", "1.bias", "3.bias", "4.bias", "8.bias"):
        torch.testing.assert_close(moved[k], torch.full_like(moved[k], 0.2 * share), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moved["8.weight"], torch.full_like(moved["8.weight"], 0.2), rtol=1e-5, atol=1e-6)


def test_muon_unit_refuses_weights_with_a_quantizer():
    with pytest.raises(Refused, match=r"muon-unit.*use 'muon'"):
        optimizers.optimizer(quantized(), "muon-unit", lr=0.1, momentum=0.9, weight_decay=0.0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_muon_on_a_convolution_is_muon_on_its_matrix(channels_last):
    conv = nn.Conv2d(6, 8, 3, bias=False)
    flat = nn.Parameter(conv.weight.detach().flatten(1).clone())
    if channels_last:
        conv.to(memory_format=torch.channels_last)
    weight = conv.weight
    model = nn.Sequential(conv, nn.Linear(1, 1, bias=False))
    ours = optimizers.optimizer(model, "muon", lr=0.02, momentum=0.9, weight_decay=0.1)
    theirs = torch.optim.Muon([flat], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    g = torch.Generator().manual_seed(1)
    for _ in range(3):
        gradient = torch.randn(weight.shape, generator=g)
        weight.grad = gradient.clone(memory_format=torch.preserve_format)
        flat.grad = gradient.flatten(1).clone()
        ours.step()
        theirs.step()
    # torch's products are in bfloat16
    assert (weight.flatten(1) - flat).abs().max() < 0.02 * (0.2 * 54**0.5) * 3 * 0.05


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (1, 9)])
def test_orthogonal_is_five_newton_schulz_iterations(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = matrix.double() if shape[0] <= shape[1] else matrix.double().T
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    found = optimizers.orthogonal(matrix)
    assert found.dtype == matrix.dtype
    assert (found - (x if shape[0] <= shape[1] else x.T)).abs().max() < 1e-3
    assert torch.linalg.svdvals(found).max() < 1.25


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(optimizers.orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_muon_takes_a_weight_of_any_layout():
    conv = nn.Conv2d(3, 4, 3, bias=False)
    conv.weight.data = torch.randn(3, 3, 3, 4).permute(3, 0, 1, 2).permute(0, 2, 1, 3)
    before = conv.weight.detach().clone()
    optimizer = optimizers.Muon([conv.weight], 0.1, 0.9, 0.0)
    conv.weight.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    assert not torch.equal(conv.weight, before)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_quantizer_scales_move_in_their_logarithm(name):
    """By SGD's share: step 1 is .1 * 5e-4 of .01, so log s falls by .005; step 2 is .1 * (.5 * 5e-4 + 5e-4) of s."""
    model = quantized()
    optimizer = optimizers.optimizer(model, name, lr=0.1, momentum=0.5, weight_decay=0.1)
    wanted = torch.tensor(0.01)
    for step in (5e-5, 7.5e-5):
        for p in model.parameters():
            p.grad = torch.full_like(p, 5e-4)
        optimizer.step()
        wanted = wanted * torch.exp(-step / wanted)
    assert torch.allclose(model[0].wq.scale, wanted.expand(8), rtol=1e-6)


def test_no_gradient_turns_a_scale_negative():
    scale = nn.Parameter(torch.tensor([0.01, 0.01]))
    optimizer = optimizers.LogSGD([scale], lr=1.0, momentum=0.9)
    scale.grad = torch.tensor([1e6, -1e6])
    optimizer.step()
    assert scale.tolist() == pytest.approx([0.01 * math.exp(-0.01), 0.01 * math.exp(0.01)])


def test_the_scale_of_a_dead_row_stays_zero():
    scale = nn.Parameter(torch.tensor([0.0, 0.0, 0.5]))
    optimizer = optimizers.LogSGD([scale], lr=0.1, momentum=0.9)
    scale.grad = torch.tensor([0.0, 1.0, 0.0])
    optimizer.step()
    assert scale.tolist() == [0.0, 0.0, 0.5]


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_state_round_trip_goes_on_alike(name):
    def steps(model, optimizer, n, seed):
        g = torch.Generator().manual_seed(seed)
        for _ in range(n):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=g)
            optimizer.step()

    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    a = quantized()
    one_go = optimizers.optimizer(a, name, **settings)
    steps(a, one_go, 2, seed=0)
    b = quantized()
    b.load_state_dict(a.state_dict())
    other = optimizers.optimizer(b, name, **settings)
    other.load_state_dict(copy.deepcopy(one_go.state_dict()))
    steps(a, one_go, 2, seed=1)
    for group in other.param_groups:
        group["lr"] = 0.1  # the groups are live after loading
    steps(b, other, 2, seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_model_that_is_frozen_whole_is_refused(name):
    with pytest.raises(Refused, match=r"every parameter of the model is frozen .*; unfreeze what is to be trained"):
        optimizers.optimizer(net().requires_grad_(False), name, 0.1, 0.9, 0.0)

"""GPTQ: its Gram matrices tell a layer's output, its weights stand on levels, and it loses less than rounding does."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import calibration, compensation, layers
from lessen.ops.compensation import Levels


def layer(kind: nn.Module, bits: int = 2, **how) -> layers.Conv2d | layers.Linear:
    """With weights of its own, rounded to so many bits."""
    found = layers.own(nn.Sequential(kind))[0]
    found.wq = layers.WeightQuantizer.fitting(found, bits, **how)
    return found


def levels(found: layers.Conv2d | layers.Linear, groups: int = 1) -> Levels:
    def grouped(value: Tensor) -> Tensor:
        return value.expand_as(found.weight).flatten(1).unflatten(0, (groups, -1))

    scale, zero, _ = found.wq.spread(found.weight)
    return Levels(found.wq, grouped(scale), grouped(torch.as_tensor(zero)), None)


def correlated(n: int, width: int) -> Tensor:
    """Inputs of a layer: of a few causes, with a little noise."""
    return torch.randn(n, width // 2) @ torch.randn(width // 2, width) + 0.1 * torch.randn(n, width)


@pytest.fixture(autouse=True)
def chance():
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        yield


KINDS = {
    "plain": lambda: (nn.Conv2d(6, 8, 3), (6, 9, 9)),
    "stride and padding": lambda: (nn.Conv2d(6, 8, 3, stride=2, padding=1), (6, 9, 9)),
    "uneven": lambda: (nn.Conv2d(6, 8, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(1, 3)), (6, 9, 11)),
    "same": lambda: (nn.Conv2d(6, 8, 4, padding="same"), (6, 7, 7)),
    "reflected": lambda: (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (6, 9, 9)),
    "groups": lambda: (nn.Conv2d(6, 9, 3, groups=3), (6, 9, 9)),
    "depthwise": lambda: (nn.Conv2d(6, 6, 3, groups=6), (6, 9, 9)),
    "linear": lambda: (nn.Linear(6, 5), (6,)),
    "tokens": lambda: (nn.Linear(6, 5), (7, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kind", KINDS)
def test_gram_matrices_tell_the_squared_output(kind, monkeypatch) -> None:
    monkeypatch.setattr(compensation, "ROWS", 10**6)  # all places
    monkeypatch.setattr(compensation, "UNFOLDED", 2000)  # in parts
    monkeypatch.setattr(calibration, "BATCH", 3)
    module, shape = KINDS[kind]()
    model = layers.own(nn.Sequential(module))
    model[0].bias = None
    x = torch.randn(8, *shape)
    gram = compensation.grams(model, x, ["0"])["0"]
    weight = model[0].weight.flatten(1).unflatten(0, (len(gram), -1))
    y = model(x).movedim(1 if isinstance(module, nn.Conv2d) else -1, 0).flatten(1)
    torch.testing.assert_close(compensation.squared(gram, weight).flatten(), y.square().sum(1), rtol=1e-4, atol=1e-3)


def test_some_places_stand_for_all(monkeypatch) -> None:
    model, x = layers.own(nn.Sequential(nn.Conv2d(2, 3, 3))), torch.rand(100, 2, 20, 20)
    some = compensation.grams(model, x, ["0"])["0"]  # 16 x 18 rows
    monkeypatch.setattr(compensation, "ROWS", 10**6)
    every = compensation.grams(model, x, ["0"])["0"]
    seen = every.diagonal(dim1=1, dim2=2).sum() / some.diagonal(dim1=1, dim2=2).sum()
    assert seen == pytest.approx(100 * 18 * 18 / (100 * (16 * 18 // 100)), rel=0.1)
    shares = [gram / gram.diagonal(dim1=1, dim2=2).sum() for gram in (some, every)]
    torch.testing.assert_close(*shares, rtol=0.15, atol=0)


def test_uncorrelated_inputs_leave_the_nearest_levels() -> None:
    found = layer(nn.Linear(300, 4), 3)
    weight, gram = found.weight.detach()[None], torch.diag(torch.rand(300) + 0.1)[None]
    torch.testing.assert_close(compensation.rounded(weight, gram, levels(found)), levels(found).round(weight))


def test_it_is_the_papers_rule() -> None:
    """Column by column with the inverse computed anew for what is left: Frantar and Alistarh 2022, OBQ, eq. 3."""
    found = layer(nn.Linear(200, 4), 3)
    x = correlated(500, 200)
    gram = x.mT @ x
    damped = (gram + compensation.DAMPING * gram.diagonal().mean() * torch.eye(200)).double()
    wanted, left, order = torch.zeros(4, 200), found.weight.detach().double(), gram.diagonal().argsort(descending=True)
    for i in range(200):
        at = order[i:]
        inverse = torch.linalg.inv(damped[at][:, at])
        here = left[:, order[i]].clone()
        wanted[:, order[i]] = levels(found).column(0).round(here.float())[0]
        left[:, at] -= ((here - wanted[:, order[i]]) / inverse[0, 0])[:, None] * inverse[0]
    got = compensation.rounded(found.weight.detach()[None], gram[None], levels(found))[0]
    assert (got != wanted).float().mean() < 0.02  # where float32 falls on a border
    both = [compensation.squared(gram[None], (found.weight.detach() - w)[None]).sum() for w in (got, wanted)]
    torch.testing.assert_close(*both, rtol=0.05, atol=0)


def test_it_lies_between_the_best_of_all_choices_and_the_nearest_levels() -> None:
    found = layer(nn.Linear(7, 1), 2)
    x = correlated(100, 7)
    gram = (x.mT @ x)[None]
    scale = found.wq.scale.detach()
    every = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=7))) * scale
    best = compensation.squared(gram, (found.weight.detach() - every)[None]).min()
    weight = found.weight.detach()[None]
    nearest, got = (
        compensation.squared(gram, weight - w).sum()
        for w in (levels(found).round(weight), compensation.rounded(weight, gram, levels(found)))
    )
    assert best <= got < nearest / 4


class Net(nn.Module):
    """A stem, a grouped and a plain convolution, and a head that reads what is correlated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=2)
        self.idle, self.head = nn.Linear(3, 3), nn.Linear(8 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.stem(x).relu()).relu().flatten(1))


@pytest.mark.parametrize("how", [{}, {"symmetric": False}, {"group": 4}, {"group": 5, "symmetric": False}, "log"])
def test_weights_stand_on_levels_and_lose_less(how) -> None:
    model, x = layers.own(Net()).eval(), torch.rand(1000, 1, 8, 8).cumsum(2)
    reference = copy.deepcopy(model)
    for found in layers.weighted(model).values():
        found.set_mask(torch.rand_like(found.weight) > 0.3)
        fit = layers.LogWeights.fitting if how == "log" else layers.WeightQuantizer.fitting
        found.wq = fit(found, 3, rule="mse", **({} if how == "log" else how))
    reference.load_state_dict(model.state_dict(), strict=False)  # without what is masked
    rounded = copy.deepcopy(model)
    errors = compensation.compensate(model, reference, x, list(layers.weighted(model)))
    assert list(errors) == ["stem", "deep", "head"]  # idle is not run
    torch.testing.assert_close(model.idle.weight, rounded.idle.weight)
    for path, error in errors.items():
        found, before = model.get_submodule(path), rounded.get_submodule(path)
        torch.testing.assert_close(found.wq(found.weight), found.weight, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.wq.scale, before.wq.scale, rtol=0, atol=0)
        assert (found.weight[~found.mask] == 0).all() and (found.weight != before.wq(before.weight)).any()
        assert 0 < error.gptq < 0.8 * error.nearest < 0.8
    with torch.inference_mode():
        wanted, before, after = (net(x) for net in (reference, rounded, model))
    assert (after - wanted).square().sum() < 0.7 * (before - wanted).square().sum()


def test_one_layer_a_pass_gives_the_same(monkeypatch) -> None:
    model, x = layers.own(Net()).eval(), torch.rand(64, 1, 8, 8)
    reference = copy.deepcopy(model)
    for found in layers.weighted(model).values():
        found.wq = layers.WeightQuantizer.fitting(found, 2)
    other, paths = copy.deepcopy(model), ["stem", "deep", "head"]
    monkeypatch.setattr(compensation, "ROWS", 10**6)
    together = compensation.compensate(model, reference, x, paths)
    monkeypatch.setattr(compensation, "PASS", 1)
    assert list(compensation._passes(other, paths)) == [["stem"], ["deep"], ["head"]]
    assert compensation.compensate(other, reference, x, paths) == together
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_layers_that_share_a_weight_are_left_alone() -> None:
    model = layers.own(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
    model[2].weight = model[0].weight
    reference = copy.deepcopy(model)
    for found in layers.weighted(model).values():
        found.wq = layers.WeightQuantizer.fitting(found, 2)
    assert list(compensation.compensate(model, reference, correlated(64, 8), ["0", "2", "4"])) == ["4"]
    torch.testing.assert_close(model[0].weight, reference[0].weight)


@pytest.mark.parametrize("x", [torch.zeros(8, 6), torch.full((8, 6), float("nan"))])
def test_inputs_that_tell_nothing_leave_the_nearest_levels(x) -> None:
    model = nn.Sequential(layer(nn.Linear(6, 4)))
    nearest = model[0].wq(model[0].weight).detach()
    compensation.compensate(model, copy.deepcopy(model), x, ["0"])
    torch.testing.assert_close(model[0].weight.detach(), nearest)

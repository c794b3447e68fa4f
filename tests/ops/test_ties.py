"""Layers that share a weight keep sharing it, and it counts once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from users_nets import Alias, Tied

from lessen import catalog
from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.ops import averages, bias_correction, cost, equalization, layers, structure, ties
from lessen.tasks import task


@pytest.fixture(scope="module")
def small() -> Any:
    return task("digits(limit=200)")


@pytest.fixture(scope="module")
def tied(small: Any) -> Any:
    with small.seeded(0):
        return small.build("users_nets:Tied(norms=True)")


def applied(recipe: str, model: Any, small: Any) -> tuple[Any, Any]:
    model, records = catalog.recipe(recipe).apply(model, small)
    return model, records[-1]


def test_a_shared_weight_counts_once_and_computes_twice(small: Any, tied: Any) -> None:
    found, apart = small.cost(tied), copy.deepcopy(tied)
    apart.b.weight = nn.Parameter(apart.b.weight.detach().clone())
    other, n = small.cost(apart), apart.b.weight.numel()
    assert found.parameters == sum(p.numel() for p in tied.parameters()) == other.parameters - n
    assert found.weight_bits == other.weight_bits - 32 * n
    assert (found.macs, found.nonzero_macs) == (other.macs, other.nonzero_macs)


def test_one_weight_that_is_stored_in_two_ways_takes_the_bits_of_both(small: Any, tied: Any) -> None:
    model = layers.own(copy.deepcopy(tied))
    model.a.wq = layers.WeightQuantizer.fitting(model.a, 8)
    n, before = model.a.weight.numel(), small.cost(tied)
    assert small.cost(model).weight_bits == before.weight_bits + 8 * n + 32 * 16
    assert small.cost(model).parameters == before.parameters


def test_zeros_of_a_layer_under_two_parents_are_left_out_of_both_calls() -> None:
    line = layers.Linear(4, 4, bias=False)
    with torch.no_grad():
        line.weight.copy_(torch.eye(4))
    model = nn.Sequential(nn.Sequential(line), nn.Sequential(line))
    assert cost.multiply_accumulates(model, torch.zeros(1, 4)) == (32, 8)


@pytest.mark.parametrize(
    "recipe",
    [
        "MagnitudePrune(sparsity=0.7)",
        "MagnitudePrune(sparsity=0.7, criterion='random')",
        "MagnitudePrune(sparsity=0.7, epochs=1, ramp='gradual')",
        "NMPrune(n=1, m=4)",
    ],
)
def test_layers_that_share_a_weight_share_its_mask(recipe: str, small: Any, tied: Any) -> None:
    model, record = applied(recipe, tied, small)
    assert model.a.weight is model.b.weight and torch.equal(model.a.mask, model.b.mask)
    weights = ties.once(model)
    assert list(weights) == ["stem", "a", "head"]
    zeros = {path: int((layer.weight == 0).sum()) for path, layer in weights.items()}
    assert record.details["zeros"] == sum(zeros.values()) == sum(int((~w.mask).sum()) for w in weights.values())
    if "sparsity" in recipe:
        assert sum(zeros.values()) == round(0.7 * sum(w.weight.numel() for w in weights.values()))


def test_a_lottery_ticket_has_one_mask_for_both(small: Any, tied: Any) -> None:
    ticket, record = applied("LotteryTicket(sparsity=0.5, epochs=1, rounds=1)", tied, small)
    assert torch.equal(ticket.a.mask, ticket.b.mask) and record.details["zeros"] == round(0.5 * 2608)


def test_the_second_of_two_names_cannot_have_a_share_of_its_own(small: Any, tied: Any) -> None:
    with pytest.raises(BadField, match="names 'b', which has the weight of 'a'; name that one"):
        applied("MagnitudePrune(layers=(('b', 0.5),))", tied, small)
    with pytest.raises(BadField, match="names 'b', one of the layers that share a weight"):
        applied("LowRank(layers=(('b', 3),))", tied, small)
    whole, _ = applied("NMPrune(whole=('b',))", tied, small)
    assert whole.a.mask is None and whole.b.mask is None and whole.stem.mask is not None


def test_factors_leave_them_whole_and_say_so(small: Any, tied: Any) -> None:
    model, record = applied("LowRank(keep=0.4, by='rank')", tied, small)
    assert model.a.weight is model.b.weight and isinstance(model.head, nn.Sequential)
    assert record.after.parameters < record.before.parameters
    assert "left whole, layers that share a weight, which factors would part: a, b" in record.notes


def test_channels_of_theirs_stay_and_others_go(small: Any, tied: Any) -> None:
    with pytest.raises(Refused, match="coupled with a parameter that several layers share: a, b, stem"):
        applied("ChannelPrune(ratio=0.5)", tied, small)

    class Longer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.first, self.act, self.inner = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.act(self.first(x)))

    inner = copy.deepcopy(tied)
    inner.stem = nn.Conv2d(8, 16, 3, padding=1)
    model, record = applied("ChannelPrune(ratio=0.5)", Longer(inner), small)
    assert len(model.first.weight) == 4 and model.inner.a.weight is model.inner.b.weight
    assert record.after.parameters < record.before.parameters


def test_a_layer_of_two_names_is_factored_once(small: Any) -> None:
    model, _ = applied("LowRank(keep=0.4, by='rank')", Alias(small.shape, 10), small)
    assert isinstance(model.a, nn.Sequential) and model.a is model.b


@pytest.mark.parametrize("recipe", ["Int8()", "QAT(bits=4, epochs=1)", "Ternary(epochs=1, scale='learned')"])
def test_they_learn_one_scale_and_come_back_with_it(recipe: str, small: Any, tied: Any) -> None:
    model, _ = applied(recipe, tied, small)
    assert model.a.wq is not model.b.wq and model.a.wq.scale is model.b.wq.scale
    assert torch.equal(model.a.effective_weight(), model.b.effective_weight())
    fresh = small.build("users_nets:Tied(norms=True)")
    specs, found = structure.differences(model, fresh), ties.ties(model)
    assert found == [["a.weight", "b.weight"], ["a.wq.scale", "b.wq.scale"]]
    back: Any = structure.restore(fresh, specs, structure.tensors(model), found)
    assert back.a.weight is back.b.weight and back.a.wq.scale is back.b.wq.scale
    apart: Any = structure.restore(fresh, specs, structure.tensors(model))  # as artifacts were written before
    assert apart.a.weight is not apart.b.weight


def test_scales_are_not_evened_out_and_shared_biases_not_moved(tied: Any, small: Any) -> None:
    model = layers.own(copy.deepcopy(tied)).eval()
    model.norm_a, model.norm_b = nn.Identity(), nn.Identity()
    model.b.bias = model.a.bias
    x = small.inputs(small.split("calibration").x)
    expected, chains = model(x), equalization.equalize(model)
    assert not chains and torch.allclose(model(x), expected)
    float_model = copy.deepcopy(model)
    for layer in layers.weighted(model).values():
        layer.wq = layers.WeightQuantizer.fitting(layer, 3)
    assert set(bias_correction.correct(model, float_model, x)) == {"stem", "head"}


def test_an_average_of_weights_that_stand_twice_is_taken_back() -> None:
    model = Tied((1, 8, 8), 10)
    average, before = averages.Average(model, 0.5), model.a.weight.detach().clone()
    with torch.no_grad():
        model.a.weight.mul_(2)
    average.update()
    with average.shown():
        assert not torch.equal(model.a.weight, 2 * before)
    assert torch.equal(model.a.weight, 2 * before)


def test_ties_of_what_is_not_there_are_refused() -> None:
    from lessen.core.errors import BadArtifact

    with pytest.raises(BadArtifact, match=r"ties 'c\.weight' to 'a\.weight', and one of them is not there"):
        ties.tie(Tied((1, 8, 8), 10), [["a.weight", "c.weight"]])


def test_training_on_from_disk_is_training_on(small: Any, tied: Any, tmp_path: Any) -> None:
    from lessen.models.state import load_model, save_model

    save_model(copy.deepcopy(tied), tmp_path)
    nets = [catalog.recipe("Finetune(epochs=1)").apply(m, small, run=Run())[0] for m in (tied, load_model(tmp_path))]
    assert torch.equal(nets[0].a.weight, nets[1].a.weight) and nets[1].a.weight is nets[1].b.weight

"""A cached scan gives the very numbers of whole passes, and leaves the model as it was."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from nets import Branching, Residual, Writing, data, inputs, make

from lessen.core.errors import Refused
from lessen.inspect.amounts import amounts
from lessen.inspect.replay import Replay
from lessen.inspect.scan import scan, together
from lessen.inspect.sites import edited, joined, sites
from lessen.ops import channels, layers, lowrank, sparsity

RATIOS = (0.3, 0.6, 0.9)
KINDS = ("prune", "channels", "rank")


def model_and_data(n: int = 40):
    model = make(Residual)
    for module in model.modules():
        if isinstance(module, layers.ReLU):
            module.inplace = False
    return model, *data(n)


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_outputs_are_bitwise_those_of_whole_passes(kind):
    model, x, _ = model_and_data()
    replay = Replay.of(model, inputs(x[:2]))
    assert isinstance(replay, Replay)
    found, _ = sites(model, kind, inputs(x[:2]))
    with torch.no_grad():
        dense, memory = replay.remember(inputs(x), [site.touched for site in found])
        assert torch.equal(dense, model(inputs(x)))
        for site in found:
            with edited(site.edits(0.6)):
                whole = model(inputs(x))
                assert torch.equal(replay.run(memory, site.touched), whole)
            assert not torch.equal(whole, dense)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_the_same_cached_or_not_in_one_chunk_or_many(kind, monkeypatch):
    monkeypatch.setattr("lessen.inspect.scan.BATCH", 16)
    model, x, y = model_and_data()
    found, _ = sites(model, kind, inputs(x[:2]))
    whole = scan(model, inputs, x, y, found, RATIOS, cached=False)
    for memory in (2**30, 1):
        cached = scan(model, inputs, x, y, found, RATIOS, memory=memory)
        assert not cached.problem
        assert np.array_equal(cached.dense, whole.dense) and np.array_equal(cached.changed, whole.changed)
    assert whole.changed.shape == (len(found), 3, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_as_it_was(kind):
    model, x, y = model_and_data()
    before, tensors = copy.deepcopy(model.state_dict()), dict(model.named_parameters())
    found, _ = sites(model, kind, inputs(x[:2]))
    scan(model, inputs, x, y, found, RATIOS)
    with pytest.raises(RuntimeError), edited(found[0].edits(0.6)):
        raise RuntimeError
    assert all(value is tensors[name] for name, value in model.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(layer.mask is None for layer in layers.weighted(model).values())


def test_prune_is_magnitude_pruning_of_one_layer():
    model, x, y = model_and_data()
    found, _ = sites(model, "prune", inputs(x[:2]))
    assert [site.paths for site in found] == [("stem",), ("one",), ("two",), ("head",)]
    answers = scan(model, inputs, x, y, found, RATIOS)
    pruned = copy.deepcopy(model)
    layer = layers.weighted(pruned)["one"]
    layer.set_mask(sparsity.layer_masks({"one": layer}, 0.9)["one"])
    assert np.array_equal(answers.changed[1, 2], (pruned(inputs(x)).argmax(1) == y).numpy())


def test_masked_channels_compute_what_the_cut_model_computes():
    model, x, _ = model_and_data()
    found, notes = sites(model, "channels", inputs(x[:2]))
    assert [site.paths for site in found] == [("stem", "two"), ("one",)] and "head" in notes[0]
    for site, whole in zip(found, (("one", "head"), ("stem", "two", "head")), strict=True):
        cut, _ = channels.prune(model, inputs(x[:2]), channels.Plan(0.5, whole=whole))
        assert cut.get_submodule(site.paths[0]).weight.shape[0] == site.width // 2
        with edited(site.edits(0.5)), torch.no_grad():
            torch.testing.assert_close(model(inputs(x)), cut.eval()(inputs(x)), rtol=1e-4, atol=1e-5)


def test_a_lower_rank_computes_what_the_factors_compute():
    model, x, _ = model_and_data()
    found, _ = sites(model, "rank", inputs(x[:2]))
    target = next(t for t in lowrank.targets(model)[0] if t.path == "one")
    u, s, v = lowrank.svd(target.matrix())
    factored = copy.deepcopy(model)
    factored.one = lowrank.factored(target, lowrank.truncated(u, s, v, lowrank.rank(s, 0.5, "rank")))
    with edited(found[1].edits(0.5)), torch.no_grad():
        torch.testing.assert_close(model(inputs(x)), factored.eval()(inputs(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_amounts_are_what_the_changed_model_holds(kind):
    model, x, _ = model_and_data()
    found, _ = sites(model, kind, inputs(x[:2]))
    amount = amounts(model, kind, found, RATIOS)["weights"]
    dense = sum(layer.weight.numel() for layer in layers.weighted(model).values())
    assert amount.total == dense and amount.share([0] * len(found)) == pytest.approx(1)
    if kind == "prune":
        zeros = sum(int((~e.value).sum()) for site in found for e in site.edits(0.6))
        assert amount.share([2] * 4) == pytest.approx(1 - zeros / dense)
    if kind == "channels":
        cut, _ = channels.prune(model, inputs(x[:2]), channels.Plan(0.6))
        left = sum(layer.weight.numel() for layer in layers.weighted(cut).values())
        assert amount.share([2, 2]) == pytest.approx(left / dense)
        stored = amounts(model, kind, found, RATIOS)["bytes"]
        parameters = sum(p.numel() for p in cut.parameters()) / sum(p.numel() for p in model.parameters())
        assert stored.share([2, 2]) == pytest.approx(parameters)
    if kind == "rank":  # one is 8 x 54 at rank round(8 * 0.1) = 1
        one = (8 * 54 - 1 * (8 + 54)) / dense
        assert amount.share([0, 3, 0, 0]) == pytest.approx(1 - one)


def test_all_at_once_joins_the_masks_of_one_layer():
    model, x, y = model_and_data()
    found, _ = sites(model, "channels", inputs(x[:2]))
    edits = joined(edit for site in found for edit in site.edits(0.5))
    assert len({edit.layer for edit in edits}) == len(edits)
    cut, _ = channels.prune(model, inputs(x[:2]), channels.Plan(0.5))
    right = float((cut.eval()(inputs(x)).argmax(1) == y).double().mean())
    assert together(model, inputs, x, y, edits) == pytest.approx(right)


@pytest.mark.parametrize(("kind", "reason"), [(Branching, "cannot be traced"), (Writing, "in place")])
def test_what_cannot_be_replayed_is_run_whole(kind, reason):
    model, (x, y) = make(kind), data(12)
    found, _ = sites(model, "prune", inputs(x[:2]))
    answers = scan(model, inputs, x, y, found, RATIOS)
    assert reason in answers.problem
    whole = scan(model, inputs, x, y, found, RATIOS, cached=False)
    assert np.array_equal(answers.changed, whole.changed)


@pytest.mark.parametrize("kind", ["prune", "rank"])
def test_a_model_with_nothing_to_change_is_refused(kind):
    with pytest.raises(Refused, match="nothing to change"):
        sites(torch.nn.Flatten(), kind, torch.zeros(2, 1, 8, 8))

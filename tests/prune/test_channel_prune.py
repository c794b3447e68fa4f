"""ChannelPrune on a real task: fewer channels and multiplications, alone and after every other family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lessen
from lessen.catalog import recipe
from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import channels, layers
from lessen.prune.channel_prune import ChannelPrune
from lessen.tasks import task


@pytest.fixture(scope="module")
def digits() -> Task:
    return task("digits")


@pytest.fixture(scope="module")
def model(digits: Task) -> Any:
    with digits.seeded(0):
        return digits.build("resnet8(width=0.5)")


def test_channels_and_multiplications_fall_and_are_recorded(digits: Task, model: Any) -> None:
    cut, record = ChannelPrune(ratio=0.25).apply(model, digits)
    before, after = dict(channels.widths(layers.own(digits.copy(model)))), dict(channels.widths(cut))
    assert record.details["channels"] == {k: [before[k], after[k]] for k in before}
    assert all(after[k] == round(0.75 * n) for k, n in before.items() if k != "head") and after["head"] == 10
    assert record.details["macs"] == [record.before.macs, record.after.macs]
    assert record.after.macs < 0.65 * record.before.macs and record.after.parameters < 0.65 * record.before.parameters
    details = record.details
    assert details["channels_removed"] + details["channels_kept"] == pytest.approx(1)
    assert details["channels_removed"] == pytest.approx(1 - sum(after.values()) / sum(before.values()))
    assert record.notes == ("left whole, the model's output: head",)


def test_global_ranking_spares_what_matters_and_keeps_the_floor(digits: Task, model: Any) -> None:
    _, record = ChannelPrune(ratio=0.5, scope="global", floor=0.25).apply(model, digits)
    assert all(4 * after >= before for before, after in record.details["channels"].values())
    assert record.after.macs < record.before.macs


def test_rounded_widths(digits: Task, model: Any) -> None:
    cut, _ = ChannelPrune(ratio=0.4, round_to=8).apply(model, digits)
    assert {w for k, w in channels.widths(cut) if k != "head"} == {8, 16}  # 8, 16, 32 -> 5, 10, 19 -> 8, 8, 16


def test_ratio_zero_changes_nothing(digits: Task, model: Any) -> None:
    cut, record = ChannelPrune(ratio=0.0, round_to=16).apply(model, digits)
    assert record.before == record.after and not record.notes
    assert all(torch.equal(v, cut.state_dict()[k]) for k, v in model.state_dict().items())


def test_chance_is_repeatable(digits: Task, model: Any) -> None:
    chosen = [ChannelPrune(criterion="random").apply(model, digits, seed=s)[0].state_dict() for s in (0, 0, 1)]
    same = [all(torch.equal(v, other[k]) for k, v in chosen[0].items()) for other in chosen[1:]]
    assert same == [True, False]


def test_layers_to_leave_are_named_and_misspelt_names_are_caught(digits: Task, model: Any) -> None:
    cut, _ = ChannelPrune(whole=("features.stage1",)).apply(model, digits)
    assert {w for k, w in channels.widths(cut) if k.startswith(("features.stem", "features.stage1"))} == {8}
    with pytest.raises(UnknownName, match=r"ChannelPrune.whole 'features.stem.con'; did you mean 'features.stem.conv'"):
        ChannelPrune(whole=("features.stem.con",)).apply(model, digits)


def test_fields_out_of_range_are_named() -> None:
    with pytest.raises(BadField, match=r"ChannelPrune.ratio = 1.0 is out of its range 0 to 0.99 \(share REMOVED"):
        ChannelPrune(ratio=1.0)

    with pytest.raises(BadField, match=r"layers gives 'features.stage1' 1.0, which is out of its range 0 to below 1"):
        ChannelPrune(layers=(("features.stage1", 1.0),)).apply(nn_model(), task("digits"))
    with pytest.raises(UnknownName, match=r"layer in ChannelPrune.layers 'hed'; did you mean 'head'"):
        ChannelPrune(layers=(("hed", 0.5),)).apply(nn_model(), task("digits"))


def nn_model() -> Any:
    return task("digits").build("resnet8(width=0.25)")


def test_a_layers_own_ratio_counts_in_place_of_the_general_one(digits: Task, model: Any) -> None:
    chosen = ChannelPrune(ratio=0.5, layers=(("features.stage3", 0.25), ("features.stage2.0.body.0.conv", 0.0)))
    _, record = chosen.apply(model, digits)
    kept = {path: after / before for path, (before, after) in record.details["channels"].items()}
    assert {kept[p] for p in kept if p.startswith("features.stage3")} == {0.75}
    assert {kept[p] for p in kept if p.startswith("features.stage1")} == {0.5}
    assert kept["features.stage2.0.body.0.conv"] == 1.0


@pytest.mark.parametrize("criterion", ["l1", "gradient", "taylor", "activation", "bn_scale"])
def test_every_criterion_cuts_and_is_repeatable(criterion: Any, digits: Task, model: Any) -> None:
    one, record = ChannelPrune(criterion=criterion).apply(model, digits)
    other, _ = ChannelPrune(criterion=criterion).apply(model, digits, seed=1)
    assert record.after.macs < 0.3 * record.before.macs
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    assert all(p.grad is None for p in one.parameters())


@pytest.mark.parametrize(
    ("of", "ratio", "removed"), [("macs removed", 0.5, 0.5), ("bytes removed", 0.6, 0.6), ("bytes kept", 0.6, 0.4)]
)
def test_amounts_say_what_they_are_of(of: Any, ratio: float, removed: float, digits: Task, model: Any) -> None:
    _, record = ChannelPrune(ratio=ratio, of=of).apply(model, digits)
    before, after = record.details["macs" if of == "macs removed" else "bytes"]
    assert abs(1 - after / before - removed) <= 0.02
    assert record.details["macs"] == [record.before.macs, record.after.macs]
    assert record.details["bytes"] == [record.before.weight_bits // 8, record.after.weight_bits // 8]


def test_a_goal_out_of_reach_is_refused_with_the_furthest(digits: Task, model: Any) -> None:
    with pytest.raises(Refused, match=r"98.0% fewer MACs cannot be reached .* the furthest is \d\d\.\d%"):
        ChannelPrune(ratio=0.98, of="macs removed", round_to=8).apply(model, digits)
    with pytest.raises(Refused, match=r"100.0% fewer bytes cannot be reached"):
        ChannelPrune(ratio=0.0, of="bytes kept", round_to=8).apply(model, digits)


def test_cuts_in_steps_train_between_and_end_at_the_same_widths(digits: Task, model: Any) -> None:
    once, _ = ChannelPrune(ratio=0.5).apply(model, digits)
    seen: list[float] = []
    run = Run(progress=lambda done, text: seen.append(done))
    steps, record = ChannelPrune(ratio=0.5, steps=3, epochs=1, lr=0.02).apply(model, digits, run=run)
    assert list(channels.widths(steps)) == list(channels.widths(once))
    assert [e.epoch for e in record.history] == [1, 2]
    assert record.details["filters_removed"]["features.stem.conv"] == 4
    assert seen == sorted(seen) and seen[-1] <= 1
    assert record.notes == ("left whole, the model's output: head",)


def test_the_architecture_is_recorded_before_and_after(digits: Task, model: Any) -> None:
    _, record = ChannelPrune(ratio=0.5).apply(model, digits)
    architecture = record.details["architecture"]
    assert architecture["before"]["features.stem.conv"] == "8x1x3x3"
    assert architecture["after"]["features.stem.conv"] == "4x1x3x3"
    assert architecture["after"]["head"] == "10x16"


def test_a_cut_transformer_is_packed_and_comes_back(digits: Task, tmp_path: Path) -> None:
    vit = digits.build("vit(depth=1, dim=32, heads=4, patch=2)")
    cut, record = ChannelPrune(ratio=0.5).apply(vit, digits)
    assert record.details["channels"]["encoders.0.attention.q"] == [32, 16]
    packed = lessen.pack(cut, digits, tmp_path / "small")
    x = digits.inputs(digits.split("test").x[:8])
    assert torch.equal(packed.model().eval()(x), cut.eval()(x))


def test_what_is_too_narrow_to_round_is_said(digits: Task, model: Any) -> None:
    _, record = ChannelPrune(round_to=64).apply(model, digits)
    assert record.before == record.after
    assert record.notes[-1].startswith("no channel was cut")


@pytest.mark.parametrize("first", ["MagnitudePrune(sparsity=0.8)", "LowRank(keep=0.7)", "Int8()", "ChannelPrune()"])
def test_after_others_it_still_pays_and_keeps_what_they_won(first: str, digits: Task, model: Any) -> None:
    start, _ = recipe(first).apply(model, digits)
    cut, record = ChannelPrune(ratio=0.5).apply(start, digits)
    before, after = record.before, record.after
    assert after.macs < before.macs and after.nonzeros < before.nonzeros and after.weight_bits < before.weight_bits
    assert slots(cut) == slots(start)


def slots(model: Any) -> set[tuple[str, str]]:
    """(path, slot) of every mask and quantizer."""
    filled = ("mask", "wq", "iq", "oq")
    return {(k, s) for k, m in layers.sites(model).items() for s in filled if getattr(m, s, None) is not None}

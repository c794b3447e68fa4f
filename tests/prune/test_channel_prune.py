"""ChannelPrune on a real task: fewer channels and multiplications, alone and after every other family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lessen.catalog import recipe
from lessen.core.errors import BadField, UnknownName
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
    with pytest.raises(BadField, match=r"ChannelPrune.ratio = 1.0 is out of its range 0 to 0.95 \(share of .*REMOVED"):
        ChannelPrune(ratio=1.0)


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

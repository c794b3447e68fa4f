"""So many fewer multiplications or bytes: the nearest cut that is enough, and an honest refusal beyond the last."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lessen import models
from lessen.core.errors import BadField, Refused
from lessen.ops import channel_goals, channels, cost, layers
from lessen.ops.channel_goals import TOLERANCE, Goal
from lessen.ops.channels import Plan, Start

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return layers.own(models.build("resnet20", classes=10)).eval()


def test_all_cuts_between_two_lose_one_step_of_one_group_at_a_time() -> None:
    assert channel_goals.between([5, 8], [4, 2], [1, 4]) == [[5, 8], [5, 4], [5, 2], [4, 2]]
    assert channel_goals.between([5], [5], [1]) == [[5]]


def test_the_smallest_sufficient_cut_is_found() -> None:
    def at(ratio: float) -> list[int]:  # two groups that jump together: neither jump lands on the goal
        return [10 - 5 * round(ratio * 2)] * 2

    def removed(keeps: list[int]) -> float:
        return 1 - sum(keeps) / 20

    assert channel_goals.reach(Goal("bytes", 0.25), at, removed, [5, 5]) == ([10, 5], [])  # type: ignore[arg-type]
    keeps, notes = channel_goals.reach(Goal("bytes", 0.30), at, removed, [5, 5])  # type: ignore[arg-type]
    assert keeps == [5, 5]
    assert notes == ["removes 50.0% of the bytes where 30.0% was asked: the next smaller cut removes 25.0%"]
    assert channel_goals.reach(Goal("bytes", 0.26), at, removed, [5, 5]) == ([10, 5], [])  # type: ignore[arg-type]
    assert channel_goals.reach(Goal("bytes", 0.0), at, removed, [5, 5]) == ([10, 10], [])  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("of", "ratio"), [("macs removed", 0.5), ("bytes removed", 0.7), ("bytes kept", 0.6)])
@pytest.mark.parametrize("round_to", [1, 8])
def test_goals_are_reached_on_the_cut_model(
    model: nn.Module, scope: channels.Scope, of: channels.Amount, ratio: float, round_to: int
) -> None:
    plan = Plan(ratio, scope, round_to=round_to, floor=0.05, of=of)
    cut, notes = channels.prune(model, X, plan)
    before, after = cost.count(model, X[:1]), cost.count(cut, X[:1])
    macs, size = 1 - after.macs / before.macs, 1 - after.weight_bits / before.weight_bits
    reached = macs if of == "macs removed" else size
    asked = 1 - ratio if of == "bytes kept" else ratio
    assert abs(reached - asked) <= TOLERANCE and len(notes) == 1
    assert all(w % round_to == 0 for path, w in channels.widths(cut) if path != "head")


def test_a_goal_out_of_reach_names_the_furthest(model: nn.Module) -> None:
    with pytest.raises(Refused, match=r"95.0% fewer MACs cannot be reached .*; the furthest is (\d\d\.\d)%, so") as e:
        channels.prune(model, X, Plan(0.95, of="macs removed", round_to=16))
    said = float(str(e.value).split("furthest is ")[1].split("%")[0]) / 100
    furthest, _ = channels.prune(model, X, Plan(0.999, round_to=16))
    assert said == pytest.approx(1 - cost.macs(furthest, X[:1]) / cost.macs(model, X[:1]), abs=1e-3)


def test_layers_with_their_own_ratio_stay_out_of_the_search(model: nn.Module) -> None:
    path = next(p for p, _ in channels.widths(model) if p.startswith("features.stage2.0"))
    plan = Plan(0.5, of="macs removed", ratios=((path, 0.25),))
    cut, _ = channels.prune(model, X, plan)
    assert dict(channels.widths(cut))[path] == 24
    assert abs(1 - cost.macs(cut, X[:1]) / cost.macs(model, X[:1]) - 0.5) <= TOLERANCE


def test_ratios_of_layers_that_share_channels_must_agree(model: nn.Module) -> None:
    stem = next(p for p, _ in channels.widths(model))
    with pytest.raises(BadField, match="hold the same channels; give them one ratio"):
        channels.prune(model, X, Plan(0.5, ratios=((stem, 0.25), ("features.stage1", 0.5))))
    with pytest.raises(Refused, match="the channels of 'head' stay whole, so it takes no ratio of its own"):
        channels.prune(model, X, Plan(0.5, ratios=(("head", 0.25),)))


def test_cuts_in_steps_end_where_one_cut_does() -> None:
    torch.manual_seed(0)
    model = layers.own(models.build("resnet8", classes=10)).eval()
    for plan in (Plan(0.45), Plan(0.45, "global", floor=0.1), Plan(0.45, of="macs removed")):
        start, small = Start.of(model, X), model
        kept = []
        for i in (1, 2, 3):
            small, _ = channels.prune(small, X, replace(plan, share=i / 3), start=start)
            kept.append(sum(w for _, w in channels.widths(small)))
        at_once, _ = channels.prune(model, X, plan)
        assert kept == sorted(kept, reverse=True) and kept[0] > kept[2]
        if plan.of == "macs removed":
            assert abs(1 - cost.macs(small, X[:1]) / start.macs - 0.45) <= TOLERANCE
        elif plan.scope == "layer":
            assert list(channels.widths(small)) == list(channels.widths(at_once))
        else:
            assert kept[-1] == pytest.approx(sum(w for _, w in channels.widths(at_once)), rel=0.1)

"""Whole channels leave a model: how many of each group of coupled channels, which, and the cut itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch_pruning as tp
from torch import Tensor, nn

from lessen.core.errors import BadField, Refused
from lessen.ops import channel_cuts, channel_goals, channel_groups, channel_places, channel_scores, cost, layers
from lessen.ops.channel_groups import Coupled
from lessen.ops.channel_scores import Criterion, Data

Scope = Literal["layer", "global"]
Amount = Literal["channels removed", "macs removed", "bytes removed", "bytes kept"]


@dataclass(frozen=True)
class Plan:
    """How much to cut, of what there was at the start. See `kept_counts` for what the numbers mean."""

    ratio: float
    scope: Scope = "layer"
    criterion: Criterion = "l2"
    round_to: int = 1
    floor: float = 0.0
    whole: tuple[str, ...] = ()  # paths of layers whose outputs stay
    of: Amount = "channels removed"
    ratios: tuple[tuple[str, float], ...] = ()  # (path, share of channels removed), in place of ratio
    share: float = 1.0  # of the whole way that this cut goes

    @property
    def removed(self) -> float:
        """Share to remove of what `of` names, in this cut."""
        return self.share * (1 - self.ratio if self.of == "bytes kept" else self.ratio)


class Start(NamedTuple):
    """The model before the first of several cuts: output channels by path, and what it cost."""

    widths: dict[str, int]
    macs: int
    bytes: int

    @classmethod
    def of(cls, model: nn.Module, sample: Tensor) -> Start:
        found = cost.count(model, sample[:1])
        return cls(dict(widths(model)), found.macs, found.weight_bits // 8)


# --- how many, and which: pure functions of numbers


def kept_counts(
    scores: Sequence[Tensor],
    plan: Plan,
    sizes: Sequence[int] | None = None,
    own: Sequence[float | None] | None = None,
) -> list[int]:
    """Units that every group keeps, before rounding.

    scope "layer": round(n * (1 - ratio)), at least 1. scope "global": the round(total * ratio) lowest scores of all
    go, except that every group keeps the share `floor` of its units, rounded up, and at least 1.
    sizes: what the groups had at the start, of which ratios are; own: a group's own ratio, in place of the plan's.
    """
    now = [len(s) for s in scores]
    sizes, own = sizes or now, own or [None] * len(now)
    alone = [plan.removed if r is None and plan.scope == "layer" else r for r in own]
    kept = [n if r is None else min(n, max(1, round(m * (1 - r)))) for n, m, r in zip(now, sizes, alone, strict=True)]
    ranked = [i for i, r in enumerate(alone) if r is None]
    if not ranked:
        return kept
    lowest = {i: max(1, math.ceil(plan.floor * sizes[i] - 1e-9)) for i in ranked}
    owner = torch.cat([torch.full((now[i],), i) for i in ranked])
    to_go = round(sum(sizes[i] for i in ranked) * plan.removed) - sum(sizes[i] - now[i] for i in ranked)
    for index in torch.cat([scores[i] for i in ranked]).argsort(stable=True).tolist():
        group = int(owner[index])
        if to_go > 0 and kept[group] > lowest[group]:
            kept[group] -= 1
            to_go -= 1
    return kept


def rounded(keep: int, n: int, multiple: int) -> int:
    """The multiple nearest to `keep` (down at ties) that n channels can hold, at least one; n < multiple stays whole.

    >>> rounded(11, 16, 16), rounded(45, 64, 16), rounded(5, 12, 8), rounded(5, 6, 8)
    (16, 48, 8, 6)
    """
    if keep == n or n < multiple:
        return n
    nearest = math.ceil(keep / multiple - 0.5) * multiple
    return min(max(nearest, multiple), n // multiple * multiple)


def lowest(scores: Tensor, keep: int) -> list[int]:
    """The units that go so that `keep` stay: the lowest scores, the first at ties."""
    return scores.argsort(stable=True)[: len(scores) - keep].sort().values.tolist()


# --- the cut


class Found(NamedTuple):
    """A plain shadow, torch-pruning's graph of it, the groups that may be cut, and the layers that stay, by reason."""

    shadow: nn.Module
    graph: tp.DependencyGraph
    groups: list[Coupled]
    stay: dict[str, list[str]]


def coupled(model: nn.Module, sample: Tensor, whole: tuple[str, ...] = ()) -> Found:
    """Which channels of `model` (of our layers) go together, without the layers and blocks named `whole`.

    Errors: Refused when the model cannot be traced, naming the module.
    """
    shadow = layers.plain(model)
    with torch.enable_grad():  # groups are read from the autograd graph
        graph = channel_groups.dependencies(shadow, sample)
        groups, stay = channel_groups.find(graph, model, whole)
    moved = channel_places.misplaced(shadow, groups, sample)
    for group in (g for g in groups if g.path in moved):
        stay.setdefault("the channels change their order between layers", []).extend(group.producers)
    return Found(shadow, graph, [g for g in groups if g.path not in moved], stay)


def prune(
    model: nn.Module, sample: Tensor, plan: Plan, data: Data | None = None, start: Start | None = None
) -> tuple[nn.Module, list[str]]:
    """A copy of `model` (of our layers) without the least important channels, and notes on what stays whole and why.

    data: for criteria that look at samples. start: the model of which the plan's shares are, this one by default.
    The cut is believed only when a forward pass of `sample` (n, ...) runs, the copy's effective weights equal those of
    a plain shadow that torch-pruning cuts, and no operation gives channels other places. Errors: Refused, naming the
    layer.
    """
    shadow, graph, groups, stay = coupled(model, sample, plan.whole)
    found = channel_scores.scores(shadow, groups, plan.criterion, data)
    for group, s in zip(groups, found, strict=True):
        if s is None:
            stay.setdefault(f"nothing to rank by {plan.criterion}", []).extend(group.producers)
    ranked = [(g, s) for g, s in zip(groups, found, strict=True) if s is not None]
    notes = [f"left whole, {reason}: {', '.join(sorted(paths))}" for reason, paths in stay.items()]
    if not ranked:
        raise Refused(f"no layer's channels may go ({'; '.join(notes) or 'there is none'}); cut another model")
    groups, scores = [g for g, _ in ranked], [s for _, s in ranked]
    keeps, told = _keeps(model, sample, groups, scores, plan, start or Start.of(model, sample))
    gone = [lowest(s, keep) for s, keep in zip(scores, keeps, strict=True)]
    small = channel_cuts.without(model, groups, gone)
    channel_cuts.verify(small, shadow, graph, groups, gone, sample)
    moved = channel_places.misplaced(layers.plain(small), channel_cuts.remaining(groups, gone), sample)
    if moved:
        raise Refused(f"with fewer channels, those of '{moved[0]}' change their order; name that layer in `whole`")
    return small, [*notes, *told]


def _keeps(
    model: nn.Module, sample: Tensor, groups: list[Coupled], scores: list[Tensor], plan: Plan, start: Start
) -> tuple[list[int], list[str]]:
    """Units that every group keeps, and notes."""
    own = [_own_ratio(group, plan) for group in groups]
    named = {name for name, _ in plan.ratios}
    idle = [n for n in named if not any(channel_groups.covers((n,), p) for g in groups for p in g.producers)]
    if idle:
        raise Refused(
            f"the channels of '{idle[0]}' stay whole, so it takes no ratio of its own; leave it out of layers"
        )
    sizes = [start.widths[g.path] // g.span for g in groups]
    multiples = [plan.round_to // math.gcd(plan.round_to, g.span) for g in groups]
    notes = []
    narrow = [p for g, n, m in zip(groups, sizes, multiples, strict=True) if n < m for p in g.producers]
    if narrow:
        notes.append(f"left whole, narrower than {plan.round_to} channels: {', '.join(sorted(narrow))}")

    def at(ratio: float | None = None) -> list[int]:
        asked = plan if ratio is None else Plan(ratio, plan.scope, floor=plan.floor)
        counts = kept_counts(scores, asked, sizes, own)
        return [
            g.n if keep == g.n else min(g.n, rounded(keep, n, m))
            for g, keep, n, m in zip(groups, counts, sizes, multiples, strict=True)
        ]

    if plan.of == "channels removed":
        return at(), notes
    goal = channel_goals.Goal("MACs" if plan.of == "macs removed" else "bytes", plan.removed)
    return _reach(model, sample, groups, scores, goal, at, multiples, start, notes)


def _reach(
    model: nn.Module,
    sample: Tensor,
    groups: list[Coupled],
    scores: list[Tensor],
    goal: channel_goals.Goal,
    at: Callable[[float], list[int]],
    multiples: list[int],
    start: Start,
    notes: list[str],
) -> tuple[list[int], list[str]]:
    def removed(keeps: Sequence[int]) -> float:
        gone = [lowest(s, keep) for s, keep in zip(scores, keeps, strict=True)]
        small = channel_cuts.without(model, groups, gone)
        if goal.of == "MACs":
            return 1 - cost.macs(small, sample[:1]) / start.macs
        return 1 - cost.count(small, sample[:1]).weight_bits / 8 / start.bytes

    keeps, told = channel_goals.reach(goal, at, removed, multiples)
    return keeps, [*notes, *told]


def _own_ratio(group: Coupled, plan: Plan) -> float | None:
    """The ratio given for a layer of this group. Errors: BadField when two of them are given different ones."""
    given = {r: name for name, r in plan.ratios for p in group.producers if channel_groups.covers((name,), p)}
    if len(given) > 1:
        a, b = list(given.values())[:2]
        raise BadField(f"ChannelPrune.layers: '{a}' and '{b}' hold the same channels; give them one ratio")
    return next((plan.share * r for r in given), None)


def widths(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Path and output channels of every convolution and linear layer."""
    for path, layer in layers.weighted(model).items():
        yield path, layer.weight.shape[0]


def shapes(model: nn.Module) -> dict[str, str]:
    """Weight shape of every convolution and linear layer by path, as `64x32x3x3`: the architecture in short."""
    return {path: "x".join(map(str, layer.weight.shape)) for path, layer in layers.weighted(model).items()}

"""Channels that change places between their layers stay whole; dead ones that go leave the answers as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.inspect import sites
from lessen.ops import channel_cuts, channel_groups, channel_places, channels, layers

X = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SAID = "left whole, the channels change their order between layers: "


def shuffled(x: Tensor, parts: int = 2) -> Tensor:
    """ShuffleNet's channel shuffle (Zhang et al. 2018, arXiv:1707.01083)."""
    n, c, h, w = x.shape
    return x.view(n, parts, c // parts, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Way(nn.Module):
    """Two convolutions and a head, with `between` behind the first, `last` behind the second, and f(0) of `act`."""

    def __init__(self, between: Callable = lambda x: x, last: Callable = lambda x: x, act: Any = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6 * 64, 10)
        self.between, self.last, self.act = between, last, act or nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.act(self.b(self.between(self.act(self.a(x)))))).flatten(1))


def built(net: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for value in net.parameters():
        value.data = torch.randn_like(value) * 0.3
    return layers.own(net).eval()


ORDERED = {
    "nothing": {},
    "there and back": {"between": lambda x: x.flip(1).flip(1)},
    "shuffled back": {"between": lambda x: shuffled(shuffled(x, 2), x.shape[1] // 2)},
    "nonzero at zero": {"act": nn.Sigmoid()},
    "mean over channels": {"between": lambda x: x - x.mean(1, keepdim=True)},
    "length": {"last": lambda x: nn.functional.normalize(x.flatten(1))},
}
DISORDERED = {
    "shuffle": ({"between": shuffled}, "a"),
    "unflatten": ({"between": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)}, "a"),
    "roll": ({"between": lambda x: x.roll(1, 1)}, "a"),
    "flip": ({"between": lambda x: x.flip(1)}, "a"),
    "channels last": ({"last": lambda x: x.permute(0, 2, 3, 1).flatten(1)}, "b"),
    "picked": ({"between": lambda x: x[:, [4, 5, 6, 7, 0, 1, 2, 3]]}, "a"),
    "behind a sigmoid": ({"between": shuffled, "act": nn.Sigmoid()}, "a"),
}


def found(net: nn.Module, sample: Tensor) -> list[str]:
    """Paths of the groups whose channels change places."""
    shadow = layers.plain(net)
    with torch.enable_grad():
        groups, _ = channel_groups.find(channel_groups.dependencies(shadow, sample), net)
    return channel_places.misplaced(shadow, groups, sample)


@pytest.mark.parametrize("way", ORDERED)
def test_operations_that_keep_places_leave_channels_free(way: str) -> None:
    net = built(Way(**ORDERED[way]))
    assert found(net, X[:2]) == []
    cut, notes = channels.prune(net, X[:2], channels.Plan(0.5))
    assert [len(cut.a.weight), len(cut.b.weight)] == [4, 3] and notes == ["left whole, the model's output: head"]


@pytest.mark.parametrize("way", DISORDERED)
def test_operations_that_move_channels_keep_their_group_whole_and_no_other(way: str) -> None:
    how, moved = DISORDERED[way]
    net = built(Way(**how))
    cut, notes = channels.prune(net, X[:2], channels.Plan(0.5))
    assert [len(cut.a.weight), len(cut.b.weight)] == [8 if moved == "a" else 4, 6 if moved == "b" else 3]
    assert notes == ["left whole, the model's output: head", f"{SAID}{moved}"]


READS_ZEROS = {"nonzero at zero", "behind a sigmoid", "mean over channels"}  # a dead channel is not nothing to them


@pytest.mark.parametrize("way", sorted({*DISORDERED, *ORDERED} - READS_ZEROS))
def test_dead_channels_leave_without_a_trace(way: str) -> None:
    net = built(Way(**(ORDERED.get(way) or DISORDERED.get(way, ({},))[0])))
    with torch.no_grad():
        for layer in (net.a, net.b):
            layer.weight[1::2], layer.bias[1::2] = 0, 0
    groups = channels.coupled(net, X[:2]).groups
    small = channel_cuts.without(net, groups, [range(1, g.n, 2) for g in groups])
    assert groups
    torch.testing.assert_close(small(X), net(X), rtol=1e-5, atol=1e-5)


class Unit(nn.Module):
    """ShuffleNet's: 1 x 1, norm, ReLU, shuffle, depthwise, norm, 1 x 1, and a way around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()
        self.first, self.norm = nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.second = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1)
        self.hidden, self.head = nn.Linear(1024, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.second(self.depthwise(shuffled(self.act(self.norm(self.first(x))))))
        return self.head(self.act(self.hidden(x.flatten(1))))


def test_a_shufflenet_is_pruned_elsewhere() -> None:
    net = built(Unit())
    cut, notes = channels.prune(net, X[:2], channels.Plan(0.5))
    widths = dict(channels.widths(cut))
    assert widths == {"stem": 8, "first": 16, "depthwise": 16, "second": 8, "hidden": 6, "head": 10}
    assert f"{SAID}depthwise, first" in notes
    with pytest.raises(Refused, match="the channels of 'first' stay whole"):
        channels.prune(net, X[:2], channels.Plan(0.5, ratios=(("first", 0.5),)))


def test_an_order_that_changes_at_another_width_alone_is_refused() -> None:
    net = built(Way(lambda x: shuffled(shuffled(x, 2), 4)))  # of 8 channels back in their places, of 4 not
    assert found(net, X[:2]) == []
    with pytest.raises(Refused, match=r"^with fewer channels, those of 'a' change their order; name .* in `whole`$"):
        channels.prune(net, X[:2], channels.Plan(0.5))
    assert len(channels.prune(net, X[:2], channels.Plan(0.5, whole=("a",)))[0].b.weight) == 3


def test_where_no_other_channel_may_go_it_is_refused() -> None:
    with pytest.raises(Refused, match=r"no layer's channels may go \(.*change their order between layers: a"):
        channels.prune(built(Way(shuffled)), X[:2], channels.Plan(0.5, whole=("b",)))


def test_sensitivity_leaves_them_out_too() -> None:
    scanned, notes = sites.sites(built(Unit()), "channels", X[:2])
    assert "first" not in {path for site in scanned for path in site.paths}
    assert f"{SAID}depthwise, first" in notes


def test_two_channels_change_places_and_more_leave_the_first() -> None:
    def order(n: int) -> list[int]:
        at = torch.arange(n)
        member = channel_groups.Member("x", "out", 0, at, at)
        return channel_places.turned(channel_groups.Coupled("x", n, 1, (member,))).tolist()

    assert [order(n) for n in (1, 2, 3, 5)] == [[0], [1, 0], [0, 2, 1], [0, 4, 1, 2, 3]]


def test_channels_that_only_some_layers_read_move_among_their_like() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.left, self.right = nn.Conv2d(1, 12, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.first(x).split([4, 8], 1)
            return self.head(torch.cat([self.left(a), self.right(b)], 1).mean((2, 3)))

    net = built(Split())
    assert found(net, X[:2]) == []


def test_a_net_that_casts_is_followed_as_it_is() -> None:
    """In double precision it would not run."""

    class Casts(Way):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    assert found(built(Casts()), X[:2]) == []
    assert found(built(Casts(shuffled)), X[:2]) == ["a"]

"""A channel's worth: numbers worked by hand, and torch-pruning's own importance as the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from lessen import models
from lessen.ops import channel_groups, channel_scores, channels, layers
from lessen.ops.channel_scores import Data

ORACLES: dict[channel_scores.Criterion, Any] = {
    "l1": tp.importance.MagnitudeImportance(p=1),
    "l2": tp.importance.MagnitudeImportance(p=2),
    "bn_scale": tp.importance.BNScaleImportance(),
    "gradient": tp.importance.TaylorImportance(multivariable=False),
    "taylor": tp.importance.TaylorImportance(multivariable=True),
}
NETS = ("vgg8(width=0.125)", "resnet8(width=0.5)", "mobilenetv2(width=0.35)", "densenet(depth=10, growth=6)")


def net(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = layers.own(models.build(name, shape=(3, 32, 32), classes=5)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.2, 1)
    return model


def data(n: int = 8, batch: int = 128) -> Data:
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Data(x, torch.arange(n) % 5, nn.functional.cross_entropy, batch)


@pytest.mark.parametrize("criterion", ORACLES)
@pytest.mark.parametrize("name", [*NETS, "vit(depth=1, dim=32)"])
def test_scores_are_torch_prunings_and_so_are_the_channels_chosen(
    name: str, criterion: channel_scores.Criterion
) -> None:
    model, (x, y, loss, _) = net(name), data()
    shadow = layers.plain(model)
    graph = channel_groups.dependencies(shadow, x[:2])
    groups = [g for g in channel_groups.find(graph, model)[0] if g.root is not None]  # heads are ours alone
    found = channel_scores.scores(shadow, groups, criterion, data())
    loss(shadow(x), y).backward()
    for group, scores in zip(groups, found, strict=True):
        all_of_it = graph.get_pruning_group(group.root, group.cut, list(range(group.n * group.span)))
        theirs = ORACLES[criterion](all_of_it)
        if theirs is None:
            assert scores is None
            continue
        assert scores is not None and group.span == 1
        torch.testing.assert_close(scores.float(), theirs, rtol=1e-4, atol=1e-5)
        assert channels.lowest(scores, group.n // 2) == channels.lowest(theirs, group.n // 2)


class Two(nn.Module):
    """Two layers whose numbers a reader can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)
        self.first.weight.data, self.second.weight.data = torch.tensor([[1.0], [-2.0]]), torch.tensor([[3.0, 1.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.relu(self.first(x)))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("l1", [4.0, 3.0]),  # |1| + |3|, |-2| + |1|
        ("l2", [10.0, 5.0]),
        ("activation", [1.0, 2.0]),  # relu of 1, 2, -3 and of -2, -4, 6: 3 / 3 and 6 / 3
        ("gradient", [18.0, 12.0]),  # loss = sum of y: first dw x w = 9, 6; second the same
        ("taylor", [18.0, 12.0]),
    ],
)
def test_numbers_worked_by_hand(criterion: channel_scores.Criterion, expected: list[float]) -> None:
    model = layers.own(Two())
    shadow, x = layers.plain(model), torch.tensor([[1.0], [2.0], [-3.0]])
    groups, _ = channel_groups.find(channel_groups.dependencies(shadow, x), model)
    (scores,) = channel_scores.scores(shadow, groups, criterion, Data(x, torch.zeros(3), lambda out, y: out.sum()))
    assert scores is not None
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.double) / (sum(expected) / 2))


def test_gradient_scores_are_averaged_over_batches_not_their_gradients() -> None:
    """A channel that matters to both halves in opposite ways has no gradient overall, and a score."""
    model = layers.own(Two())
    shadow, x = layers.plain(model), torch.tensor([[1.0], [1.0]])
    groups, _ = channel_groups.find(channel_groups.dependencies(shadow, x), model)
    opposed = Data(x, torch.tensor([1.0, -1.0]), lambda out, y: (out[:, 0] * y).sum(), batch=1)
    (apart,) = channel_scores.scores(shadow, groups, "taylor", opposed)
    (together,) = channel_scores.scores(shadow, groups, "taylor", opposed._replace(batch=2))
    assert apart is not None and together is not None
    assert apart.tolist() == [2.0, 0.0] and together.tolist() == [0.0, 0.0]


def test_a_criterion_without_an_opinion_leaves_the_layer_and_says_so() -> None:
    model = net("vgg8(width=0.125, head=(32,))")
    cut, notes = channels.prune(model, data().x[:2], channels.Plan(0.5, criterion="bn_scale"))
    assert len(cut.head.linear1.weight) == len(model.head.linear1.weight)
    assert "left whole, nothing to rank by bn_scale: head.linear1" in notes


@pytest.mark.parametrize("criterion", ["gradient", "taylor", "activation"])
def test_scores_leave_the_model_as_it_was(criterion: channel_scores.Criterion) -> None:
    model = net(NETS[1])
    shadow = layers.plain(model)
    state = {k: v.clone() for k, v in shadow.state_dict().items()}
    groups, _ = channel_groups.find(channel_groups.dependencies(shadow, data().x[:2]), model)
    channel_scores.scores(shadow, groups, criterion, data(6, batch=3))
    assert all(torch.equal(v, state[k]) for k, v in shadow.state_dict().items())
    assert all(p.grad is None for p in shadow.parameters())
    assert not any(m._forward_pre_hooks for m in shadow.modules())

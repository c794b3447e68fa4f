"""Evening out channels changes no output, whatever lies between two layers; where that is not sure, nothing is done."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import equalization, layers


class Between(nn.Module):
    """A convolution of 4 channels on 4 x 4 places, something, and a Linear over what it gives."""

    def __init__(self, between, features: int) -> None:
        super().__init__()
        self.conv, self.act, self.fc, self.between = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(features, 5), between
        self.place = nn.Parameter(torch.ones(4, 4))  # of no layer
        self.all = nn.ModuleList([self.conv, self.act, self.fc])  # a second name is no second use

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.between(self.act(self.conv(x + self.place)))).flatten(1)


class Tokens(nn.Module):
    """Two Linear layers on tokens of 4 features, something between them."""

    def __init__(self, between, features: int) -> None:
        super().__init__()
        self.first, self.act, self.second, self.between = nn.Linear(3, 4), nn.ReLU(), nn.Linear(features, 5), between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.act(self.first(x.flatten(2).transpose(1, 2))))).flatten(1)


class Shared(nn.Module):
    """A convolution whose weight another one has, too, or a function of the model's own."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.tied = tied
        self.stem, self.a, self.b, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()
        if tied:
            self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.act(self.stem(x)))
        return self.b(x.sigmoid()) if self.tied else nn.functional.conv2d(x.sigmoid(), self.a.weight)


def moved(model: nn.Module) -> float:
    """By how much evening out moves outputs, of their largest."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        x = torch.randn(8, 3, 4, 4)
        for layer in layers.weighted(model).values():
            nn.init.normal_(layer.weight)
            layer.weight.mul_(torch.logspace(-1, 1, len(layer.weight)).reshape(-1, *[1] * (layer.weight.dim() - 1)))
        before = model(x)
        equalization.equalize(model)
        return float((model(x) - before).abs().max() / before.abs().max())


@pytest.mark.parametrize(
    ("between", "features"),
    [
        (nn.Flatten(), 64),
        (lambda x: torch.flatten(x, 1), 64),
        (lambda x: x.flatten(start_dim=1), 64),
        (lambda x: x.contiguous().flatten(2).flatten(1), 64),
        (lambda x: x.flatten(2).transpose(1, 2), 4),
        (lambda x: x.flatten(2).transpose(-1, -2).contiguous(), 4),
        (nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Flatten()), 4),
    ],
)
def test_channels_are_followed_through_what_leaves_them_together(between, features: int) -> None:
    model = layers.own(Between(between, features)).eval()
    assert equalization.chains(model) == [("conv", "", "fc")]
    assert moved(model) < 1e-5


@pytest.mark.parametrize(
    ("between", "features"),
    [
        (lambda x: x.permute(0, 2, 3, 1).flatten(1), 64),  # channels last: each is every fourth feature
        (lambda x: x.flatten(2), 16),
        (lambda x: x.transpose(1, 2).flatten(1), 64),
        (lambda x: x, 4),  # a Linear over the columns of an image, as many as there are channels
        (lambda x: x.reshape(-1, 16), 16),
        (lambda x: x.view(-1, 32), 32),
        (lambda x: x[:, :, 0], 4),
        (lambda x: x.flatten(2).transpose(1, 2).flatten(1), 64),
    ],
)
def test_nothing_is_done_where_channels_are_mixed_or_lost(between, features: int) -> None:
    model = layers.own(Between(between, features)).eval()
    assert moved(model) < 1e-5 and equalization.chains(model) == []


def test_features_of_tokens_are_followed_but_not_where_tokens_are_joined() -> None:
    model = layers.own(Tokens(nn.Identity(), 4)).eval()
    assert equalization.chains(model) == [("first", "", "second")] and moved(model) < 1e-5
    model = layers.own(Tokens(nn.Flatten(), 64)).eval()
    assert equalization.chains(model) == [] and moved(model) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_weights_that_serve_twice_stay(tied: bool) -> None:
    model = layers.own(Shared(tied)).eval()
    assert equalization.chains(model) == [] and moved(model) < 1e-5


def test_a_range_that_stands_between_two_layers_stays_right() -> None:
    model = layers.own(Between(nn.Flatten(), 64)).eval()
    model.act.oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0))  # type: ignore[union-attr]
    assert equalization.chains(model) == []

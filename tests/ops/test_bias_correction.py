"""What rounding moved is taken back by as much as it moved, however often a layer runs, whatever stands in a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import bias_correction, layers


class Tokens(nn.Module):
    """Folds 6 tokens into the batch, as windows and patches are: each layer sees 6 rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(8, 5), nn.Linear(30, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x.reshape(-1, 8)).relu().reshape(len(x), 30))


class Twice(nn.Module):
    """Reads both halves of an image with one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(24, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x[:, :24]) - self.fc(x[:, 24:]).relu())


class Pictures(nn.Module):
    """Cuts an image into 3 of 4 x 4 that stand in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.reshape(-1, 1, 4, 4)).relu().mean((2, 3))
        return self.head(y.reshape(len(x), 3, 5).sum(1))


def means(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The oracle: every value of a channel over all calls in one list."""
    seen: dict[str, list[Tensor]] = {}
    for path, layer in layers.weighted(model).items():
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        layer.register_forward_hook(
            lambda _m, _x, y, path=path, axis=axis: seen.setdefault(path, []).append(y.movedim(axis, -1).flatten(0, -2))
        )
    with torch.inference_mode():
        model(x)
    return {path: torch.cat(found).mean(0) for path, found in seen.items()}


@pytest.mark.parametrize("build", [Tokens, Twice, Pictures])
@pytest.mark.parametrize("samples", [64, 100])  # batches of 64: one, and two of different sizes
def test_each_channel_has_its_mean_back(build: type[nn.Module], samples: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference, x = layers.own(build()).eval(), torch.rand(samples, 48)
    model = copy.deepcopy(reference)
    for layer in layers.weighted(model).values():
        layer.wq = layers.WeightQuantizer.fitting(layer, 2)
    wanted, rounded = means(copy.deepcopy(reference), x), means(copy.deepcopy(model), x)
    shifts = bias_correction.correct(model, reference, x)
    found = means(copy.deepcopy(model), x)
    first = next(iter(wanted))
    assert shifts[first] == pytest.approx(float((rounded[first] - wanted[first]).abs().max()), rel=1e-4)
    assert shifts[first] > 0.01, "too small a shift would make this test blind"
    for path, mean in wanted.items():
        torch.testing.assert_close(found[path], mean, atol=1e-5, rtol=0)


def test_a_pass_ends_at_the_layer_looked_at_only_where_it_runs_once() -> None:
    model, x, ran = layers.own(Twice()).eval(), torch.rand(10, 48), []
    model.get_submodule("head").register_forward_hook(lambda *_: ran.append(1))
    once = bias_correction._means(model, ["fc"], x, stop=True)["fc"]
    assert once.calls == 1 and not ran
    assert bias_correction._means(model, ["fc"], x)["fc"].calls == 2 and ran

"""How much does the loss mind an error in a layer's weights? Three measures, each to be multiplied by its square.

fisher: the mean squared gradient, one number a weight (empirical Fisher: LeCun et al. 1990, "Optimal Brain Damage").
hessian: the mean of the Hessian's diagonal over a layer's weights, by Hutchinson's estimator with Rademacher vectors
(Dong et al. 2020, HAWQ-v2, arXiv:1911.03852). variance: of the activations that the weights are multiplied with, since
the error of a layer's output is that of its weights times its input. All are of the model in float, in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lessen.core.task import Task
from lessen.ops import calibration, layers
from lessen.ops.training_plan import mix_seeds

Measure = Literal["fisher", "hessian", "variance"]
Loss = Callable[[int, int], Tensor]  # the mean loss of samples i to j
BATCH = 64  # samples whose graph is kept for second derivatives


class Curvature(NamedTuple):
    """Of one layer. weight: a number, or one for each weight, that squared errors are multiplied with.

    mean: over the layer's living weights, below zero where a trace was. error: standard error of that mean over the
    random vectors; None where nothing is drawn.
    """

    weight: Tensor
    mean: float
    error: float | None = None

    def loss(self, error: Tensor) -> float:
        """Of an error of the weights, shaped like them."""
        return float((self.weight.to(error.device) * error.detach().double().square()).sum())


def measure(
    model: nn.Module, task: Task, kind: Measure, *, samples: int = 128, draws: int = 16, seed: int = 0
) -> dict[str, Curvature]:
    """Path -> curvature of every layer of ours, from calibration samples that the seed draws; the model stays as it is.

    Errors: BadData when the calibration split is empty or holds one sample many times.
    """
    x = calibration.samples(task)
    at = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:samples]
    living = {path: _living(layer) for path, layer in layers.weighted(model).items()}
    shadow = layers.plain(model).eval().requires_grad_(False)
    device = next((p.device for p in model.parameters()), x.device)
    x, y = x[at].to(device), task.split("calibration").y[at].to(device)
    if kind == "variance":
        found = variances(shadow, x, list(living))
        return {path: Curvature(torch.tensor(value).double(), value) for path, value in found.items()}
    weights = {path: cast(Tensor, shadow.get_submodule(path).weight).requires_grad_(True) for path in living}

    def loss(begin: int, end: int) -> Tensor:
        return task.loss(shadow(x[begin:end]), y[begin:end])

    if kind == "fisher":
        squares = fisher(loss, len(x), weights)
        return {p: Curvature(s.double(), float(s.sum() / living[p].sum().clamp(min=1))) for p, s in squares.items()}
    traces = hutchinson(loss, len(x), weights, living, draws=draws, seed=seed)
    return {p: _of_trace(t / living[p].sum().clamp(min=1)) for p, t in traces.items()}


def fisher(loss: Loss, n: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over samples of each sample's squared gradient."""
    squares = {path: torch.zeros_like(w) for path, w in weights.items()}
    with torch.enable_grad():
        for i in range(n):
            found = torch.autograd.grad(loss(i, i + 1), list(weights.values()), allow_unused=True)
            for square, gradient in zip(squares.values(), found, strict=True):
                if gradient is not None:
                    square.add_(gradient.square() / n)
    return squares


def hutchinson(
    loss: Loss, n: int, weights: dict[str, Tensor], living: dict[str, Tensor], *, draws: int, seed: int
) -> dict[str, Tensor]:
    """Estimates (draws,) of the trace of each layer's block of the Hessian of the mean loss over n samples.

    One vector of signs for all layers: what other layers add has mean zero. Weights that do not live have no part.
    """
    found = {path: torch.zeros(draws, dtype=torch.float64) for path in weights}
    values = list(weights.values())
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        for begin in range(0, n, BATCH):
            end = min(n, begin + BATCH)
            gradients = torch.autograd.grad(loss(begin, end), values, create_graph=True, allow_unused=True)
            used = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
            for draw in range(draws if used else 0):
                signs = rademacher(values, living.values(), mix_seeds(seed, draw))
                products = torch.autograd.grad(
                    [gradients[i] for i in used], values, [signs[i] for i in used], retain_graph=True, allow_unused=True
                )
                for path, sign, product in zip(weights, signs, products, strict=True):
                    if product is not None:
                        found[path][draw] += float((sign * product).sum(dtype=torch.float64)) * (end - begin) / n
    return found


def rademacher(weights: Iterable[Tensor], living: Iterable[Tensor], seed: int) -> list[Tensor]:
    """Random signs shaped like the weights, 0 where they do not live."""
    chance = torch.Generator().manual_seed(seed)
    signs = [torch.randint(0, 2, w.shape, generator=chance).to(w) * 2 - 1 for w in weights]
    return [sign * alive for sign, alive in zip(signs, living, strict=True)]


def variances(model: nn.Module, x: Tensor, paths: list[str]) -> dict[str, float]:
    """Path -> variance of a layer's input over all samples x, channels and places."""
    sums = {path: torch.zeros(3, dtype=torch.float64) for path in paths}

    def see(place: tuple[str, str], value: Tensor) -> None:
        value = value.double()
        sums[place[1]] += torch.stack([torch.tensor(value.numel()).to(value), value.sum(), value.square().sum()]).cpu()

    calibration.watch(model, x, [("in", path) for path in paths], see)
    return {path: max(0.0, float(q / n - (s / n) ** 2)) if n else 0.0 for path, (n, s, q) in sums.items()}


def _living(layer: layers.Conv2d | layers.Linear) -> Tensor:
    return torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask


def _of_trace(estimates: Tensor) -> Curvature:
    """A negative trace says that the loss falls along most axes: no reason to spare bits, so it counts as none."""
    mean, n = float(estimates.mean()), len(estimates)
    return Curvature(torch.tensor(max(0.0, mean)).double(), mean, float(estimates.std() / n**0.5) if n > 1 else None)

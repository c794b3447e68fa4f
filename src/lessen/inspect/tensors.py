"""The verb: how weights and activations are distributed in a model, where their outliers sit, and what tames them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.analyze.ranks import Correlation, interval, spearman
from lessen.core.errors import BadField, Refused
from lessen.core.run import silent
from lessen.inspect.side_by_side import IMAGES
from lessen.inspect.subjects import positions, private, samples
from lessen.ops import graph, layers, outliers, spreads
from lessen.ops.bootstrap import Estimate, mean
from lessen.ops.watching import Place, recorded
from lessen.report.offline import finite

if TYPE_CHECKING:
    from lessen.core.task import Task
    from lessen.ops.outliers import Tally

BATCH = 64
CURVES = (layers.ReLU, layers.ReLU6, layers.SiLU, layers.GELU, layers.Sigmoid)
SIDES = {"out": "", "in": ", input"}


@dataclass(frozen=True)
class Channels:
    """Measures a channel. top: largest magnitude; ratio: of it to the channel's 99.9th percentile of magnitudes."""

    top: tuple[float, ...]
    kurtosis: tuple[float, ...]
    ratio: tuple[float, ...]


@dataclass(frozen=True)
class Seen:
    """One weight, or one tensor of activations. ratio: largest magnitude over the 99.9th percentile.

    reaching: share of the channels whose maximum is at least half the tensor's. holders: of the channels that hold some
    sample's maximum; most, steady: the one that holds it most often and in what share of the samples (not of weights).
    """

    path: str
    kind: str
    count: int
    zeros: float
    kurtosis: float
    ratio: float
    reaching: float
    holders: float
    most: int
    steady: float
    channels: Channels
    shapes: dict[str, spreads.Shape]  # "plain", "clipped", "log"
    sqnr: dict[int, dict[str, float]]  # bits -> "plain", "clipped", "log" -> dB


@dataclass(frozen=True)
class Curve:
    """An activation function: its input and its output."""

    path: str
    kind: str
    before: tuple[float, float]  # kurtosis, ratio
    after: tuple[float, float]
    zeros: float


@dataclass(frozen=True)
class Norm:
    """A batch norm: do the channels that it amplifies hold the large values? gain is |gamma| / sigma."""

    path: str
    layer: str  # the convolution before it
    channels: int
    spread: float  # largest gain over the median
    output: Correlation  # of gain and the largest magnitude behind the norm
    output_interval: tuple[float, float]
    weight: Correlation  # of gain and the largest weight with the norm folded in
    weight_interval: tuple[float, float]
    gains: tuple[float, ...]  # a channel each, as all below
    outputs: tuple[float, ...]
    folded: tuple[float, ...]


@dataclass(frozen=True)
class Distributions:
    """What was found, in the order in which the model runs."""

    images: int
    weights: tuple[Seen, ...]
    activations: tuple[Seen, ...]
    curves: tuple[Curve, ...]
    norms: tuple[Norm, ...]
    output: Estimate  # of the norms' correlations, over layers
    weight: Estimate

    def outlying(self) -> int:
        """How many tensors of activations have outliers."""
        from lessen.inspect import tails

        return sum(map(tails.outlying, self.activations))

    def sentences(self) -> list[str]:
        from lessen.inspect import tails

        return list(tails.sentences(self))

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        found = asdict(self)
        for norm, shown in zip(self.norms, found["norms"], strict=True):
            shown |= {"output": norm.output._asdict(), "weight": norm.weight._asdict()}
        found |= {"output": self.output._asdict(), "weight": self.weight._asdict(), "sentences": self.sentences()}
        return finite(found)


def distributions(
    model: nn.Module, task: Task, *, images: int | None = None, seed: int = 0,
    progress: Callable[[float, str], None] = silent,
) -> Distributions:  # fmt: skip
    """Look at every weight, and at every tensor on which an activation quantizer would stand; the model stays.

    images: of validation, 200 when left out, drawn by `seed`. Errors: BadField, BadData, Refused without layers.
    """
    images = IMAGES if images is None else images
    if images < 2:
        raise BadField(f"images = {images} must be at least 2: percentiles of one image say nothing of others")
    x, _ = samples(task, positions(task, images, seed, "distributions"))
    private_model = private(model, task).cpu()
    weighted = layers.weighted(private_model)
    if not weighted:
        raise Refused("the model has no convolution or linear layer, so there is nothing to look at")
    standing, curves, pairs = _places(private_model)
    norms: list[Place] = [("out", norm) for norm in pairs]
    tallies = _watch(private_model, task, x, {*standing, *norms, *curves}, seed, progress)
    weights = tuple(_weight(path, layer) for path, layer in weighted.items())
    found = tuple(
        _seen(f"{path}{SIDES[side]}", private_model.get_submodule(path), tallies[side, path], weight=False)
        for side, path in standing
        if (side, path) in tallies
    )
    made = tuple(_norm(private_model, norm, conv, tallies["out", norm]) for norm, conv in pairs.items())
    return Distributions(
        len(x), weights, found, tuple(_curves(private_model, curves, tallies)), made,
        *(mean(torch.tensor([getattr(m, name).rho for m in made])) for name in ("output", "weight")),
    )  # fmt: skip


def _places(model: nn.Module) -> tuple[list[Place], list[Place], dict[str, str]]:
    """Where quantizers would stand, both sides of activation functions, and the batch norms with their convolutions."""
    found = graph.quantizer_places(model)
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    standing: list[Place] = [("in", p) for p in found.inputs] + [("out", p) for p in found.outputs]
    standing.sort(key=lambda place: (order[place[1]], place[0]))
    curves: list[Place] = [
        (side, path) for path, m in model.named_modules() if isinstance(m, CURVES) for side in ("in", "out")
    ]
    return standing, curves, graph.norm_pairs(model)


def _watch(
    model: nn.Module, task: Task, x: Tensor, places: set[Place], seed: int, progress: Callable[[float, str], None]
) -> dict[Place, Tally]:
    tallies: dict[Place, Tally] = {}
    for n, part in enumerate(x.split(BATCH)):
        _, seen = recorded(model, task.inputs(part), places)
        for place, calls in seen.items():
            tally = tallies.setdefault(place, outliers.Tally(len(x) * len(calls), seed))
            for value in calls:
                tally.add(outliers.channels_last(value[0] if place[0] == "in" else value))
        progress(min(1.0, (n + 1) * BATCH / len(x)), "distributions")
    return tallies


def _weight(path: str, layer: Any) -> Seen:
    rows = layer.effective_weight().detach().flatten(1)
    tally = outliers.Tally(1)
    tally.add(rows.T[None])
    return _seen(path, layer, tally, weight=True)


def _seen(path: str, module: nn.Module, tally: Tally, *, weight: bool) -> Seen:
    sample, tops = tally.sample(), torch.cat(tally.tops)
    top = tops.amax(0)
    high = outliers.quantile(sample.abs(), outliers.HIGH)
    ratio = torch.where(high > 0, top / high.clamp(min=1e-30), math.nan)
    whole = float(outliers.quantile(sample.abs().flatten(), outliers.HIGH))
    holders, most, steady = (math.nan, -1, math.nan) if weight else outliers.holders(tops)
    values = sample.T if weight else sample.flatten()
    return Seen(
        path, type(module).__name__, tally.count, tally.zeros / tally.count, tally.kurtosis(),
        float(top.amax()) / whole if whole > 0 else math.nan, outliers.reaching(top), holders, most, steady,
        Channels(*(tuple(v.tolist()) for v in (top, tally.channel_kurtosis(), ratio))),
        spreads.shapes(sample.flatten(), tally.low, tally.high),
        {bits: spreads.rounded(values, bits, rows=weight) for bits in (8, 4)},
    )  # fmt: skip


def _curves(model: nn.Module, places: list[Place], tallies: Mapping[Place, Tally]) -> Iterator[Curve]:
    for side, path in places:
        if side == "in" and ("in", path) in tallies:
            before, after = tallies["in", path], tallies["out", path]
            told = [(t.kurtosis(), outliers.peak_ratio(t.sample())) for t in (before, after)]
            kind = type(model.get_submodule(path)).__name__
            yield Curve(path, kind, told[0], told[1], after.zeros / after.count)


def _norm(model: nn.Module, path: str, conv: str, tally: Tally) -> Norm:
    norm: Any = model.get_submodule(path)
    layer: Any = model.get_submodule(conv)
    gain = outliers.norm_gain(norm.weight, norm.running_var, norm.eps).detach().cpu()
    folded = layer.effective_weight().detach().flatten(1).abs().amax(1) * gain
    gains, *tops = (tuple(v.tolist()) for v in (gain, torch.cat(tally.tops).amax(0), folded))
    output, weight = (spearman(gains, v) for v in tops)
    spread = float(gain.amax() / gain.median().clamp(min=1e-12))
    return Norm(path, conv, len(gain), spread, output, interval(output), weight, interval(weight), gains, *tops)

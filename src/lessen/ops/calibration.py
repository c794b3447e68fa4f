"""What range does each produced tensor cover? Seen by running calibration samples, before anything is quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lessen.core.errors import BadData
from lessen.core.task import Task
from lessen.ops.modes import evaluating
from lessen.ops.ranges import Histogram
from lessen.ops.watching import Place, watching

Span = tuple[Tensor, Tensor]
Rule = Literal["coverage", "mse", "kl"]
BATCH = 128  # samples that run together


def samples(task: Task, most: int = 0) -> Tensor:
    """The first of the calibration split, all for 0, as model inputs. Errors: BadData for none, or one repeated."""
    x = task.split("calibration").x[: most or None]
    if not len(x):
        raise BadData(
            "the calibration split is empty, so nothing tells ranges of activations or shifts of biases; give more "
            "training samples, or leave activations in float and biases uncorrected"
        )
    if len(x) > 1 and bool((x == x[:1]).all()):
        raise BadData(
            f"all {len(x)} calibration samples are the same, so ranges would be those of one input; give different ones"
        )
    return task.inputs(x)


def spans(
    model: nn.Module, x: Tensor, *, outputs: Iterable[str] = (), inputs: Iterable[str] = (), share: float = 1.0,
    rule: Rule = "coverage", bits: int = 8,
) -> tuple[dict[str, Span], dict[str, Span]]:  # fmt: skip
    """Lowest and highest value to cover of layers' outputs and inputs, by path, over samples x (n, ...).

    share: of each batch's values that the range must cover, split evenly over both ends (1.0 is min-max); ranges of
    batches of 128 are averaged when it is below 1, and joined when it is 1. The rules mse and kl choose by a histogram
    over all samples what `bits` bits should cover (ops/ranges.py).
    """
    places = [("out", p) for p in outputs] + [("in", p) for p in inputs]
    share = share if rule == "coverage" else 1.0
    seen: dict[Place, list[Span]] = {place: [] for place in places}
    watch(model, x, places, lambda place, value: seen[place].append(batch_span(value, share)))
    joined = {place: _join(found, share) for place, found in seen.items() if found}
    if rule != "coverage":
        histograms = {place: Histogram.empty(float(low), float(high)) for place, (low, high) in joined.items()}
        watch(model, x, places, lambda place, value: histograms[place].add(value.cpu()))
        joined = {place: histogram.span(rule, bits) for place, histogram in histograms.items()}
    return {p: s for (k, p), s in joined.items() if k == "out"}, {p: s for (k, p), s in joined.items() if k == "in"}


def watch(model: nn.Module, x: Tensor, places: list[Place], see: Callable[[Place, Tensor], None]) -> None:
    """Run the samples in batches and show every tensor at these places: a layer's first input, or its output."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def look(place: Place, value: Any) -> None:
        see(place, (value[0] if place[0] == "in" else value).detach())

    with watching(model, places, look), evaluating(model), torch.inference_mode():
        for part in x.split(BATCH):
            model(part.to(device))


def batch_span(values: Tensor, share: float) -> Span:
    """Lowest and highest value, or those that leave (1 - share) / 2 of the values outside at each end."""
    if share >= 1:
        return values.min().clone(), values.max().clone()
    flat = values.flatten().float()
    outside = round(flat.numel() * (1 - share) / 2)
    low = flat.kthvalue(outside + 1).values
    return low.clone(), flat.kthvalue(flat.numel() - outside).values.clone()


def _join(found: list[Span], share: float) -> Span:
    lows, highs = torch.stack([s[0] for s in found]), torch.stack([s[1] for s in found])
    return (lows.amin(), highs.amax()) if share >= 1 else (lows.mean(), highs.mean())

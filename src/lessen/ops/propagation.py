"""How the error of quantization arises in each layer, and what reaches the output.

Alone: one stage is quantized and reads exact values. Accumulated: everything is. At the output: one stage is quantized,
all behind it is exact, so what arrives is that stage's share of the damage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lessen.ops import layers, outliers
from lessen.ops import quantization as q
from lessen.ops.distortion import Sums
from lessen.ops.stages import Stage
from lessen.ops.watching import recorded

BATCH, NOTHING = 64, Sums()
Ends = Mapping[str, Tensor]  # path of a stage's last layer -> what it gives
PARTS = ("alone", "weights", "activations")


class Fit(NamedTuple):
    """How values sit in the range of a quantizer; of weights every row in its own.

    levels: different integers that occur (of weights in the median row). clipped: share of the values more than half a
    step outside the range. clip_noise: their share of the squared error. used: part of the range that the middle 99.9 %
    take.
    """

    bits: int
    levels: int
    clipped: float
    clip_noise: float
    used: float
    kurtosis: float
    sqnr_db: float


@dataclass
class Found:
    """One stage's errors, as sums over samples. output: of the model's output when only this stage is quantized."""

    stage: Stage
    alone: Sums = NOTHING
    weights: Sums = NOTHING  # alone, with its weights quantized and its activations exact
    activations: Sums = NOTHING
    accumulated: Sums = NOTHING
    output: Sums = NOTHING
    fits: dict[str, Fit] = field(default_factory=dict)  # "weights", "input", "output"


def fit(values: Tensor, found: Tensor, low: float, high: float, bits: int, levels: int) -> Fit:
    """Of values and what a quantizer with the range low to high makes of them.

    >>> fit(torch.tensor([0.0, 1.0, 4.0]), torch.tensor([0.0, 1.0, 3.0]), 0.0, 3.0, 2, 3)[2:4]
    (0.3333333333333333, 1.0)
    """
    x, y = values.detach().flatten().double(), found.detach().flatten().double()
    slack = (high - low) / (2**bits - 1) / 2  # so much is rounding, not clipping
    outside = (x < low - slack) | (x > high + slack)
    error = (x - y).square()
    total = float(error.sum())
    span = float(outliers.quantile(x, 0.9995) - outliers.quantile(x, 0.0005))
    return Fit(
        bits, levels, float(outside.double().mean()), float(error[outside].sum()) / total if total else 0.0,
        min(span / (high - low), 1.0) if high > low else 1.0, outliers.kurtosis(x), Sums.of(x, y).distortion().sqnr_db,
    )  # fmt: skip


def activation_fit(values: Tensor, quantizer: Any) -> Fit:
    """Of sampled values and a static quantizer, or one whose range is that of its values."""
    found = quantizer(values)
    low, high = float(values.min()), float(values.max())
    if isinstance(quantizer, layers.ActivationQuantizer):
        ends = q.limits(quantizer.bits, signed=False)
        low, high = (float((end - quantizer.zero) * quantizer.scale.detach()) for end in ends)
    return fit(values, found, low, high, quantizer.bits, len(found.unique()))


def weight_fit(layer: Any) -> Fit:
    """Of a layer's living weights, each row divided by the largest that its quantized form holds."""
    rows, found = layer.weight.detach().flatten(1), layer.wq(layer.weight.detach()).flatten(1)
    top = found.abs().amax(1, keepdim=True)
    top = torch.where(top > 0, top, 1.0)
    living = torch.ones_like(rows, dtype=torch.bool) if layer.mask is None else layer.mask.flatten(1)
    levels = torch.tensor([len(row.unique()) for row in found]).median()
    found = fit((rows / top)[living], (found / top)[living], -1.0, 1.0, layer.wq.bits, int(levels))
    plain = Sums.of(rows[living], layer.wq(layer.weight.detach()).flatten(1)[living]).distortion().sqnr_db
    return found._replace(sqnr_db=plain, kurtosis=outliers.kurtosis(rows[living]))


def quantized_stages(model: nn.Module, found: Sequence[Stage]) -> list[Stage]:
    """Those that hold a quantizer."""
    return [
        stage for stage in found
        if any(getattr(model.get_submodule(p), slot, None) is not None for p in stage for slot in layers.SLOTS)
    ]  # fmt: skip


def propagate(
    exact: nn.Module, quantized: nn.Module, stages: Sequence[Stage], x: Tensor, *,
    see: Callable[[Tensor, Ends, Ends], None] | None = None, progress: Callable[[float], None] = lambda share: None,
) -> tuple[list[Found], Sums, list[Tensor]]:  # fmt: skip
    """Errors of every stage over inputs x (n, ...), of the output, and the outputs of both.

    Both models are ours, in evaluation mode, and hold the same layers at the stages' paths. see: shown every batch and
    what the stages give in both models.
    """
    rows = [Found(stage) for stage in stages]
    made = {row.stage: _variants(exact, quantized, row.stage) for row in rows}
    values: dict[tuple[Stage, str], list[Tensor]] = {}
    whole, outputs = Sums(), []
    for n, part in enumerate(x.split(BATCH)):
        places = [("in", s[0]) for s in stages] + [("out", s[-1]) for s in stages]
        expected, seen = recorded(exact, part, places)
        got, theirs = recorded(quantized, part, places[len(stages) :])
        whole = whole.plus(Sums.of(expected, got))
        outputs.append((expected, got))
        for i, row in enumerate(rows):
            _add(row, made[row.stage], seen, theirs)
            _sample(values, row.stage, made[row.stage]["alone"], seen)
            with swapped(exact, quantized, row.stage), torch.inference_mode():
                row.output = row.output.plus(Sums.of(expected, exact(part)))
            progress((n + (i + 1) / len(rows)) * BATCH / len(x))
        if see is not None:
            see(part, *({s[-1]: found["out", s[-1]][-1] for s in stages} for found in (seen, theirs)))
    for row in rows:
        row.fits = _fits(row.stage, made[row.stage]["alone"], values)
    return rows, whole, [torch.cat(side) for side in zip(*outputs, strict=True)]


def output_error(exact: nn.Module, model: nn.Module, other: nn.Module, stage: Stage, x: Tensor) -> Sums:
    """Of `model`'s output against the exact one, with the layers of one stage taken from the other model."""
    found = Sums()
    with swapped(model, other, stage), torch.inference_mode():
        for part in x.split(BATCH):
            found = found.plus(Sums.of(exact(part), model(part)))
    return found


@contextmanager
def swapped(model: nn.Module, other: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """Within the block, the other model's layers stand at these paths."""
    own = {path: model.get_submodule(path) for path in paths}
    try:
        for path in paths:
            _put(model, path, other.get_submodule(path))
        yield
    finally:
        for path, module in own.items():
            _put(model, path, module)


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = module


def _variants(exact: nn.Module, quantized: nn.Module, stage: Stage) -> dict[str, list[nn.Module]]:
    """The stage's layers fully quantized, with quantized weights alone, and with quantized activations alone."""
    whole = [quantized.get_submodule(path) for path in stage]
    weights, activations = [copy.deepcopy(m) for m in whole], [copy.deepcopy(exact.get_submodule(p)) for p in stage]
    for weight, activation, module in zip(weights, activations, whole, strict=True):
        for slot in ("iq", "oq"):
            if slot in module._modules:
                weight._modules[slot], activation._modules[slot] = None, module._modules[slot]
    return dict(zip(PARTS, (whole, weights, activations), strict=True))


def _add(row: Found, made: dict[str, list[nn.Module]], seen: Any, theirs: Any) -> None:
    first, last = ("in", row.stage[0]), ("out", row.stage[-1])
    for arguments, expected, got in zip(seen[first], seen[last], theirs[last], strict=True):
        for part, chain in made.items():
            setattr(row, part, getattr(row, part).plus(Sums.of(expected, _run(chain, arguments))))
        row.accumulated = row.accumulated.plus(Sums.of(expected, got))


def _run(chain: Sequence[nn.Module], arguments: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode():
        value = chain[0](*arguments)
        for module in chain[1:]:
            value = module(value)
    return value


def _sample(values: dict[tuple[Stage, str], list[Tensor]], stage: Stage, chain: list[Any], seen: Any) -> None:
    """Keep some of the exact values that the stage's activation quantizers would read."""
    random = torch.Generator().manual_seed(0)
    read = {"input": (getattr(chain[0], "iq", None), seen["in", stage[0]][-1][0])}
    read["output"] = getattr(chain[-1], "oq", None), seen["out", stage[-1]][-1]
    for name, (quantizer, tensor) in read.items():
        if quantizer is not None:
            flat, most = tensor.flatten(), outliers.LIMIT // 8
            drawn = flat if len(flat) <= most else flat[torch.randint(len(flat), (most,), generator=random)]
            values.setdefault((stage, name), []).append(drawn)


def _fits(stage: Stage, chain: list[Any], values: dict[tuple[Stage, str], list[Tensor]]) -> dict[str, Fit]:
    found = {"weights": weight_fit(chain[0])} if getattr(chain[0], "wq", None) is not None else {}
    for name, quantizer in (("input", getattr(chain[0], "iq", None)), ("output", getattr(chain[-1], "oq", None))):
        if quantizer is not None:
            with torch.inference_mode():
                found[name] = activation_fit(torch.cat(values[stage, name]), quantizer)
    return found

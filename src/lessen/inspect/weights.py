"""The weights of several models layer by layer, laid over each other: histograms, zeros, channels.

Drawn are effective weights, mask * quantizer, so pruning and integer levels are seen. Layers are matched by path; two
low-rank factors count as the layer whose place they took, and their product is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lessen.ops import histograms, layers, lowrank, sparsity

BINS = 12, 60  # at least and at most
NEAR = 0.5  # standard deviations of the original around zero, which is called near zero


@dataclass(frozen=True)
class Held:
    """One layer in one model. Spread and counts are of weights that are not zero, as drawn.

    weights, zeros: as stored, both factors of a pair. near: share of the non-zero that are near zero. rank: of a pair,
    else 0. bits: of quantized weights, else 0.
    """

    channels: int
    inputs: int
    weights: int
    zeros: int
    sd: float
    near: float
    rank: int
    bits: int
    counts: tuple[int, ...]

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights

    @property
    def living(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class LayerRow:
    """A layer of the original (first) and of every other model; None where it has no counterpart."""

    path: str
    kind: str
    edges: tuple[float, ...]  # of the bins, the same for all
    held: tuple[Held | None, ...]


@dataclass(frozen=True)
class Comparison:
    """All layers of the original; extra: by model, paths that the original has not."""

    rows: tuple[LayerRow, ...]
    extra: tuple[tuple[str, ...], ...]

    def totals(self, model: int) -> tuple[int, int]:
        """Weights and zeros over all layers that have a counterpart."""
        found = [row.held[model] for row in self.rows]
        return sum(h.weights for h in found if h), sum(h.zeros for h in found if h)

    def missing(self, model: int) -> tuple[str, ...]:
        return tuple(row.path for row in self.rows if row.held[model] is None)

    def kinds(self) -> dict[str, tuple[float, ...]]:
        """Sort of layer -> its sparsity in every model; NaN where no such layer is left."""
        found = {}
        for kind in dict.fromkeys(row.kind for row in self.rows):
            columns = zip(*(row.held for row in self.rows if row.kind == kind), strict=True)
            found[kind] = tuple(share_of_zeros([h for h in column if h]) for column in columns)
        return found


def share_of_zeros(held: Sequence[Held]) -> float:
    """Over layers; NaN without any."""
    return sum(h.zeros for h in held) / sum(h.weights for h in held) if held else math.nan


def compare(models: Sequence[nn.Module]) -> Comparison:
    """Models of our own layers, the original first."""
    placed = [_places(model) for model in models]
    rows = tuple(_row(path, [p.get(path) for p in placed]) for path in placed[0])
    return Comparison(rows, tuple(tuple(path for path in p if path not in placed[0]) for p in placed))


def _places(model: nn.Module) -> dict[str, lowrank.Target]:
    """Layers by path, a pair of factors as one, in the model's order."""
    found, _ = lowrank.targets(model)
    pairs = {t.path: t for t in found if t.second is not None}
    inside = {id(layer): path for path, t in pairs.items() for layer in (t.first, t.second)}
    placed: dict[str, lowrank.Target] = {}
    for path, layer in layers.weighted(model).items():
        pair = inside.get(id(layer))
        placed[pair or path] = pairs[pair] if pair else lowrank.Target(path, layer, layer, None)
    return placed


def _row(path: str, found: Sequence[lowrank.Target | None]) -> LayerRow:
    drawn = [None if t is None else _values(t) for t in found]
    first, original = found[0], drawn[0]
    assert first is not None and original is not None
    edges = tuple(histograms.edges([v for v in drawn if v is not None], _bins(original.numel())))
    band = NEAR * _sd(original)
    held = tuple(
        None if t is None or v is None else _held(t, v, edges, band) for t, v in zip(found, drawn, strict=True)
    )
    return LayerRow(path, sparsity.kind(first.last if first.second is None else first.first), edges, held)


def _bins(n: int) -> int:
    """Rice's rule for n weights, within bounds."""
    return min(max(BINS[0], round(2 * n ** (1 / 3))), BINS[1])


def _values(target: lowrank.Target) -> Tensor:
    return target.first.effective_weight().detach().double() if target.second is None else target.matrix()


def _held(target: lowrank.Target, values: Tensor, edges: Sequence[float], band: float) -> Held:
    parts = [target.first] if target.second is None else [target.first, target.second]
    stored = [part.effective_weight().detach() for part in parts]
    living = values[values != 0]
    near = float((living.abs() < band).double().mean()) if len(living) else math.nan
    return Held(
        len(target.last.weight), inputs(target.first), sum(w.numel() for w in stored),
        sum(int((w == 0).sum()) for w in stored), _sd(values), near, len(target.first.weight) if target.second else 0,
        target.first.wq.bits if target.first.wq is not None else 0, tuple(histograms.counts(values, edges)),
    )  # fmt: skip


def inputs(layer: layers.Conv2d | layers.Linear) -> int:
    """Channels or features that the layer reads."""
    return layer.in_channels if isinstance(layer, layers.Conv2d) else layer.in_features


def _sd(values: Tensor) -> float:
    """Standard deviation of what is not zero, around its mean; 0 for fewer than two values."""
    living = values[values != 0]
    return float(living.double().std(correction=0)) if len(living) > 1 else 0.0


def notes(names: Sequence[str], found: Comparison) -> list[str]:
    """What has no counterpart, and what was matched although it was split or narrowed."""
    said = []
    for i, name in list(enumerate(names))[1:]:
        pairs = [(row.held[0], row.held[i]) for row in found.rows]
        both = [(a, b) for a, b in pairs if a and b]
        parts = {
            "narrowed": sum((b.channels, b.inputs) < (a.channels, a.inputs) for a, b in both),
            "in two low-rank factors, drawn as their product": sum(b.rank > 0 and not a.rank for a, b in both),
        }
        said += [f"{name}: {n} of {len(found.rows)} layers are {text}." for text, n in parts.items() if n]
        lists: Mapping[str, Sequence[str]] = {
            "has no counterpart of": found.missing(i), "has layers that the original has not:": found.extra[i],
        }  # fmt: skip
        said += [f"{name} {text} {', '.join(paths)}." for text, paths in lists.items() if paths]
    return said

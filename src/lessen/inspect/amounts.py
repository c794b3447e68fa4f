"""What remains of a model under every choice of ratios: weights, stored bytes, channels; as tables for an allocation.

Exact: a weight that loses rows with its own group and columns with the group before keeps the product of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from lessen.analyze.allocation import Term, kept
from lessen.inspect.bits import stored
from lessen.inspect.findings import CLIPPING
from lessen.inspect.sites import Site
from lessen.inspect.weights import inputs
from lessen.ops import layers, lowrank, sparsity
from lessen.ops.cost import value_bits


@dataclass(frozen=True)
class Amount:
    """`total` now; under a choice `fixed` plus the terms. Option 0 is the layer as it is."""

    total: float
    fixed: float
    terms: tuple[Term, ...]

    def share(self, choice: Sequence[int]) -> float:
        """What remains, as a share of what is there now."""
        return (self.fixed + kept(self.terms, choice)) / self.total

    def most(self, share: float) -> float:
        """The bound on the terms' sum under which at most this share remains."""
        return share * self.total - self.fixed


def amounts(model: nn.Module, kind: str, sites: Sequence[Site], ratios: Sequence[float]) -> dict[str, Amount]:
    """Unit ("weights", "bytes", "channels") -> amount; every site may also stay as it is, which is option 0.

    weights: of all convolution and linear layers. bytes: of all parameters as stored, before the file is compressed.
    channels: of the groups that can be cut, coupled ones counted once. Clipping removes nothing.
    """
    if kind in CLIPPING:
        return {}
    options = (0.0, *ratios)
    if kind == "channels":
        return _of_channels(model, sites, options)
    real = layers.weighted(model)
    ranked = {t.path: t for t in lowrank.targets(model)[0]}
    weights, kept_bytes = [], []
    for i, site in enumerate(sites):
        layer = real[site.paths[0]]
        rows = [_left(kind, layer, ranked.get(site.paths[0]), r) for r in options]
        weights.append(Term((i,), np.array([w for w, _ in rows], float)))
        kept_bytes.append(Term((i,), np.array([b / 8 for _, b in rows])))
    dense = sum(layer.weight.numel() for layer in real.values())
    now = {
        "weights": sum(real[s.paths[0]].weight.numel() for s in sites),
        "bytes": sum(lowrank.bits(ranked[s.paths[0]]) if kind == "rank" else _bits(real[s.paths[0]]) for s in sites)
        / 8,
    }
    found = {"bytes": Amount(_stored(model), _stored(model) - now["bytes"], tuple(kept_bytes))}
    if kind != "bits":  # fewer bits leave every weight
        found["weights"] = Amount(dense, dense - now["weights"], tuple(weights))
    return found


def _stored(model: nn.Module) -> float:
    """Bytes of all parameters as stored."""
    named = (item for m in model.modules() for item in [(m, *p) for p in m.named_parameters(recurse=False)])
    return sum(value_bits(*item) for item in named) / 8


def _bits(layer: Any) -> int:
    return value_bits(layer, "weight", layer.weight)


def _left(kind: str, layer: Any, target: lowrank.Target | None, ratio: float) -> tuple[float, float]:
    """Weights and bits of one layer at a ratio."""
    if kind == "bits":
        return layer.weight.numel(), stored(layer, ratio)
    return _sparse(layer, ratio) if kind == "prune" or target is None else _factored(target, ratio)


def _sparse(layer: Any, ratio: float) -> tuple[float, float]:
    """Non-zero weights and bits: packed values with a bitmask, or dense where that is smaller."""
    n = layer.weight.numel()
    pruned = 0 if layer.mask is None else int((~layer.mask).sum())
    living = n - (sparsity.zero_count(n, ratio, pruned) if ratio else pruned)
    return living, min(_bits(layer), n + living * _bits(layer) // n)


def _factored(target: lowrank.Target, ratio: float) -> tuple[float, float]:
    """Weights and bits at that rank; the layer as it is where factors would not save."""
    m, n = target.matrix().shape
    r = max(1, round(min(m, n) * (1 - ratio)))
    if not ratio or not lowrank.saves(target, r):
        return m * n, lowrank.bits(target)
    return r * (m + n), lowrank.bits(target, r)


def _of_channels(model: nn.Module, sites: Sequence[Site], options: Sequence[float]) -> dict[str, Amount]:
    real = layers.weighted(model)
    left = [np.array([max(1, round(s.width * (1 - o))) if o else s.width for o in options]) / s.width for s in sites]
    rows: dict[str, list[tuple[int, int]]] = {}  # path -> (site, length) along axis 0, and along axis 1
    columns: dict[str, list[tuple[int, int]]] = {}
    for i, site in enumerate(sites):
        for path, axis, length in site.segments:
            (columns if axis else rows).setdefault(path, []).append((i, length))
    weights: list[Term] = []
    kept_bytes: list[Term] = []
    for path, layer in real.items():
        out, inn = _shares(rows, path, len(layer.weight)), _shares(columns, path, inputs(layer))
        for (i, a), (j, b) in ((x, y) for x in out for y in inn):
            term = _product(left, layer.weight.numel() * a * b, i, j)
            weights.append(term)
            kept_bytes.append(Term(term.layers, term.table * (_bits(layer) / layer.weight.numel() / 8)))
    for path, parts in rows.items():
        for i, length in parts:
            kept_bytes.append(Term((i,), left[i] * length * 4 * _vectors(model.get_submodule(path))))
    width = [Term((i,), left[i] * site.width) for i, site in enumerate(sites)]
    return {
        "weights": _whole(weights, sum(layer.weight.numel() for layer in real.values())),
        "bytes": _whole(kept_bytes, _stored(model)),
        "channels": _whole(width, sum(site.width for site in sites)),
    }


def _shares(segments: dict[str, list[tuple[int, int]]], path: str, length: int) -> list[tuple[int, float]]:
    """(site, share) along one axis of a weight; the share of site -1 stays."""
    found = [(i, part / length) for i, part in segments.get(path, ())]
    rest = 1 - sum(share for _, share in found)
    return [*found, (-1, rest)] if rest > 1e-9 else found


def _product(left: Sequence[Any], n: float, i: int, j: int) -> Term:
    if i < 0 and j < 0:
        return Term((), np.array(n))
    if i < 0 or j < 0:
        return Term((max(i, j),), n * left[max(i, j)])
    if i == j:
        return Term((i,), n * left[i] ** 2)
    return Term((i, j), n * np.outer(left[i], left[j]))


def _whole(terms: Sequence[Term], total: float) -> Amount:
    """Terms without a layer, and what no term counts, are fixed."""
    free = [t for t in terms if t.layers]
    return Amount(total, total - sum(float(t.table.flat[0]) for t in free), tuple(free))


def _vectors(module: nn.Module) -> int:
    """Parameters with one value a channel: bias, and a norm's weight."""
    return sum(p is not None and p.dim() == 1 for p in module._parameters.values())

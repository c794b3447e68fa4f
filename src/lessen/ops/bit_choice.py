"""How many bits does each layer get? Those with the smallest summed loss whose file stays within a budget, exactly.

A layer's loss at some bits is its curvature times the squared error of its rounded weights (HAWQ-v2, arXiv:1911.03852).
Tables that files unpack 2-bit codes with are there once for all layers, so the choice is solved for every set of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn

from lessen.analyze.allocation import Term, allocate
from lessen.ops import calibration, file_bytes, layers, ranges
from lessen.ops.curvature import Curvature
from lessen.ops.file_bytes import Size
from lessen.ops.graph import ends, flat_readers, norm_pairs

ENDS = 8  # bits of the first and the last layer where these get more

Layer = layers.Conv2d | layers.Linear


@dataclass(frozen=True)
class Option:
    """What a layer would be at so many bits. stored: bits of a weight in the file."""

    bits: int
    stored: int
    loss: float
    size: Size


def table(
    model: nn.Module, curvature: Mapping[str, Curvature], hand: Mapping[str, int], offered: Sequence[int], *,
    integer: bool, rule: calibration.Rule, share: float,
) -> list[list[Option]]:  # fmt: skip
    """A row of options for every layer in the model's order; `hand` leaves a layer one. integer: of activations."""
    normed, flat = set(norm_pairs(model).values()), flat_readers(model)
    integer = integer or file_bytes.in_integers(model)
    return [
        options(
            layer, path, curvature[path], offered=(hand[path],) if path in hand else offered, integer=integer,
            normed=path in normed, flat=path in flat, rule="percentile" if rule == "coverage" else rule, share=share,
        )[-1 if path in hand else 0 :]
        for path, layer in layers.weighted(model).items()
    ]  # fmt: skip


def options(
    layer: Layer, path: str, curvature: Curvature, *, offered: Sequence[int], integer: bool, normed: bool,
    flat: bool, rule: ranges.Rule, share: float,
) -> list[Option]:  # fmt: skip
    """The layer at every number of bits that is offered; one that has few already may also keep them."""
    before = layer.effective_weight().detach()
    found = []
    for quantizer in candidates(layer, offered, rule, share):
        after = quantizer(layer.weight.detach())
        error = (after if layer.mask is None else after * layer.mask) - before
        size = file_bytes.of_layer(path, layer, quantizer, integer=integer, normed=normed, flat=flat)
        found.append(Option(quantizer.bits, quantizer.stored_bits, curvature.loss(error), size))
    return found


@torch.no_grad()
def candidates(layer: Layer, offered: Sequence[int], rule: ranges.Rule, share: float) -> list[Any]:
    """The quantizer that the layer has, unless it has more than any that is offered, and new ones of fewer bits."""
    standing = [] if layer.wq is None or layer.wq.bits > max(offered) else [layer.wq]
    fewer = [bits for bits in sorted(offered, reverse=True) if layer.wq is None or bits < layer.wq.bits]
    return standing + [fitted(layer, bits, rule, share) for bits in fewer]


def fitted(layer: Layer, bits: int, rule: ranges.Rule, share: float) -> Any:
    """A new quantizer of so many bits for the layer's weights."""
    if bits == 16:
        return layers.HalfQuantizer.fitting(layer)
    return layers.WeightQuantizer.fitting(layer, bits, rule=rule, share=share)


def within_bytes(rows: Sequence[Sequence[Option]], fixed: int, most: float) -> list[int] | None:
    """One option a layer: the smallest summed loss of all choices whose file has at most so many bytes.

    Of equal losses the smaller file. None where every choice is larger.
    """
    found: list[tuple[float, int, list[int]]] = []
    for tables in _sets(rows):
        allowed = [[i for i, o in enumerate(row) if o.size.tables <= tables] for row in rows]
        if not all(allowed):
            continue
        part = [[row[i] for i in some] for row, some in zip(rows, allowed, strict=True)]
        left = most - fixed - sum(file_bytes.TABLES[t] for t in tables)
        picked = _solve(part, [[o.size.bytes for o in row] for row in part], left)
        if picked is not None:
            choice = [some[i] for some, i in zip(allowed, picked, strict=True)]
            found.append((objective(rows, choice), size(rows, choice, fixed), choice))
    return min(found)[2] if found else None


def within_bits(rows: Sequence[Sequence[Option]], weights: Sequence[int], most: float) -> list[int] | None:
    """One option a layer: the smallest summed loss at which a weight has at most so many bits on average."""
    stored = [[o.stored * n for o in row] for row, n in zip(rows, weights, strict=True)]
    return _solve(rows, stored, most * sum(weights))


def smallest(rows: Sequence[Sequence[Option]], fixed: int) -> int:
    """Bytes of the smallest file that any choice makes."""
    every = []
    for tables in _sets(rows):
        part = [[o.size.bytes for o in row if o.size.tables <= tables] for row in rows]
        if all(part):
            every.append(fixed + sum(map(min, part)) + sum(file_bytes.TABLES[t] for t in tables))
    return min(every)


def objective(rows: Sequence[Sequence[Option]], choice: Sequence[int]) -> float:
    """The summed loss of a choice."""
    return sum(row[i].loss for row, i in zip(rows, choice, strict=True))


def size(rows: Sequence[Sequence[Option]], choice: Sequence[int], fixed: int) -> int:
    """Bytes of the file under a choice."""
    return file_bytes.total(fixed, [row[i].size for row, i in zip(rows, choice, strict=True)])


def average(rows: Sequence[Sequence[Option]], choice: Sequence[int], weights: Sequence[int]) -> float:
    """Bits of a weight in the file, on average."""
    stored = sum(row[i].stored * n for row, i, n in zip(rows, choice, weights, strict=True))
    return stored / max(1, sum(weights))


def first_and_last(model: nn.Module, bits: int) -> Mapping[str, int]:
    """The convention of papers: the layers that compute first and last at 8 bits or more, those between at `bits`."""
    outer = ends(model)
    return {path: max(ENDS, bits) if path in outer else bits for path in layers.weighted(model)}


def _sets(rows: Sequence[Sequence[Option]]) -> list[frozenset[str]]:
    """Every set of tables that some options need."""
    known = sorted(frozenset().union(*(o.size.tables for row in rows for o in row)))
    return [frozenset(some) for n in range(len(known) + 1) for some in combinations(known, n)]


def _solve(rows: Sequence[Sequence[Option]], amounts: Sequence[Sequence[float]], most: float) -> list[int] | None:
    terms = [Term((i,), np.array(row, float)) for i, row in enumerate(amounts)]
    return allocate([[o.loss for o in row] for row in rows], terms, most, amounts)

"""What a scan changes, one place at a time: a layer's weights, their bits or range, coupled channels, a rank.

A change is a list of edits, tensors or a quantizer put into a layer's slots for a while. Removed channels are
simulated: every layer that reads them gets a mask over those inputs, which is what the cut model computes, except
behind a layer norm (its mean still counts them). A lower rank is simulated by the product of the two factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.inspect import bits
from lessen.ops import channel_groups, channel_scores, channels, layers, lowrank, sparsity

Layer = layers.Conv2d | layers.Linear
STORES = {"mask": "_buffers", "weight": "_parameters", "oq": "_modules"}


class Edit(NamedTuple):
    """A tensor for the slot "weight" or "mask" of a layer, or a module for its slot "oq"."""

    layer: Layer
    slot: str
    value: Any


class Segment(NamedTuple):
    """`length` of a weight's rows (axis 0) or columns (axis 1), or of a norm's entries, that leave with a group."""

    path: str
    axis: int
    length: int


@dataclass(frozen=True)
class Site:
    """One row of a scan. paths: the layers it names; touched: those that edits change; width: channels of a group."""

    paths: tuple[str, ...]
    touched: tuple[str, ...]
    edits: Callable[[float], list[Edit]]
    width: int = 0
    segments: tuple[Segment, ...] = ()


def joined(edits: Iterable[Edit]) -> list[Edit]:
    """Edits of many sites as one a slot: masks of one layer hold together."""
    found: dict[tuple[Layer, str], Any] = {}
    for layer, slot, value in edits:
        before = found.get((layer, slot))
        found[layer, slot] = value if before is None else value & before
    return [Edit(*key, value) for key, value in found.items()]


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[None]:
    """Within the block the layers have these tensors; afterwards the very objects that they had before."""
    stores: list[Any] = [getattr(e.layer, STORES[e.slot]) for e in edits]
    before = [store[e.slot] for store, e in zip(stores, edits, strict=True)]
    try:
        for store, edit in zip(stores, edits, strict=True):
            store[edit.slot] = nn.Parameter(edit.value, requires_grad=False) if edit.slot == "weight" else edit.value
        yield
    finally:
        for store, edit, value in zip(stores, edits, before, strict=True):
            store[edit.slot] = value


def sites(model: nn.Module, kind: str, sample: Tensor) -> tuple[list[Site], list[str]]:
    """All places of a kind in a model of our layers, in its order, and notes on what is left out and why.

    Errors: Refused when there is none.
    """
    from lessen.inspect import clipping

    find = {
        "prune": _weights, "channels": _channels, "rank": _ranks, "bits": bits.find,
        "clip_weights": clipping.weights, "clip_outputs": clipping.outputs,
    }[kind]  # fmt: skip
    found, notes = find(model, sample)
    if not found:
        raise Refused(
            f"the scan '{kind}' finds nothing to change in this model"
            + (f" ({'; '.join(notes)})" if notes else ": it has no convolution or linear layer")
            + "; give a model with convolution or linear layers that can be cut"
        )
    order = {path: i for i, path in enumerate(layers.weighted(model))}
    return sorted(found, key=lambda site: order.get(site.paths[0], 0)), notes


def _weights(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    def site(path: str, layer: Layer) -> Site:
        return Site(
            (path,), (path,), lambda ratio: [Edit(layer, "mask", sparsity.layer_masks({path: layer}, ratio)[path])]
        )

    return [site(*item) for item in layers.weighted(model).items()], []


def _ranks(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    targets, fixed = lowrank.targets(model)
    notes = {
        **fixed,
        "factored already": [t.path for t in targets if t.second is not None],
        "sparse, and factors of a sparse matrix are dense": [t.path for t in targets if t.masked()],
    }
    left = {path for paths in notes.values() for path in paths}
    said = [f"left out, {reason}: {', '.join(paths)}" for reason, paths in notes.items() if paths]
    return [_rank(t) for t in targets if t.path not in left], said


def _rank(target: lowrank.Target) -> Site:
    known: list[tuple[Tensor, Tensor]] = []  # the matrix and its singular vectors, computed once a scan

    def edits(ratio: float) -> list[Edit]:
        if not known:
            known.append(_singular_vectors(target.matrix()))
        matrix, u = known[0]
        kept = u[:, : max(1, round(len(u.T) * (1 - ratio)))]
        low = kept @ (kept.T @ matrix) if len(kept) == len(matrix) else (matrix @ kept) @ kept.T
        weight = target.first.weight
        return [Edit(target.first, "weight", low.reshape(weight.shape).to(weight))]

    return Site((target.path,), (target.path,), edits)


def _singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix and its singular vectors of the shorter side, largest first.

    From the small Gram matrix in float64: the projection on them is the truncated SVD, at a tenth of its price.
    """
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return matrix, torch.linalg.eigh(gram).eigenvectors.flip(1)


def _channels(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    shadow, _, groups, stay = channels.coupled(model, sample)
    scores = channel_scores.scores(shadow, groups, "l2", None)
    found = [_group(g, s, model) for g, s in zip(groups, scores, strict=True) if s is not None]
    notes = [f"left whole, {reason}: {', '.join(sorted(paths))}" for reason, paths in stay.items()]
    kinds = {path: type(module) for path, module in model.named_modules()}
    normed = [s.paths[0] for s in found if any(issubclass(kinds[p.path], nn.LayerNorm) for p in s.segments)]
    if normed:
        notes.append(f"approximate, a layer norm still counts masked channels: {', '.join(normed)}")
    return found, notes


def _group(group: channel_groups.Coupled, scores: Tensor, model: nn.Module) -> Site:
    real = layers.weighted(model)
    readers = [m for m in group.members if m.role == "in"]

    def edits(ratio: float) -> list[Edit]:
        gone = torch.tensor(channels.lowest(scores, max(1, round(group.n * (1 - ratio)))), dtype=torch.long)
        unread: dict[str, list[int]] = {}
        for m in readers:
            unread.setdefault(m.path, []).extend(m.at[torch.isin(m.unit, gone)].tolist())
        return [Edit(real[p], "mask", _without(real[p], inputs)) for p, inputs in unread.items()] if len(gone) else []

    named = tuple(sorted(set(group.producers), key=list(real).index))
    segments = tuple(Segment(m.path, int(m.role == "in"), len(m.at)) for m in group.members if m.role != "bare")
    return Site(named, tuple({m.path: None for m in readers}), edits, group.n, segments)


def _without(layer: Layer, inputs: Sequence[int]) -> Tensor:
    """The layer's mask joined with zeros over these input channels, numbered over all groups."""
    mask = torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask.clone()
    groups = layer.groups if isinstance(layer, layers.Conv2d) else 1
    split = mask.view(groups, len(mask) // groups, *mask.shape[1:])
    each = mask.shape[1]
    for channel in inputs:
        split[channel // each, :, channel % each] = False
    return mask

"""Features of several models on the same images: which layers see alike (CKA), and where their energy lies.

An attention map is the sum of squares over a layer's channels, of length 1 (Zagoruyko & Komodakis 2017,
arXiv:1612.03928), taken at the last layer of every size of map. Such maps of a model are alike whatever the image, by
edges and by what all images share; so they are compared without each model's mean map as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lessen.ops import bootstrap, cka, gradcam, layers, similarity
from lessen.ops.bootstrap import Estimate
from lessen.ops.devices import device_of
from lessen.ops.stages import stages
from lessen.ops.watching import first_view, recorded

BATCH = 64
MOST = 12  # layers of a model in the heat map
PICTURES = 4
HEAD, BEFORE = "logits", "before the classifier"

Size = tuple[int, int]  # of a map


class Seen(NamedTuple):
    """By model, the original first: logits (n, classes), watched layers in order, and maps (n, h, w) by size.

    hsics: of every batch, the original's layers with each model's.
    """

    logits: list[Tensor]
    paths: list[tuple[str, ...]]
    ends: list[dict[Size, str]]
    maps: list[dict[Size, Tensor]]
    hsics: list[list[cka.Hsics]]


@dataclass(frozen=True)
class Match:
    """One place in all models: the layers there, their CKA with the original's, and the first one's less each other's.

    paths, cka: by model, None where it has no such place. differences: by model from the third on.
    """

    place: str
    paths: tuple[str | None, ...]
    cka: tuple[Estimate | None, ...]
    differences: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Aligned:
    """CKA of the original's layers (rows) with those of every model (columns), the original's own first."""

    paths: tuple[tuple[str, ...], ...]
    matrices: tuple[tuple[tuple[float, ...], ...], ...]
    matches: tuple[Match, ...]
    unmatched: tuple[tuple[str, ...], ...]  # by model: sizes of the original's maps that it does not have


@dataclass(frozen=True)
class Attention:
    """Maps of one size. cosine: of every model's with the original's; control: the original's of another image.

    moved: the same of the maps less each model's mean map, which says what an image adds; its control is near 0.
    values: those cosines by model and image. All by model are None where it has no such map.
    """

    size: Size
    paths: tuple[str | None, ...]
    cosine: tuple[Estimate | None, ...]
    control: Estimate
    moved: tuple[Estimate | None, ...]
    moved_control: Estimate
    values: tuple[tuple[float, ...] | None, ...]


@dataclass(frozen=True)
class Picture:
    """One image and every model's map of every size, each between 0 and 1; None where it has none."""

    index: int  # in validation
    label: int
    image: np.ndarray  # (c, h, w) uint8
    maps: tuple[tuple[np.ndarray | None, ...], ...]  # by size, by model


def watched(model: nn.Module, ends: Iterable[str]) -> tuple[str, ...]:
    """The ends of the stages in which the model computes: at most 12, evenly drawn, and the named ends with them."""
    found = tuple(dict.fromkeys(stage[-1] for stage in stages(model)))
    count = min(MOST, len(found))
    chosen = {found[round(i * (len(found) - 1) / max(1, count - 1))] for i in range(count)} | {*found[-2:], *ends}
    return tuple(path for path in found if path in chosen)


def look(models: Sequence[nn.Module], inputs: Callable[[Tensor], Tensor], x: Tensor) -> Seen:
    """Run all private models on images x as stored, batch by batch, so that no features are kept."""
    known = [gradcam.sizes(m, inputs(x[:1]).to(device_of(m))) for m in models]
    ends = [_ends(m, sizes) for m, sizes in zip(models, known, strict=True)]
    paths = [watched(m, e.values()) for m, e in zip(models, ends, strict=True)]
    logits: list[list[Tensor]] = [[] for _ in models]
    maps: list[dict[Size, list[Tensor]]] = [{size: [] for size in e} for e in ends]
    hsics: list[list[cka.Hsics]] = [[] for _ in models]
    for part in x.tensor_split(math.ceil(len(x) / BATCH)):
        features: list[list[Tensor]] = []
        for i, model in enumerate(models):
            places = [("out", path) for path in dict.fromkeys((*paths[i], *ends[i].values()))]
            out, seen = recorded(model, inputs(part.to(device_of(model))), places)
            logits[i].append(out.cpu())
            shown = {path: first_view(values[-1], len(part)) for (_, path), values in seen.items()}
            features.append([shown[path].cpu() for path in paths[i]])
            for size, path in ends[i].items():
                maps[i][size].append(shown[path].double().square().sum(1).float().cpu())
            hsics[i].append(cka.Hsics.of(features[0], features[i]))
    joined = [{size: torch.cat(found) for size, found in m.items()} for m in maps]
    return Seen([torch.cat(parts) for parts in logits], paths, ends, joined, hsics)


def _ends(model: nn.Module, sizes: dict[str, Size]) -> dict[Size, str]:
    """The last single layer of every size of map that has more than one place, large first."""
    single = [p for p in sizes if min(sizes[p]) > 1 and isinstance(model.get_submodule(p), layers._Site)]
    found = {sizes[path]: path for path in single}
    return dict(sorted(found.items(), reverse=True))


def align(seen: Seen) -> Aligned:
    """CKA of everything with the original's layers, with jackknife intervals where places match."""
    whole = [cka.matrix(*batches) for batches in seen.hsics]
    without = [cka.left_out(*batches) for batches in seen.hsics]
    places = [_places(paths, ends) for paths, ends in zip(seen.paths, seen.ends, strict=True)]
    return Aligned(
        tuple(seen.paths), tuple(tuple(map(tuple, m.tolist())) for m in whole),
        tuple(_match(name, places, seen.paths, whole, without) for name in places[0]),
        tuple(tuple(name for name in places[0] if name not in own) for own in places),
    )  # fmt: skip


def _places(paths: tuple[str, ...], ends: dict[Size, str]) -> dict[str, str]:
    """Places that models may share, by name: the last watched layer of each size of map, and both ends of the head."""
    found = {f"{h}x{w}": path for (h, w), path in ends.items() if path in paths}
    *_, before, last = ("", *paths)
    if before and before not in found.values():
        found[BEFORE] = before
    return found | {HEAD: last}


def _match(
    name: str, places: list[dict[str, str]], paths: list[tuple[str, ...]], whole: list[Tensor], without: list[Tensor]
) -> Match:
    row = paths[0].index(places[0][name])
    values: list[tuple[Tensor, Tensor] | None] = [
        (whole[i][row, k], without[i][row, k]) if (k := _column(places[i], paths[i], name)) is not None else None
        for i in range(len(paths))
    ]
    first = values[1] if len(values) > 1 else None
    gaps = [(first[0] - v[0], first[1] - v[1]) if first and v else None for v in values[2:]]
    return Match(
        name, tuple(own.get(name) for own in places), tuple(map(_estimate, values)), tuple(map(_estimate, gaps))
    )


def _column(places: dict[str, str], paths: tuple[str, ...], name: str) -> int | None:
    return paths.index(places[name]) if name in places else None


def _estimate(value: tuple[Tensor, Tensor] | None) -> Estimate | None:
    if value is None:
        return None
    low, high = cka.jackknife(*value)
    return Estimate(float(value[0]), float(low), float(high), value[1].shape[-1])


def attend(seen: Seen, seed: int) -> tuple[tuple[Attention, ...], list[list[Tensor | None]]]:
    """Likeness of the maps of every size, and the maps (n, h, w) in 0 to 1 by size and model."""
    found, drawn = [], []
    for size in seen.maps[0]:
        own = [m.get(size) for m in seen.maps]
        cosine, control = _cosines(own, seed)
        moved, moved_control = _cosines([m if m is None else _moved(m) for m in own], seed)
        found.append(Attention(
            size, tuple(e.get(size) for e in seen.ends), tuple(c if c is None else bootstrap.mean(c) for c in cosine),
            bootstrap.mean(control), tuple(c if c is None else bootstrap.mean(c) for c in moved),
            bootstrap.mean(moved_control), tuple(c if c is None else tuple(c.tolist()) for c in moved),
        ))  # fmt: skip
        drawn.append([None if m is None else similarity.unit(m) for m in own])
    return tuple(found), drawn


def _cosines(maps: Sequence[Tensor | None], seed: int) -> tuple[list[Tensor | None], Tensor]:
    """Of every model's maps with the original's, and of the original's with those of other images: (n,) each."""
    first = maps[0]
    assert first is not None  # sizes are the original's
    others = first[_others(len(first), seed)]
    return [None if m is None else similarity.cosine(first, m) for m in maps], similarity.cosine(first, others)


def _moved(maps: Tensor) -> Tensor:
    """Maps (n, h, w) of length 1, less their mean."""
    unit = maps / maps.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    return unit - unit.mean(0)


def _others(n: int, seed: int) -> Tensor:
    """For every image another one."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def pictures(
    x: Tensor, y: Tensor, index: Sequence[int], maps: Sequence[Sequence[Tensor | None]], seed: int
) -> tuple[Picture, ...]:
    """Images drawn by chance, the same as those of Grad-CAM."""
    chance = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:PICTURES].tolist()
    return tuple(
        Picture(int(index[i]), int(y[i]), x[i].numpy(),
                tuple(tuple(None if m is None else m[i].numpy() for m in of) for of in maps))
        for i in chance
    )  # fmt: skip

"""Where several models look, and what they answer, on the same images: Grad-CAM and predictions side by side.

All maps are of the class that the original predicts. A map's scale means nothing, so SSIM compares maps that were each
divided by their largest value. What the numbers mean is told by a control: the original's map of another image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lessen.analyze.statistics import wilson
from lessen.core.errors import Refused
from lessen.core.run import silent
from lessen.inspect.findings import percent
from lessen.ops import bootstrap, gradcam, similarity
from lessen.ops.bootstrap import Estimate
from lessen.ops.devices import device_of

BATCH = 64
ROWS = 6  # pictures drawn by chance, and as many where the maps differ most
LISTED = 8  # layers that an error names


@dataclass(frozen=True)
class Likeness:
    """One model and the original on the same images. blank: images whose map is all zero in this model.

    cosine, ssim: of the maps, over images where neither is blank. agreement: share with the same top class.
    """

    layer: str
    side: tuple[int, int]
    blank: int
    right: float
    agreement: Estimate
    kl: Estimate
    js: Estimate
    cosine: Estimate
    ssim: Estimate


@dataclass(frozen=True)
class Picture:
    """One image and every model's map of it, each between 0 and 1, with class and probability."""

    index: int  # in validation
    chosen: str  # "chance" or "differs"
    label: int
    image: np.ndarray  # (c, h, w) uint8
    maps: np.ndarray  # (models, h, w)
    classes: tuple[int, ...]
    shares: tuple[float, ...]
    cosine: tuple[float, ...]


@dataclass(frozen=True)
class Views:
    """All models, the original first. values: by measure, (models, images); control: of the original's own maps."""

    images: int
    likeness: tuple[Likeness, ...]
    control: dict[str, Estimate]
    pictures: tuple[Picture, ...]
    values: dict[str, list[list[float]]]
    index: tuple[int, ...]
    notes: tuple[str, ...]


def layers_for(models: Sequence[nn.Module], names: Sequence[str], sample: Tensor, at: str) -> tuple[list[str], list]:
    """Every model's layer for Grad-CAM and its sizes: `at`, or the original's deepest of at least 8 x 8.

    A model that lacks the latter takes its own deepest. Errors: Refused with the layers that serve and their sizes.
    """
    known = [gradcam.sizes(model, sample.to(device_of(model))) for model in models]
    wanted = at or gradcam.deepest(models[0], known[0])
    found = []
    for model, name, sizes in zip(models, names, known, strict=True):
        serves = min(sizes.get(wanted, (0, 0))) >= gradcam.SMALLEST
        path = wanted if serves or at else gradcam.deepest(model, sizes)
        if not path or not (serves or path != wanted):
            raise Refused(_refusal(name, at, sizes))
        found.append(path)
    return found, [sizes[path] for sizes, path in zip(known, found, strict=True)]


def _refusal(name: str, at: str, sizes: dict[str, tuple[int, int]]) -> str:
    side = gradcam.SMALLEST
    serve = [f"{path} {h}x{w}" for path, (h, w) in sizes.items() if min(h, w) >= side]
    more = f" and {len(serve) - LISTED} before them" if len(serve) > LISTED else ""
    known = f"take one of: {', '.join(serve[-LISTED:])}{more}" if serve else "none of its layers is so large"
    if not at:
        return f"Grad-CAM needs a layer that gives maps of at least {side}x{side}; {name} has none ({_largest(sizes)})"
    if at in sizes:
        h, w = sizes[at]
        return f"'{at}' of {name} gives a map of {h}x{w}, too coarse for Grad-CAM, which needs {side}x{side}; {known}"
    return f"'{at}' is no layer of {name} that gives maps; {known}"


def _largest(sizes: dict[str, tuple[int, int]]) -> str:
    largest = max(sizes, key=lambda path: min(sizes[path]), default="")
    return f"its largest is {largest}, {sizes[largest][0]}x{sizes[largest][1]}" if largest else "it has no maps at all"


def views(
    models: Sequence[nn.Module], names: Sequence[str], inputs: Callable[[Tensor], Tensor], x: Tensor, y: Tensor,
    index: Sequence[int], *, at: str = "", seed: int = 0, progress: Callable[[float, str], None] = silent,
) -> Views:  # fmt: skip
    """Grad-CAM and answers of private models (original first) on images x as stored. Errors: Refused."""
    paths, sides = layers_for(models, names, inputs(x[:1]), at)
    logits, maps = [], []
    for i, (model, path) in enumerate(zip(models, paths, strict=True)):
        progress(i / len(models), f"Grad-CAM of {names[i]}")
        target = logits[0].argmax(1) if logits else None
        answers, found = _look(model, path, inputs, x, target)
        logits.append(answers)
        maps.append(similarity.unit(found))
    values = {name: [measure(maps[0], m) for m in maps] for name, measure in MAPS.items()}
    blank = [m.flatten(1).amax(1) == 0 for m in maps]
    values = {name: [v.masked_fill(blank[0] | b, torch.nan) for v, b in zip(vs, blank, strict=True)]
              for name, vs in values.items()}  # fmt: skip
    values |= {name: [measure(logits[0], o) for o in logits] for name, measure in ANSWERS.items()}
    likeness = tuple(
        _likeness(path, side, int(b.sum()), logits[0], o, y, {name: v[i] for name, v in values.items()})
        for i, (path, side, b, o) in enumerate(zip(paths, sides, blank, logits, strict=True))
    )
    control = _control(maps[0], blank[0], seed)
    pictures = _pictures(x, y, index, maps, logits, values["cosine"], seed)
    numbers = {name: [[float(one) for one in v] for v in vs] for name, vs in values.items()}
    numbers["class"] = [[float(one) for one in o.argmax(1)] for o in logits]
    notes = _notes(models, names, paths, sides, bool(at))
    return Views(len(y), likeness, control, pictures, numbers, tuple(map(int, index)), tuple(notes))


MAPS = {"cosine": similarity.cosine, "ssim": similarity.ssim}
ANSWERS = {"kl": similarity.kl, "js": similarity.js}


def _look(
    model: nn.Module, path: str, inputs: Callable[[Tensor], Tensor], x: Tensor, target: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and maps (n, h, w) on the CPU; of the model's own top class where no target is given."""
    device = device_of(model)
    with torch.no_grad():
        logits = torch.cat([model(inputs(part.to(device))).cpu() for part in x.split(BATCH)])
    target = logits.argmax(1) if target is None else target
    maps = [
        gradcam.maps(model, path, inputs(part.to(device)), t.to(device)).cpu()
        for part, t in zip(x.split(BATCH), target.split(BATCH), strict=True)
    ]
    return logits, torch.cat(maps)


def _likeness(
    path: str, side: tuple[int, int], blank: int, original: Tensor, logits: Tensor, y: Tensor, values: dict[str, Tensor]
) -> Likeness:
    same, n = int((logits.argmax(1) == original.argmax(1)).sum()), len(y)
    means = {name: bootstrap.mean(v) for name, v in values.items()}
    right = float((logits.argmax(1) == y).double().mean())
    return Likeness(path, side, blank, right, Estimate(same / n, *wilson(same, n), n), **means)


def _control(maps: Tensor, blank: Tensor, seed: int) -> dict[str, Estimate]:
    """The original's map of every image against its map of another, drawn so that none meets itself."""
    order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    if len(maps) < 2:
        return {name: bootstrap.mean(torch.tensor([])) for name in MAPS}
    missing = blank | blank[other]
    return {name: bootstrap.mean(f(maps, maps[other]).masked_fill(missing, torch.nan)) for name, f in MAPS.items()}


def _pictures(
    x: Tensor, y: Tensor, index: Sequence[int], maps: Sequence[Tensor], logits: Sequence[Tensor],
    cosine: Sequence[Tensor], seed: int,
) -> tuple[Picture, ...]:  # fmt: skip
    """Images drawn by chance, then those where some map is least like the original's."""
    chance = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:ROWS].tolist()
    worst = torch.stack([c.nan_to_num(2.0) for c in cosine[1:]]).amin(0)
    differ = [i for i in worst.argsort(stable=True).tolist() if i not in chance and worst[i] <= 1][:ROWS]
    shares = [o.softmax(1) for o in logits]
    return tuple(
        Picture(
            int(index[i]), chosen, int(y[i]), x[i].numpy(), np.stack([m[i].numpy() for m in maps]),
            tuple(int(o[i].argmax()) for o in logits), tuple(float(s[i].max()) for s in shares),
            tuple(float(c[i]) for c in cosine),
        )
        for chosen, rows in (("chance", chance), ("differs", differ)) for i in rows
    )  # fmt: skip


def _notes(
    models: Sequence[nn.Module], names: Sequence[str], paths: Sequence[str], sides: Sequence[tuple[int, int]], at: bool
) -> list[str]:
    said = [
        f"{name} has no layer {paths[0]} with a map of 8x8 or more; its own deepest one is taken, {path}, {h}x{w}."
        for name, path, (h, w) in zip(names, paths, sides, strict=True)
        if path != paths[0]
    ]
    convolutions = [p for p, m in models[0].named_modules() if isinstance(m, nn.Conv2d)]
    order = [p for p, _ in models[0].named_modules()]
    before = [p for p in convolutions if order.index(p) <= order.index(paths[0])]
    if len(convolutions) > len(before) and len(before) <= len(convolutions) / 2:
        said.append(
            f"{len(before)} of {len(convolutions)} convolutions stand before this layer"
            f"{'' if at else ', the deepest of at least 8x8'}: such maps show edges and strokes more than objects."
        )
    if any(module.__class__.__name__ == "Softmax" for module in models[0].modules()) and len(before) < 2:
        said.append("It stands before all attention: the map says which patches matter, not what attends to what.")
    return said


def blanks(names: Sequence[str], found: Views) -> list[str]:
    """Images whose maps are all zero: nothing speaks for the class at that layer, and no similarity is defined."""
    return [
        f"{name}: {like.blank} of {found.images} maps are all zero ({percent(like.blank / found.images)}); "
        "similarities leave them out."
        for name, like in zip(names, found.likeness, strict=True)
        if like.blank
    ]

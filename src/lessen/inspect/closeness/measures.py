"""Everything that is compared over seeds, as numbers of one seed: its original, the models taught by it, and another.

The other is the original of another seed, a scale: how alike two trainings of the original are. Features and maps are
looked at and let go; only means over images stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.inspect import attention
from lessen.inspect.closeness import contests, features
from lessen.ops import confidence, similarity

if TYPE_CHECKING:
    from lessen.core.task import Task
    from lessen.inspect.attention import Views

Group = Literal["answers", "calibration", "features", "gaze"]


class Kind(NamedTuple):
    """What is measured. way: 1 where more is closer, -1 where less is; least, most: what it can be."""

    group: Group
    title: str
    unit: Literal["%", "nats", "points", ""]
    way: int
    least: float = -math.inf
    most: float = math.inf


AGREE = Kind("answers", "same answer", "%", 1, 0.0, 1.0)
KL = Kind("answers", "KL", "nats", -1, 0.0)
JS = Kind("answers", "JS", "nats", -1, 0.0, math.log(2))
ECE = Kind("calibration", "calibration error", "points", -1, 0.0, 1.0)
CAM = Kind("gaze", "Grad-CAM cosine", "", 1, 0.0, 1.0)
SSIM = Kind("gaze", "Grad-CAM SSIM", "", 1, -1.0, 1.0)


class Taken(NamedTuple):
    """One seed. values: by what is measured and model after the original, NaN where it has no such place.

    right, ece: of all models, the original first. between: the same as values of the other seed's original, where there
    is one. another: of the original's maps of two images. shares: by rival and measure, images on which the first is
    nearer. layer: of Grad-CAM; unseen: why there is none.
    """

    values: dict[Kind, tuple[float, ...]]
    right: tuple[float, ...]
    ece: tuple[float, ...]
    between: dict[Kind, float]
    another: dict[Kind, float]
    shares: dict[tuple[int, str], float]
    layer: str
    unseen: str
    notes: tuple[str, ...]


def take(
    models: Sequence[nn.Module], names: Sequence[str], other: nn.Module | None, task: Task, x: Tensor, y: Tensor, *,
    at: str = "", seed: int = 0,
) -> Taken:  # fmt: skip
    """Of private models, the original first, on images x as stored. Errors: Refused for a layer that cannot be `at`."""
    every = [*models, other] if other is not None else list(models)
    called = [*names, "the original of another seed"][: len(every)]
    seen = features.look(every, task.inputs, x)
    views, unseen = _views(every, called, task, x, y, at, seed)
    attended, _ = features.attend(seen, seed)
    rows = {AGREE: [], KL: [], JS: [], ECE: []} | _features(seen)
    for logits in seen.logits[1:]:
        rows[AGREE].append(float((logits.argmax(1) == seen.logits[0].argmax(1)).double().mean()))
        rows[KL].append(float(similarity.kl(seen.logits[0], logits).double().mean()))
        rows[JS].append(float(similarity.js(seen.logits[0], logits).double().mean()))
        rows[ECE].append(_ece(logits, y))
    another: dict[Kind, float] = {}
    if views is not None:
        for kind, name in ((CAM, "cosine"), (SSIM, "ssim")):
            rows[kind] = [getattr(like, name).mean for like in views.likeness[1:]]
            another[kind] = views.control[name].mean
    for one in attended:
        kind = _attention(one.size)
        rows[kind] = [e.mean if e else math.nan for e in one.moved[1:]]
        another[kind] = one.moved_control.mean
    k, logits = len(models) - 1, seen.logits[: len(models)]
    return Taken(
        {kind: tuple(row[:k]) for kind, row in rows.items()},
        tuple(float((own.argmax(1) == y).double().mean()) for own in logits), tuple(_ece(own, y) for own in logits),
        {kind: row[k] for kind, row in rows.items() if len(row) > k and kind != ECE}, another,
        {(rival, measure): share for rival in range(2, len(models))
         for measure, share in contests.shares(rival, logits, views, attended).items()},
        views.likeness[0].layer if views else "", unseen, views.notes if views else (),
    )  # fmt: skip


def _ece(logits: Tensor, y: Tensor) -> float:
    return confidence.ece(confidence.top(logits), logits.argmax(1) == y)


def _attention(size: tuple[int, int]) -> Kind:
    return Kind("gaze", f"attention {size[0]}x{size[1]}", "", 1, -1.0, 1.0)


def _features(seen: features.Seen) -> dict[Kind, list[float]]:
    """CKA at every place that the original has, but the logits, of which the answers tell."""
    return {
        Kind("features", f"CKA {features.BEFORE}" if match.place == features.BEFORE else f"CKA at {match.place}",
             "", 1, -math.inf, 1.0): [e.mean if e else math.nan for e in match.cka[1:]]
        for match in features.align(seen).matches if match.place != features.HEAD
    }  # fmt: skip


def _views(
    models: Sequence[nn.Module], names: Sequence[str], task: Task, x: Tensor, y: Tensor, at: str, seed: int
) -> tuple[Views | None, str]:
    try:
        return attention.views(models, names, task.inputs, x, y, range(len(y)), at=at, seed=seed), ""
    except Refused as e:
        if at:
            raise
        return None, str(e)

"""The verb: how close recipes of a study are to its baseline, over seeds; values, no words.

Every seed is one pair of trainings: its baseline, the original, and what a recipe made of it. The images are the same
at all seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.analyze import over_seeds
from lessen.analyze.over_seeds import Gap, Mean
from lessen.core.run import silent
from lessen.inspect.closeness import found as closeness
from lessen.inspect.closeness import measures, runs

if TYPE_CHECKING:
    from torch import nn

    from lessen.core.task import Task
    from lessen.inspect.closeness.measures import Group, Kind, Taken
    from lessen.inspect.closeness.runs import Chosen


@dataclass(frozen=True)
class Line:
    """One measure. means: by model after the original, None where it has no such place.

    gaps: the first less each rival. original: its own, of calibration. between: of two originals of different seeds.
    another: of two images of the original.
    """

    kind: Kind
    means: tuple[Mean | None, ...]
    gaps: tuple[Gap | None, ...]
    original: Mean | None
    between: Mean | None
    another: Mean | None


@dataclass(frozen=True)
class Nearer:
    """On which share of images the first is nearer than model `rival`; gap: that less a half."""

    rival: int
    measure: str
    share: Mean
    gap: Gap


@dataclass(frozen=True)
class Seeds:
    """What was found. names, about: of the models, the original first; seeds: those that every line's values follow.

    right: share of right answers by model. layer: of Grad-CAM; unseen: why there is none. tests: that were corrected
    together.
    """

    model: str
    task: str
    study: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    right: tuple[Mean, ...]
    lines: tuple[Line, ...]
    nearer: tuple[Nearer, ...]
    tests: int
    layer: str
    unseen: str
    notes: tuple[str, ...]

    def of(self, group: Group) -> list[Line]:
        return [line for line in self.lines if line.kind.group == group]

    def sentences(self) -> list[str]:
        """All findings in words."""
        from lessen.inspect.closeness import seed_words

        return [s for part in seed_words.PARTS for s in part(self)]

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        return closeness.plain(dict(vars(self))) | {"sentences": self.sentences()}


def seeds(
    run: Path | str, beside: Sequence[str], *, at: str = "", images: int | None = None, seed: int = 0,
    progress: Callable[[float, str], None] = silent,
) -> Seeds:  # fmt: skip
    """Compare recipes of a run, by text or arm, with the baseline of each seed; the first with all others.

    at, images, seed: as `beside` has them. Errors: those of `runs.choose`; BadField for fewer than 20 images, Refused
    for a layer that serves not.
    """
    from lessen.inspect import side_by_side
    from lessen.inspect.subjects import positions, samples
    from lessen.tasks import task as find

    count = side_by_side.IMAGES if images is None else images
    side_by_side.check(len(beside), count)
    closeness.check(count)
    chosen = runs.choose(run, beside)
    task = find(chosen.task)
    x, y = samples(task, positions(task, count, seed, "beside"))
    closeness.check(len(y))
    names = ("original", *chosen.names)
    taken = []
    for i, own in enumerate(chosen.seeds):
        progress(i / len(chosen.seeds), f"seed {own}, {i + 1} of {len(chosen.seeds)}")
        models = [_model(chosen, recipe, own, task) for recipe in ("", *chosen.recipes)]
        side_by_side.same_question(models, names, task, x)
        after = chosen.seeds[(i + 1) % len(chosen.seeds)]
        other = _model(chosen, "", after, task) if after != own else None
        taken.append(measures.take(models, names, other, task, x, y, at=at, seed=seed))
    return put(chosen, names, taken, len(y), strange=chosen.fingerprint != task.fingerprint)


def _model(chosen: Chosen, recipe: str, seed: int, task: Task) -> nn.Module:
    from lessen.artifact import load
    from lessen.inspect.subjects import private

    return private(load(chosen.artifacts[recipe, seed]).model(), task)


def put(chosen: Chosen, names: tuple[str, ...], taken: Sequence[Taken], images: int, *, strange: bool = False) -> Seeds:
    """All seeds' numbers together: means, differences, and one correction over all tests."""
    lines, nearer = [_line(kind, taken) for kind in _kinds(taken)], list(_nearer(taken))
    gaps = over_seeds.corrected([*(g for line in lines for g in line.gaps), *(one.gap for one in nearer)])
    left = iter(gaps)
    lines = [Line(**{**vars(line), "gaps": tuple(next(left) for _ in line.gaps)}) for line in lines]
    nearer = [Nearer(**{**vars(one), "gap": g}) for one, g in zip(nearer, left, strict=True) if g]
    right = [over_seeds.mean([t.right[i] for t in taken], 0.0, 1.0) for i in range(len(names))]
    odd = ("The data are not those of the study; its models may have seen these images.",) if strange else ()
    notes = dict.fromkeys((*chosen.notes, *odd, *(note for t in taken for note in t.notes)))
    return Seeds(
        chosen.model, chosen.task, chosen.study, names, ("baseline", *chosen.recipes), chosen.seeds, images,
        tuple(m for m in right if m), tuple(lines), tuple(nearer), sum(g is not None and g.p is not None for g in gaps),
        taken[0].layer, taken[0].unseen, tuple(notes),
    )  # fmt: skip


def _kinds(taken: Sequence[Taken]) -> list[Kind]:
    """What every seed's original has."""
    return [kind for kind in taken[0].values if all(kind in t.values for t in taken)]


def _line(kind: Kind, taken: Sequence[Taken]) -> Line:
    by_model = list(zip(*(t.values[kind] for t in taken), strict=True))

    def mean(values: Sequence[float]) -> Mean | None:
        return over_seeds.mean(values, kind.least, kind.most)

    return Line(
        kind, tuple(mean(values) for values in by_model),
        tuple(over_seeds.gap(by_model[0], rival) for rival in by_model[1:]),
        mean([t.ece[0] for t in taken]) if kind == measures.ECE else None,
        mean([t.between.get(kind, float("nan")) for t in taken]),
        mean([t.another.get(kind, float("nan")) for t in taken]),
    )  # fmt: skip


def _nearer(taken: Sequence[Taken]) -> Iterator[Nearer]:
    for rival, measure in taken[0].shares:
        values = [t.shares.get((rival, measure), float("nan")) for t in taken]
        share, gap = over_seeds.mean(values, 0.0, 1.0), over_seeds.gap(values, [0.5] * len(values))
        if share and gap:
            yield Nearer(rival, measure, share, gap)

"""What a comparison found: its recipes seed by seed against the first arm and the baseline, tested together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from lessen.analyze import budgets, points
from lessen.analyze.best import Best, bests
from lessen.analyze.budgets import Budget
from lessen.analyze.classes import Classes, classes_of
from lessen.analyze.comparison import AXES, Comparison
from lessen.analyze.points import Answers, Point
from lessen.analyze.predictions import Labels, nobody
from lessen.analyze.scaling import Law
from lessen.analyze.sizes import law_of
from lessen.analyze.statistics import LEVEL, Difference, holm, paired_difference, seed_difference
from lessen.core.record import TOP1, Row
from lessen.core.trial import Trial

NEAR = 0.03  # points of two curves are compared where their x differ by at most this share

ReadField = Callable[[str, str], float | None]  # (recipe, "Technique.field") -> its value


class Contrast(Row):
    """Test score of a recipe minus that of another over the seeds that both have. Shares: 0.01 is one point."""

    arm: str
    recipe: str
    against: str  # the other's recipe
    value: float
    low: float
    high: float  # 95 %; -1 to 1 where nothing is known, as of one seed without answers
    smallest: float | None  # true difference that four of five such studies would call clear; None where none can be
    p: float
    p_holm: float | None  # corrected over the tests of the comparison; None where it is no test of the question
    clear: bool  # never by one seed: it cannot tell a recipe from a lucky training
    seeds: int
    images: int  # 0: from the seeds' scores alone
    apart: float | None = None  # x of the recipe / x of the other - 1; of sparsity, by what is left


class Finding(Row):
    """All numbers of one comparison."""

    question: str
    x: str
    curves: bool
    arms: tuple[str, ...]
    points: tuple[Point, ...]  # arm by arm; an arm's by x, from the baseline's side on
    contrasts: tuple[Contrast, ...]  # with the first arm: of single recipes, or wherever two curves meet
    losses: tuple[Contrast, ...]  # with the baseline, not corrected
    baseline: Point | None
    alone: tuple[str, ...]  # recipes of other arms that no point of the first arm is near to
    law: Law | None = None  # by: law
    budgets: tuple[Budget, ...] = ()  # by: budget, from the smallest on
    classes: Classes | None = None  # by: class; None where the predictions are gone
    bests: tuple[Best, ...] = ()  # by: best
    by: str = ""
    score: str = TOP1  # what all scores are

    def of(self, arm: str) -> tuple[Point, ...]:
        """An arm's points."""
        return tuple(p for p in self.points if p.arm == arm)

    def contrast(self, recipe: str, arm: str, against: str | None = None) -> Contrast | None:
        """Of a recipe in its arm with the first arm; within budgets it may meet several of that one's recipes."""
        mine = (c for c in self.contrasts if (c.recipe, c.arm) == (recipe, arm))
        return next((c for c in mine if against in (None, c.against)), None)

    def loss(self, recipe: str) -> Contrast | None:
        return next((c for c in self.losses if c.recipe == recipe), None)


def find(
    comparison: Comparison,
    trials: Sequence[Trial],
    *,
    answers: Answers = nobody,
    field: ReadField | None = None,
    labels: Labels = nobody,
    names: Sequence[str] = (),
) -> Finding:
    """Analyse the rows of a study; `field` reads a recipe's field where x is one, `labels` the classes of the images,
    which have `names`."""
    done = {(t.recipe, t.seed): t for t in trials if t.measurement is not None}
    base = {seed: t for (recipe, seed), t in done.items() if not recipe}

    def place(trial: Trial) -> float | None:
        return _place(trial, base.get(trial.seed), comparison.x, field)

    def compare(a: Point, b: Point) -> Difference | None:
        seeds = [s for s in a.seeds if s in b.seeds]
        return _difference([done[a.recipe, s] for s in seeds], [done[b.recipe, s] for s in seeds], answers)

    found = [
        [points.point(arm, recipe, trials, base, place, answers) for recipe in recipes]
        for arm, recipes in comparison.arms.items()
    ]
    if comparison.x:
        found = [sorted(arm, key=lambda p: _order(p, comparison.x)) for arm in found]
    dense = points.point("", "", trials, base, place, answers) if base else None
    everything = [p for arm in found for p in arm]
    stairs = budgets.budgets(everything) if comparison.by == "budget" else ()
    met = _met(found, comparison, stairs)
    tests = [(a, b, d) for a, b in met if (d := compare(a, b)) is not None]
    corrected = holm([d.p for *_, d in tests])
    near = {a.recipe for a, _ in met}
    everyone = list({p.recipe: p for p in everything}.values())
    return Finding(
        question=comparison.question, x=comparison.x, curves=comparison.curves, arms=tuple(comparison.arms),
        points=tuple(everything), baseline=dense,
        contrasts=tuple(
            _contrast(a, b, d, _apart(a, b, comparison.x), p, len(tests))
            for (a, b, d), p in zip(tests, corrected, strict=True)
        ),
        losses=tuple(_contrast(p, dense, d) for p in everyone if dense and p.recipe and (d := compare(p, dense))),
        alone=() if comparison.by else tuple(
            p.recipe for arm in found[1:] for p in arm if p.recipe not in near and p.x is not None
        ),
        by=comparison.by, budgets=stairs, bests=bests(everything, done) if comparison.by == "best" else (),
        law=law_of(everything, done, answers) if comparison.by == "law" else None,
        classes=classes_of(everything, done, answers, labels, names) if comparison.by == "class" else None,
        score=next((t.measurement.test.by for t in done.values() if t.measurement), TOP1),
    )  # fmt: skip


def _met(
    found: Sequence[Sequence[Point]], comparison: Comparison, stairs: Sequence[Budget]
) -> list[tuple[Point, Point]]:
    """What is tested against the first arm. A law has one test for all: its resamples."""
    first, *others = found
    if comparison.by == "law":
        return []
    if comparison.by == "budget":
        return budgets.met([p for arm in found for p in arm], stairs, first[0].arm)
    return [pair for arm in others for pair in _pairs(arm, first, comparison)]


def _difference(a: Sequence[Trial], b: Sequence[Trial], answers: Answers) -> Difference | None:
    """By images and seeds where all answers are there, else by the seeds' scores."""
    if not a:
        return None
    ours, theirs = points.counted(a, answers), points.counted(b, answers)
    if ours is not None and theirs is not None and ours.shape == theirs.shape:
        return paired_difference(ours, theirs)
    return seed_difference(_scores(a), _scores(b))


def _scores(trials: Iterable[Trial]) -> list[float]:
    return [t.measurement.test.value for t in trials if t.measurement]


def _contrast(
    a: Point, b: Point, d: Difference, apart: float | None = None, p: float | None = None, tests: int = 1
) -> Contrast:
    """p: corrected over so many tests."""
    smallest = d.smallest(tests) if d.seeds > 1 else math.nan  # one seed shows no difference clearly
    return Contrast(
        arm=a.arm, recipe=a.recipe, against=b.recipe, value=d.value, low=d.low, high=d.high, p=d.p, p_holm=p,
        smallest=smallest if math.isfinite(smallest) else None, seeds=d.seeds, images=d.images, apart=apart,
        clear=d.clear and d.seeds > 1 and (p is None or p <= LEVEL),
    )  # fmt: skip


def _place(trial: Trial, base: Trial | None, x: str, field: ReadField | None) -> float | None:
    """Where a trial stands on the axis; None where that is not known."""
    seen = trial.measurement
    if seen is None or not x:
        return None
    if x not in AXES:
        return field(trial.recipe, x) if field else None
    cost = seen.cost
    if x == "sparsity":
        return 1 - cost.nonzeros / base.measurement.cost.nonzeros if base and base.measurement else None
    if x == "latency":
        return seen.latency[0].ratio if seen.latency else None
    return {"parameters": cost.parameters, "bits": cost.weight_bits, "bytes": seen.bytes.runnable, "macs": cost.macs,
            "nonzero macs": cost.nonzero_macs}[x]  # fmt: skip


def _order(point: Point, x: str) -> float:
    """From the baseline's side on: what falls under compression, from much to little."""
    if point.x is None:
        return math.inf
    return -point.x if x in AXES and x != "sparsity" else point.x


def _pairs(arm: Sequence[Point], first: Sequence[Point], comparison: Comparison) -> list[tuple[Point, Point]]:
    """The points of an arm that meet one of the first arm, each with another one, the closest first."""
    if not comparison.curves:
        return [(arm[0], first[0])]
    gaps = sorted(
        (
            (gap, i, k)
            for i, a in enumerate(arm)
            for k, b in enumerate(first)
            if (gap := _gap(a, b, comparison.x)) <= NEAR
        )
    )
    found: dict[int, int] = {}
    for _, i, k in gaps:
        if i not in found and k not in found.values() and arm[i].recipe != first[k].recipe:
            found[i] = k
    return [(arm[i], first[k]) for i, k in sorted(found.items())]


def _gap(a: Point, b: Point, x: str) -> float:
    """How far apart two points are; values of fields are equal or they are not."""
    apart = _apart(a, b, x)
    if apart is None:
        return math.inf
    return abs(apart) / max(1 + apart, 1) if x in AXES else 0.0 if a.x == b.x else math.inf


def _apart(a: Point, b: Point, x: str) -> float | None:
    """x of a over that of b, less 1; of sparsity, what is left of the model in a over what is left in b."""
    if a.x is None or b.x is None:
        return None
    ours, theirs = (1 - a.x, 1 - b.x) if x == "sparsity" else (a.x, b.x)
    return ours / theirs - 1 if theirs else 0.0 if ours == theirs else None

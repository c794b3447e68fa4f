"""Trials of one recipe as one line of numbers: means over seeds, paired with the baseline seed by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lessen.analyze.pareto import Choice, Option, front, recommend
from lessen.analyze.power import pooled_spread, smallest_effect
from lessen.analyze.statistics import wilson
from lessen.core.record import TOP1, Measurement, Record, Score
from lessen.core.trial import Trial
from lessen.report.families import family_of


class Stat(NamedTuple):
    """Mean over n seeds; sd is None when there is only one."""

    mean: float
    sd: float | None
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @staticmethod
    def of(values: Iterable[float]) -> Stat | None:
        found = tuple(v for v in values if math.isfinite(v))
        if not found:
            return None
        return Stat(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, found)


class Speed(NamedTuple):
    """Latency at one batch size over all seeds; `ratio` is this over the baseline, the geometric mean of pairs."""

    batch: int
    ms: Stat
    iqr_ms: float
    runs: int
    ratio: float | None


@dataclass(frozen=True)
class Line:
    """What the report knows of one recipe."""

    number: int  # its place in the study; 0 is the baseline
    recipe: str
    family: str
    done: tuple[Trial, ...]
    failed: tuple[Trial, ...]
    validation: Stat | None
    test: Stat | None
    interval: tuple[float, float] | None  # 95 %, of the mean test score on one test set
    drop: Stat | None  # validation, baseline - this, paired by seed
    runnable: float | None
    transport: float | None
    folder: float | None
    speeds: tuple[Speed, ...]  # in the order of the target's batches: its limit and `fastest` are of the first

    @property
    def measured(self) -> tuple[Measurement, ...]:
        return tuple(t.measurement for t in self.done if t.measurement)

    @property
    def records(self) -> tuple[tuple[int, tuple[Record, ...]], ...]:
        return tuple((t.seed, t.records) for t in self.done if t.records)

    def mean(self, of: Callable[[Measurement], float]) -> float | None:
        """Mean over seeds of any number of a measurement; None when nothing was measured."""
        return statistics.fmean(map(of, self.measured)) if self.measured else None

    def speed(self, batch: int) -> Speed | None:
        return next((s for s in self.speeds if s.batch == batch), None)


@dataclass(frozen=True)
class Summary:
    """All recipes of a study, what was chosen, and what could have been seen."""

    lines: tuple[Line, ...]
    choice: dict[str, Line | None]  # smallest, fastest, most_accurate
    on_front: frozenset[int]  # numbers of the recipes on the front of validation score and runnable bytes
    max_drop: float
    limits: tuple[int | None, float | None]  # most bytes, most milliseconds, where the target names them
    spread: float  # of paired validation differences between seeds, pooled over recipes; NaN when unknown
    freedom: int
    visible: float  # the smallest mean difference that could be seen; NaN when unknown
    seeds: int  # the fewest seeds of a finished recipe

    @property
    def baseline(self) -> Line | None:
        return next((line for line in self.lines if line.number == 0 and line.measured), None)

    @property
    def batches(self) -> list[int]:
        return list(dict.fromkeys(s.batch for line in self.lines for s in line.speeds))

    @property
    def own_score(self) -> str:
        """Name of the task's own score; empty where scores are shares of right answers."""
        return next((m.test.by for line in self.lines for m in line.measured if m.test.by != TOP1), "")

    @property
    def scored_by(self) -> str:
        """Which score the pictures show: validation, but test where a final study has no validation."""
        return "validation" if any(line.validation for line in self.lines) else "test"

    def score(self, line: Line) -> Stat | None:
        return line.validation if self.scored_by == "validation" else line.test


NEAR = 0.05  # drop of validation below which a recipe's spread speaks for those that may be chosen


def summarize(trials: Sequence[Trial], target: dict | None = None) -> Summary:
    """Group the trials by recipe in the order of the study, and choose by validation."""
    recipes = list(dict.fromkeys(["", *(t.recipe for t in trials)]))
    groups = {recipe: [t for t in trials if t.recipe == recipe] for recipe in recipes}
    base = {t.seed: t.measurement for t in groups[""] if t.measurement}
    lines = tuple(_line(i, recipe, group, base) for i, (recipe, group) in enumerate(groups.items()) if group)
    limits = {k: v for k, v in (target or {}).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    max_drop, max_size = limits.get("max_drop", 0.01), limits.get("max_bytes")
    max_time = limits.get("max_latency_ms")
    others = [line for line in lines if line.number]
    spread, freedom = pooled_spread([line.drop.values for line in others if line.drop and line.drop.mean < NEAR])
    seeds = min((len(line.done) for line in lines if line.done), default=0)
    return Summary(
        lines=lines, choice=_choose(lines, max_drop, max_size, max_time), on_front=_on_front(lines), max_drop=max_drop,
        limits=(None if max_size is None else int(max_size), max_time),
        spread=spread, freedom=freedom, visible=smallest_effect(spread, seeds, freedom), seeds=seeds,
    )  # fmt: skip


def _line(number: int, recipe: str, group: list[Trial], base: dict[int, Measurement]) -> Line:
    done = tuple(sorted((t for t in group if t.status == "done"), key=lambda t: t.seed))
    seen = [(t.seed, t.measurement) for t in done if t.measurement]
    validations = [(seed, m.validation.value) for seed, m in seen if m.validation]
    test = Stat.of(m.test.value for _, m in seen)
    size = [m.bytes for _, m in seen]
    return Line(
        number=number, recipe=recipe, done=done, failed=tuple(t for t in group if t.status == "failed"),
        family=family_of(recipe, done[0].records if done else ()),
        validation=Stat.of(v for _, v in validations), test=test,
        interval=_interval([m.test for _, m in seen]),
        drop=Stat.of(b.validation.value - v for seed, v in validations if (b := base.get(seed)) and b.validation),
        runnable=statistics.fmean(b.runnable for b in size) if size else None,
        transport=statistics.fmean(b.transport for b in size) if size else None,
        folder=statistics.fmean(b.folder for b in size) if size else None,
        speeds=_speeds([m for _, m in seen], number == 0),
    )  # fmt: skip


def _interval(tests: Sequence[Score]) -> tuple[float, float] | None:
    """Wilson's of the mean over seeds; of a task's own score the seeds' bootstrap intervals, on average."""
    if not tests:
        return None
    if all(t.by == TOP1 for t in tests):
        return wilson(round(statistics.fmean(t.value for t in tests) * tests[0].n), tests[0].n)
    return statistics.fmean(t.low for t in tests), statistics.fmean(t.high for t in tests)


def _speeds(measured: list[Measurement], is_baseline: bool) -> tuple[Speed, ...]:
    found = []
    for batch in dict.fromkeys(x.batch for m in measured for x in m.latency):
        rows = [x for m in measured for x in m.latency if x.batch == batch]
        ms = Stat.of(x.median_ms for x in rows)
        ratios = [x.ratio for x in rows if x.ratio]
        ratio = 1.0 if is_baseline else statistics.geometric_mean(ratios) if ratios else None
        assert ms is not None  # every batch comes from a row
        found.append(Speed(batch, ms, statistics.fmean(x.iqr_ms for x in rows), min(x.n for x in rows), ratio))
    return tuple(found)


def _choose(
    lines: Sequence[Line], max_drop: float, max_size: float | None, max_time: float | None
) -> dict[str, Line | None]:
    """By validation alone; a recipe of which a seed failed is not recommended."""
    names = Choice._fields
    baseline = next((line for line in lines if line.number == 0), None)
    able = [x for x in lines if x.number and x.drop and x.runnable is not None and not x.failed]
    if baseline is None or baseline.runnable is None:
        return dict.fromkeys(names)
    if max_time is not None:  # a limit in milliseconds is about what was seen, not about the ratio
        able = [x for x in able if x.speeds and x.speeds[0].ms.mean <= max_time]
    found = recommend(
        [Option(x.drop.mean, x.runnable, x.speeds[0].ratio if x.speeds else None) for x in able],  # type: ignore
        Option(0.0, baseline.runnable, 1.0), max_drop=max_drop, max_size=max_size,
    )  # fmt: skip
    return {name: None if i is None else able[i] for name, i in zip(names, found, strict=True)}


def _on_front(lines: Sequence[Line]) -> frozenset[int]:
    shown = [x for x in lines if x.validation and x.runnable is not None]
    points = [(x.runnable or math.nan, x.validation.mean if x.validation else math.nan) for x in shown]
    return frozenset(shown[i].number for i in front(points))

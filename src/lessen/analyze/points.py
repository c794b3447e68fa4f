"""One recipe of a comparison over its seeds: what it scored, held, cost and took. Values, no words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lessen.analyze import training
from lessen.analyze.statistics import mean_interval
from lessen.core.record import TOP1, Measurement, Row
from lessen.core.trial import Trial

if TYPE_CHECKING:
    import numpy as np

Answers = Callable[[Trial], "np.ndarray | None"]  # which test images were answered rightly (n,); None when gone
Trials = Mapping[int, Trial]  # by seed
SHARES = (0.95, 0.99)  # of the baseline's score: what is called recovered


class Spread(Row):
    """Mean over seeds; sd is None for one."""

    mean: float
    sd: float | None
    n: int
    values: tuple[float, ...]


class Recovery(Row):
    """Epochs of the recipe's own training until its score stays above a share of the baseline's, seed by seed."""

    share: float
    epochs: tuple[int | None, ...]  # None is never

    @property
    def seeds(self) -> int:
        """How many recovered."""
        return sum(e is not None for e in self.epochs)

    @property
    def median(self) -> float | None:
        """Over all seeds; None where the middle one never recovered."""
        found = statistics.median(float("inf") if e is None else e for e in self.epochs)
        return None if found == float("inf") else found


class Time(Row):
    """Latency at one batch size; `ratio` to the baseline's file is the geometric mean over seeds."""

    batch: int
    ms: float
    ratio: float | None


class Size(Row):
    """Means over seeds."""

    runnable: float
    transport: float
    zeros: float  # share of its own parameters
    parameters: float
    macs: float
    nonzero_macs: float | None
    times: tuple[Time, ...]


class Point(Row):
    """A recipe in its arm. Everything is None or empty where no seed has finished."""

    arm: str
    recipe: str
    seeds: tuple[int, ...]  # that finished
    failed: int
    x: float | None  # mean over seeds
    xs: tuple[float, ...]  # seed by seed; empty where a seed has none
    validation: Spread | None
    test: Spread | None
    interval: tuple[float, float] | None  # 95 %, of the mean test score
    unsteadiness: float | None  # sd of validation over the last epochs, mean over seeds
    recovery: tuple[Recovery, ...]
    effort: training.Effort | None  # mean over seeds
    size: Size | None
    course: tuple[training.Band, ...]  # validation score by epoch of its own training

    @property
    def earlier(self) -> float:
        """Epochs trained for models that the recipe threw away, as a lottery ticket's; not in `course`."""
        trained = max((band.epoch for band in self.course), default=0)
        return self.effort.epochs - trained if self.effort and trained else 0.0


def point(
    arm: str,
    recipe: str,
    trials: Sequence[Trial],
    base: Trials,
    place: Callable[[Trial], float | None],
    answers: Answers,
) -> Point:
    """What a recipe's rows say; `place` gives a trial's x."""
    mine = sorted((t for t in trials if t.recipe == recipe), key=lambda t: t.seed)
    done = [t for t in mine if t.measurement is not None]
    seen = [t.measurement for t in done if t.measurement is not None]
    xs = [x for t in done if (x := place(t)) is not None]
    courses = [training.course(training.own(t)) for t in done]
    steady = [sd for c in courses if (sd := training.unsteadiness(c)) is not None]
    return Point(
        arm=arm, recipe=recipe, seeds=tuple(t.seed for t in done), failed=len(mine) - len(done),
        x=statistics.fmean(xs) if xs else None, xs=tuple(xs) if len(xs) == len(done) else (),
        validation=spread(m.validation.value for m in seen if m.validation), test=spread(m.test.value for m in seen),
        interval=_interval(done, answers), unsteadiness=statistics.fmean(steady) if steady else None,
        recovery=_recoveries(done, courses, base) if recipe else (), effort=_effort(done) if recipe else None,
        size=_size(seen), course=training.bands(courses) if recipe else (),
    )  # fmt: skip


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and sample standard deviation; None of nothing."""
    found = tuple(values)
    if not found:
        return None
    sd = statistics.stdev(found) if len(found) > 1 else None
    return Spread(mean=statistics.fmean(found), sd=sd, n=len(found), values=found)


def stacked(done: Iterable[Trial], answers: Answers) -> Any:
    """Right answers (seeds, images) of trials, or None where one's are gone."""
    import numpy as np

    rows = [answers(t) for t in done]
    whole = [row for row in rows if row is not None]
    same = rows and len(whole) == len(rows) and len({len(row) for row in whole}) == 1
    return np.stack(whole) if same else None


def counted(done: Sequence[Trial], answers: Answers) -> Any:
    """The same where the score is their share; None where a task has a score of its own."""
    plain = all(t.measurement is not None and t.measurement.test.by == TOP1 for t in done)
    return stacked(done, answers) if plain else None


def _interval(done: Sequence[Trial], answers: Answers) -> tuple[float, float] | None:
    import numpy as np

    if not done:
        return None
    right = counted(done, answers)
    if right is not None:
        return mean_interval(right)
    tests = [t.measurement.test for t in done if t.measurement]
    if tests and tests[0].by != TOP1 and len({test.value for test in tests}) == 1:
        return tests[0].low, tests[0].high
    return mean_interval(np.array([[test.value] for test in tests]), tests[0].n) if len(tests) > 1 else None  # seeds


def _recoveries(done: Sequence[Trial], courses: Sequence[training.Course], base: Trials) -> tuple[Recovery, ...]:
    """Against the baseline's score of the same seed, by the same ruler: the training framework's validation."""
    pairs = [(c, s) for t, c in zip(done, courses, strict=True) if c and (s := _start(base.get(t.seed))) is not None]
    if not pairs:
        return ()
    return tuple(
        Recovery(share=share, epochs=tuple(training.recovered(c, share * s) for c, s in pairs)) for share in SHARES
    )


def _start(trial: Trial | None) -> float | None:
    """The baseline's own score in the training framework, else that of its file."""
    if trial is None or trial.measurement is None:
        return None
    told = trial.records[-1].score if trial.records else None
    file = trial.measurement.validation
    return told if told is not None else file.value if file else None


def _effort(done: Sequence[Trial]) -> training.Effort | None:
    found = [training.effort(t) for t in done if t.records]
    if not found:
        return None
    shares = [e.share for e in found if e.share is not None]
    return training.Effort(
        epochs=statistics.fmean(e.epochs for e in found), share=statistics.fmean(shares) if shares else None,
        seconds=statistics.fmean(e.seconds for e in found),
    )  # fmt: skip


def _size(seen: Sequence[Measurement]) -> Size | None:
    if not seen:
        return None
    mean = statistics.fmean
    living = [m.cost.nonzero_macs for m in seen if m.cost.nonzero_macs is not None]
    return Size(
        runnable=mean(m.bytes.runnable for m in seen), transport=mean(m.bytes.transport for m in seen),
        zeros=mean(1 - m.cost.nonzeros / max(m.cost.parameters, 1) for m in seen),
        parameters=mean(m.cost.parameters for m in seen), macs=mean(m.cost.macs for m in seen),
        nonzero_macs=mean(living) if len(living) == len(seen) else None,
        times=tuple(_time(seen, batch) for batch in dict.fromkeys(row.batch for m in seen for row in m.latency)),
    )  # fmt: skip


def _time(seen: Sequence[Measurement], batch: int) -> Time:
    rows = [row for m in seen for row in m.latency if row.batch == batch]
    ratios = [row.ratio for row in rows if row.ratio]
    return Time(
        batch=batch, ms=statistics.fmean(row.median_ms for row in rows),
        ratio=statistics.geometric_mean(ratios) if ratios else None,
    )  # fmt: skip

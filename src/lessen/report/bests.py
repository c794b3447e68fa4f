"""Which value of a field is best, in words and as a table."""

from __future__ import annotations

from lessen.analyze.best import Best
from lessen.analyze.findings import Finding
from lessen.report import words
from lessen.report.phrases import position
from lessen.report.question_tables import NONE, Cell, Grid

FIELD = "by validation, in resamples of the seeds"


def sentences(f: Finding) -> list[str]:
    """The best value of every arm and the values that cannot be told from it."""
    if not f.bests:
        return ["Which value is best cannot be told yet: that takes two values and two seeds or more."]
    return [_one(f, best) for best in f.bests]


def _one(f: Finding, best: Best) -> str:
    name = f.x.rpartition(".")[2]
    point = next(p for p in f.of(best.arm) if p.recipe == best.recipe)
    said = f"For {best.arm}, validation chooses {name} {position(f, best.x)} ({words.spread(point.test)} on test"
    if best.low == best.high:
        return f"{said}), and so do 95 % of resamples of {words.plural(best.seeds, 'seed')}."
    reach = f"{position(f, best.low)} to {position(f, best.high)}"
    return f"{said}; 95 % of resamples of {words.plural(best.seeds, 'seed')} choose from {reach})."


def grids(f: Finding) -> tuple[Grid, ...]:
    """Of every arm: values, how often each is chosen, scores."""
    return tuple(_grid(f, best) for best in f.bests)


def _grid(f: Finding, best: Best) -> Grid:
    told = any(v.entropy is not None for v in best.values)
    heads = [("chosen", f"share of resamples, {FIELD}"), ("validation", "mean ± sd over seeds"),
             ("test", "mean ± sd over seeds")]  # fmt: skip
    if told:
        heads.append(("entropy", "of the teacher's softened shares on calibration samples, in nats"))
    by = {p.recipe: p for p in f.of(best.arm)}
    rows = []
    for v in best.values:
        p = by[v.recipe]
        entropy = [NONE if v.entropy is None else Cell(f"{v.entropy:.2f}")] if told else []
        mark = "best" if v.recipe == best.recipe else ""
        cells = [Cell(words.percent(v.share, 0), mark), Cell(words.spread(p.validation)), Cell(words.spread(p.test))]
        rows.append((position(f, v.x), [*cells, *entropy]))
    return Grid(f"{best.arm}: {f.x.rpartition('.')[2]}", heads, rows)

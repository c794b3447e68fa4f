"""The two tables of a question, as cells: what its recipes scored, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lessen.analyze.findings import Contrast, Finding
from lessen.analyze.points import Point, Recovery
from lessen.report import words
from lessen.report.phrases import position, reach


class Cell(NamedTuple):
    """A text and a smaller line below it."""

    text: str
    below: str = ""


class Column(NamedTuple):
    title: str
    hint: str
    cell: Callable[[Point], Cell]


class Table(NamedTuple):
    """Columns behind the arm's name, for every point."""

    title: str
    columns: list[Column]


class Grid(NamedTuple):
    """A table whose rows are not points: titles with hints, and rows with their names."""

    title: str
    heads: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]


NONE = Cell(words.DASH)
HEADS = {"nonzero macs": "non-zero MACs", "macs": "MACs", "bytes": "bytes"}


def tables(finding: Finding) -> tuple[Table, Table]:
    """Scores and costs; columns that nothing is known of are left out."""
    return Table("Scores", _scores(finding)), Table("Costs", _costs(finding))


def _scores(f: Finding) -> list[Column]:
    first, points = f.arms[0], f.points
    found = [
        Column("n", "seeds that finished", lambda p: Cell(str(len(p.seeds)), f"{p.failed} failed" if p.failed else "")),
        Column("validation", "mean ± sd over seeds", lambda p: Cell(words.spread(p.validation))),
        Column("test", "mean ± sd over seeds; 95 % interval for other seeds and other images", _test),
        Column("to baseline", "points of test score, 95 % interval", lambda p: _difference(f.loss(p.recipe))),
    ]  # fmt: skip
    if f.by not in ("law", "budget"):  # which have tables of their own
        found += [
            Column(f"to {first}", "points of test score on the same seeds and images, 95 % interval",
                   lambda p: _difference(f.contrast(p.recipe, p.arm))),
            Column("p (Holm)", "of the t-test, corrected over all tests; in brackets the least points that it would"
                   " show", lambda p: _p(f.contrast(p.recipe, p.arm))),
        ]  # fmt: skip
    about = "mean over seeds; how far it is from the point it is compared with"
    found = [*place(f, about, lambda p: _x(f, p)), *found]
    if any(p.unsteadiness is not None for p in points):
        about = "sd of the validation score over the last five epochs, mean over seeds, in points"
        found.append(Column("wobble", about, _wobble))
    for i, share in enumerate(next((tuple(r.share for r in p.recovery) for p in points if p.recovery), ())):
        found.append(Column(
            f"to {100 * share:.0f} %", "epochs until this share of the baseline's validation stays reached; median",
            lambda p, i=i: _recovery(p.recovery[i], p.earlier) if p.recovery else NONE,
        ))  # fmt: skip
    return found


def _costs(f: Finding) -> list[Column]:
    def size(read: Callable[[Point], str]) -> Callable[[Point], Cell]:
        return lambda p: NONE if p.size is None else Cell(read(p))

    found = [
        *(() if f.x in HEADS else place(f)),
        Column("training", "epochs x MACs of the model trained, in units of the baseline's training", _training),
        Column("runnable", "all files that the runtime needs", size(lambda p: words.size(p.size and p.size.runnable))),
        Column("transport", "those under zstd -19", size(lambda p: words.size(p.size and p.size.transport))),
        Column("zeros", "share of its own parameters", size(lambda p: words.percent(p.size and p.size.zeros))),
        Column("MACs", "multiply-accumulates a sample", size(lambda p: words.number(p.size and p.size.macs))),
        Column("non-zero MACs", "those whose weight is not zero",
               size(lambda p: words.number(p.size and p.size.nonzero_macs))),
    ]  # fmt: skip
    batches = dict.fromkeys(t.batch for p in f.points if p.size for t in p.size.times)
    found += [
        Column(f"latency, batch {b}", "ratio to the baseline's file; below 1 is faster", _time(b)) for b in batches
    ]
    return found


def place(f: Finding, hint: str = "mean over seeds", cell: Callable[[Point], Cell] | None = None) -> list[Column]:
    """Where a point stands on its curve: without it, the rows of an arm look alike."""
    return [Column(HEADS.get(f.x, f.x), hint, cell or (lambda p: Cell(position(f, p.x))))] if f.x else []


def _x(f: Finding, p: Point) -> Cell:
    met = None if f.by else f.contrast(p.recipe, p.arm)
    apart = "" if met is None or met.apart is None or abs(met.apart) < 0.0005 else f"{100 * met.apart:+.1f} %"
    return Cell(position(f, p.x), apart)


def _test(p: Point) -> Cell:
    return Cell(words.spread(p.test), words.interval(p.interval))


def _wobble(p: Point) -> Cell:
    return NONE if p.unsteadiness is None else Cell(f"{100 * p.unsteadiness:.2f}")


def _difference(c: Contrast | None) -> Cell:
    if c is None:
        return NONE
    alone = not c.images and (c.low, c.high) == (-1, 1)
    why = "one seed" if c.seeds == 1 else "same at every seed"
    return Cell(words.signed(c.value), why if alone else reach(c))


def _p(c: Contrast | None) -> Cell:
    if c is None or c.p_holm is None:
        return NONE
    shown = "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}" if c.p_holm < 0.1 else f"{c.p_holm:.2f}"
    if c.clear:
        return Cell(shown, "clear")
    return Cell(shown, "not clear" + (f" ({100 * c.smallest:.1f})" if c.smallest is not None else ""))


def _recovery(r: Recovery, earlier: float) -> Cell:
    text = "never" if r.median is None else f"{r.median:g}"
    behind = f", {earlier:.0f} before" if earlier and r.median is not None else ""
    return Cell(text, f"{r.seeds} of {len(r.epochs)}{behind}")


def _training(p: Point) -> Cell:
    if p.effort is None:
        return NONE
    share = words.factor(p.effort.share) if p.effort.share is not None else words.DASH
    return Cell(share, f"{p.effort.epochs:.0f} epochs, {words.seconds(p.effort.seconds)}")


def _time(batch: int) -> Callable[[Point], Cell]:
    def cell(p: Point) -> Cell:
        times = [t for t in p.size.times if t.batch == batch] if p.size else []
        ratio = times[0].ratio if times else None
        return NONE if ratio is None else Cell(f"{ratio:.2f}", words.milliseconds(times[0].ms))

    return cell


def rows(finding: Finding, table: Table) -> Sequence[tuple[Point, list[Cell]]]:
    """Every point with its cells."""
    return [(p, [column.cell(p) for column in table.columns]) for p in finding.points]

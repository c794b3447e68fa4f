"""The table of all recipes: what each column shows and by which number it sorts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lessen.report import words
from lessen.report.summary import Line, Summary

ROLES = {"smallest": "smallest", "fastest": "fastest", "most_accurate": "most accurate"}


class Cell(NamedTuple):
    """A text, a smaller line below it, and the number that sorts it (None goes last)."""

    text: str
    sort: float | None
    below: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    hint: str
    cell: Callable[[Line], Cell]


class Group(NamedTuple):
    """Columns under one heading."""

    title: str
    columns: list[Column]


def groups(s: Summary) -> list[Group]:
    """Every column after number and recipe; latency has a group a batch size."""
    interval = "bootstrap" if s.own_score else "Wilson"
    found = [
        Group("", [Column("n", "finished trainings, each with its own seed", _n)]),
        Group(f"{s.own_score or 'score'}, mean ± sd", [
            Column("validation", "decides; measured on the file", _validation),
            Column("test", f"shown, never used to choose; 95 % {interval} interval of the mean in brackets", _test),
        ]),
        Group("files", [
            Column("runnable", "all files that the runtime needs", lambda x: _size(x.runnable)),
            Column("smaller", "baseline's runnable bytes / this recipe's", lambda x: _smaller(x, s.baseline)),
            Column("transport", "the runnable files under zstd -19", lambda x: _size(x.transport)),
            Column("folder", "everything, to go on compressing", lambda x: _size(x.folder)),
        ]),
        Group("model, counted", [
            Column("parameters", "trained values", lambda x: _count(x.mean(lambda m: m.cost.parameters))),
            Column("non-zeros", "of them, not zero", lambda x: _count(x.mean(lambda m: m.cost.nonzeros))),
            Column("MACs", "multiply-accumulates a sample, dense", lambda x: _count(x.mean(lambda m: m.cost.macs))),
        ]),
    ]  # fmt: skip
    found += [Group(f"latency, batch {batch}", _latency(batch)) for batch in s.batches]
    memory = Column("peak memory", "of the process that runs the file", _memory)
    return [*found, Group("", [memory, Column("status", "trials that finished", _status)])]


def roles(line: Line, s: Summary) -> list[str]:
    """What a recipe was chosen for."""
    return [ROLES[name] for name, chosen in s.choice.items() if chosen is line]


def _n(x: Line) -> Cell:
    return Cell(str(len(x.done)), len(x.done))


def _validation(x: Line) -> Cell:
    below = words.lost(x.drop.mean) if x.drop and x.number else ""
    return Cell(words.spread(x.validation), x.validation.mean if x.validation else None, below)


def _test(x: Line) -> Cell:
    return Cell(words.spread(x.test), x.test.mean if x.test else None, words.interval(x.interval))


def _size(value: float | None) -> Cell:
    return Cell(words.size(value), value)


def _count(value: float | None) -> Cell:
    return Cell(words.number(value), value)


def _smaller(x: Line, baseline: Line | None) -> Cell:
    value = words.smaller(x, baseline)
    return Cell(words.factor(value), value)


def _latency(batch: int) -> list[Column]:
    def median(x: Line) -> Cell:
        speed = x.speed(batch)
        if speed is None:
            return Cell(words.DASH, None)
        return Cell(words.milliseconds(speed.ms.mean), speed.ms.mean, f"IQR {words.milliseconds(speed.iqr_ms)}")

    def ratio(x: Line) -> Cell:
        speed = x.speed(batch)
        value = speed.ratio if speed else None
        return Cell(words.DASH if value is None else f"{value:.2f}", value)

    return [
        Column("median", f"of one call with {batch} samples, mean over seeds", median),
        Column("ratio", "to the baseline's file, timed in turns; below 1 is faster", ratio),
    ]


def _memory(x: Line) -> Cell:
    value = x.mean(lambda m: m.peak_memory_mib)
    return Cell(words.DASH if value is None else f"{value:.0f}{words.THIN}MiB", value)


def _status(x: Line) -> Cell:
    done, failed = len(x.done), len(x.failed)
    text = "done" if not failed else "failed" if not done else f"{failed} of {done + failed} failed"
    final = "final: trained on train + validation" if x.done and all(t.final for t in x.done) else ""
    return Cell(text, failed, final)

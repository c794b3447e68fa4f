"""What was chosen and what it costs, as a few lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from lessen.core.target import Target
from lessen.core.trial import Trial
from lessen.report import words
from lessen.report.summary import Line, Summary, summarize

ROLES = {"smallest": "smallest", "fastest": "fastest", "most_accurate": "most accurate"}


def brief(trials: Iterable[Trial], target: Target | None = None) -> str:
    """The recommended recipes beside the baseline, chosen by validation; empty when there is nothing to choose from.

    Where none qualifies, the smaller one that loses least stands there, to tell by how much it fails.

    >>> print(brief(trials))  # doctest: +SKIP
    """
    s = summarize(list(trials), target.model_dump(exclude_none=True) if target else None)
    chosen = {ROLES[role]: line for role, line in s.choice.items() if line is not None}
    scored = [line for line in s.lines if line.number and line.drop]
    if s.baseline is None or not scored:
        return ""
    told = f"Chosen by validation among recipes that lose at most {words.points(s.max_drop)}"
    if not chosen:
        told, chosen = f"No recipe qualifies: none {words.wanted(s)}", _least(scored, s.baseline)
    rows = [["", "file", "smaller", "latency", "validation", "test", "recipe"], _row("baseline", s.baseline, s)]
    rows += [_row(role, line, s) for role, line in chosen.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 6)), row[6]]).rstrip()
        for row in rows
    ]
    n = f"n = {s.seeds} seeds, mean ± sd in percent" if s.seeds > 1 else "n = 1 seed, percent"
    batch = s.batches[0] if s.batches else "-"
    by = f"scores are {s.own_score}; " if s.own_score else ""
    return words.simple("\n".join([*table, f"{told}; {by}{n}; latency at batch {batch} against the baseline's."]))


def _least(scored: Iterable[Line], baseline: Line) -> dict[str, Line]:
    """The smaller recipe that loses least, by the name of its row; empty where none is smaller."""
    smaller = [(x.drop.mean, x.number, x) for x in scored if x.drop and (words.smaller(x, baseline) or 0) > 1]
    return {"loses least": min(smaller)[-1]} if smaller else {}


def _row(role: str, line: Line, s: Summary) -> list[str]:
    speed = line.speeds[0] if line.speeds else None
    smaller = words.factor(words.smaller(line, s.baseline)) if s.baseline else words.DASH
    return [
        role, words.size(line.runnable), smaller if line.number else "", words.faster(speed) if line.number else "",
        _percent(line.validation), _percent(line.test), line.recipe,
    ]  # fmt: skip


def _percent(stat: words.Spreading | None) -> str:
    return words.spread(stat).removesuffix("%").strip(words.THIN)

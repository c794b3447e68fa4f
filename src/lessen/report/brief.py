"""What was chosen and what it costs, as a few lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from lessen.core.target import Target
from lessen.core.trial import Trial
from lessen.report import words
from lessen.report.summary import Line, Summary, summarize

ROLES = {"smallest": "smallest", "fastest": "fastest", "most_accurate": "most accurate"}


def brief(trials: Iterable[Trial], target: Target | None = None) -> str:
    """The recommended recipes beside the baseline, chosen by validation; empty when nothing can be recommended.

    >>> print(brief(trials))  # doctest: +SKIP
    """
    s = summarize(list(trials), target.model_dump(exclude_none=True) if target else None)
    chosen = {ROLES[role]: line for role, line in s.choice.items() if line is not None}
    if not chosen or s.baseline is None:
        return ""
    rows = [["", "file", "smaller", "latency", "validation", "test", "recipe"], _row("baseline", s.baseline, s)]
    rows += [_row(role, line, s) for role, line in chosen.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 6)), row[6]]).rstrip()
        for row in rows
    ]
    n = f"n = {s.seeds} seeds, mean ± sd in percent" if s.seeds > 1 else "n = 1 seed, percent"
    batch = s.batches[0] if s.batches else "-"
    most = f"Chosen by validation among recipes that lose at most {words.points(s.max_drop)}"
    by = f"scores are {s.own_score}; " if s.own_score else ""
    return words.simple("\n".join([*table, f"{most}; {by}{n}; latency at batch {batch} against the baseline's."]))


def _row(role: str, line: Line, s: Summary) -> list[str]:
    speed = line.speeds[0] if line.speeds else None
    smaller = words.factor(words.smaller(line, s.baseline)) if s.baseline else words.DASH
    return [
        role, words.size(line.runnable), smaller if line.number else "", words.faster(speed) if line.number else "",
        _percent(line.validation), _percent(line.test), line.recipe,
    ]  # fmt: skip


def _percent(stat: words.Spreading | None) -> str:
    return words.spread(stat).removesuffix("%").strip(words.THIN)

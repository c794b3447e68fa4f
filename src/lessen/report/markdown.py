"""A study's questions as a page of Markdown with pictures beside it, for documents that live with code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lessen.core.errors import BadStudy
from lessen.core.trial import Trial
from lessen.report import close_figures, provenance, words
from lessen.report.captions import reading
from lessen.report.pictures import draw
from lessen.report.question_tables import Cell, rows
from lessen.report.questions import Question
from lessen.report.summary import summarize


def write(found: Sequence[Question], trials: Sequence[Trial], study: Mapping[str, Any], target: Path) -> Path:
    """Write FILE.md and FILE-1.svg, FILE-2.svg ...; returns the first. Errors: BadStudy when nothing was asked."""
    if not found:
        raise BadStudy("this study asks no questions, so there is nothing for Markdown; write comparisons: in its file")
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures = [target.with_name(f"{target.stem}-{i}.svg") for i in range(1, len(found) + 1)]
    drawn = [p.name if draw(q.finding, q.n, q.of_validation, p) else "" for q, p in zip(found, pictures, strict=True)]
    near = [_near(q, p.with_name(f"{p.stem}-close.svg")) for q, p in zip(found, pictures, strict=True)]
    text = "\n".join(_page(found, drawn, near, trials, study))
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_text(words.simple(text), encoding="utf-8")
    part.replace(target)
    return target


def _near(q: Question, file: Path) -> str:
    """The name of the picture of closeness; empty where there is none."""
    return file.name if q.closeness and close_figures.draw(q.closeness, q.finding, file) else ""


def _page(
    found: Sequence[Question],
    drawn: Sequence[str],
    close: Sequence[str],
    trials: Sequence[Trial],
    study: Mapping[str, Any],
) -> Iterator[str]:
    first = trials[0] if trials else None
    yield f"# {_safe(str(study.get('name') or 'Study').capitalize())}"
    if first:
        yield f"\n`{_code(first.model)}` on `{_code(first.task)}`. Every file was measured as shipped, in its runtime."
    for q, picture, near in zip(found, drawn, close, strict=True):
        yield f"\n## {_safe(q.finding.question)}\n"
        yield "\n\n".join(map(_safe, q.paragraphs))
        if picture:
            yield f"\n![{_safe(q.finding.question)}]({quote(picture)})"
        for grid in q.grids:
            yield ""
            yield from _lines([grid.title, *(title for title, _ in grid.heads)], grid.rows)
        if near:
            yield f"\n![Closeness to the baseline: {_safe(q.finding.question)}]({quote(near)})"
        for table in q.tables:
            yield ""
            named = [(point.arm, cells) for point, cells in rows(q.finding, table)]
            yield from _lines([table.title, *(c.title for c in table.columns)], named)
        yield f"\n<small>{_safe(' '.join(q.caption))}</small>"
        yield "\n<details><summary>Recipes</summary>\n"
        for arm in q.finding.arms:
            recipes = ", ".join(f"`{_code(p.recipe)}`" if p.recipe else "the baseline" for p in q.finding.of(arm))
            yield f"- {_safe(arm)}: {recipes}"
        yield "\n</details>"
    yield "\n## How to read this\n"
    yield _safe(" ".join(reading([q.finding for q in found]))) + "\n"
    for machine in provenance.machines(summarize(trials)):
        yield (
            f"{_safe(machine['cpu'])}, {machine['cores']} cores, {_safe(machine['runtime'])} on"
            f" {words.plural(machine['threads'], 'thread')}; {machine['trials']} trials."
        )
    total = sum(t.seconds for t in trials)
    yield (
        f"\nAll trials took {words.seconds(total)} of training, packing and measuring, where a step that several"
        " share is counted with each of them. Drawn by `lessen report`."
    )


def _lines(heads: Sequence[str], named: Sequence[tuple[str, Sequence[Cell]]]) -> Iterator[str]:
    """A table of named rows."""
    yield "| " + " | ".join(map(_safe, heads)) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for name, cells in named:
        shown = [_safe(c.text) + (f"<br><small>{_safe(c.below)}</small>" if c.below else "") for c in cells]
        yield "| " + " | ".join([_safe(name), *shown]) + " |"


def _safe(text: str) -> str:
    """A user's text as text: no tags, no columns, no emphasis, one line."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape(" ".join(text.split()), quote=False))


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")

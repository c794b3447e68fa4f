"""A study's questions with their numbers and their answers: one analysis for page, Markdown, terminal and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lessen import catalog
from lessen.analyze import closeness as closenesses
from lessen.analyze.closeness import Closeness
from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import Finding, find
from lessen.analyze.predictions import class_names, nobody, right_answers, true_labels
from lessen.core.errors import LessenError
from lessen.core.trial import Trial
from lessen.report import bests, budgets, classes, close_figures, closeness, laws, provenance
from lessen.report.answers import answer
from lessen.report.captions import caption
from lessen.report.figures import Figure
from lessen.report.question_figures import figures
from lessen.report.question_tables import Grid, Table, tables
from lessen.report.words import simple
from lessen.store import Store


@dataclass(frozen=True)
class Question:
    """What was found and what it says, in sentences. n and of_validation are samples of the splits."""

    finding: Finding
    answer: tuple[str, ...]
    n: int
    of_validation: int
    closeness: Closeness | None = None

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """The answer, what it says of closeness apart."""
        own = len(self.answer) - len(closeness.sentences(self.closeness, self.finding) if self.closeness else ())
        return tuple(" ".join(part) for part in (self.answer[:own], self.answer[own:]) if part)

    @property
    def caption(self) -> tuple[str, ...]:
        return (*caption(self.finding), *(closeness.caption(self.closeness) if self.closeness else ()))

    @property
    def tables(self) -> tuple[Table, ...]:
        scores, costs = tables(self.finding)
        return (scores, *(closeness.tables(self.closeness, self.finding) if self.closeness else ()), costs)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """What a law, budgets or classes have to show beside scores and costs."""
        asked = {"law": laws.grids, "budget": budgets.grids, "class": classes.grids, "best": bests.grids}
        grids = asked.get(self.finding.by)
        return grids(self.finding) if grids else ()

    @cached_property
    def figures(self) -> list[tuple[str, Figure]]:
        """Titles and plotly data."""
        more = close_figures.figures(self.closeness, self.finding) if self.closeness else []
        return figures(self.finding, self.n, self.of_validation) + more

    def json(self) -> dict[str, Any]:
        found = {"question": self.finding.question, "answer": list(self.answer), **self.finding.model_dump(mode="json")}
        return found | ({"closeness": self.closeness.model_dump(mode="json")} if self.closeness else {})


def questions(description: Mapping[str, Any], trials: Sequence[Trial], run: Path | None = None) -> tuple[Question, ...]:
    """Analyse every comparison of a study's description; `run` is the folder where its predictions lie."""
    read, labels, names = nobody, nobody, ()
    if run:
        read, labels, names = right_answers(run), true_labels(run), class_names(run, trials)
    kept = {t.key: read(t) for t in trials}  # read once, though asked for often
    found = [
        find(c, trials, answers=lambda t: kept[t.key], field=_field, labels=labels, names=names)
        for c in asked(description)
    ]
    seen = [t.measurement for t in trials if t.measurement]
    n = seen[0].test.n if seen else 1
    of_validation = next((m.validation.n for m in seen if m.validation), n)
    close = _close(asked(description), found, trials, run)
    return tuple(
        Question(f, (*answer(f), *(closeness.sentences(c, f) if c else ())), n, of_validation, c)
        for f, c in zip(found, close, strict=True)
    )


def _close(
    comparisons: Sequence[Comparison], found: Sequence[Finding], trials: Sequence[Trial], run: Path | None
) -> list[Closeness | None]:
    """How close each comparison's arms are to the baseline, where that is asked and predictions are there."""
    if run is None or not any(map(closenesses.wanted, comparisons)):
        return [None] * len(found)
    read = closenesses.stored(run)
    kept = {t.key: read(t) for t in trials}
    return [
        closenesses.find(f, trials, lambda t: kept[t.key]) if closenesses.wanted(c) else None
        for c, f in zip(comparisons, found, strict=True)
    ]


def read(run_folder: Path | str) -> tuple[Question, ...]:
    """The questions of a run folder, answered from its rows and predictions. Errors: BadStudy."""
    run = Path(run_folder)
    with Store(run / "study.db") as store:
        trials, text = store.trials(), store.describe()
    return questions(provenance.read(text), trials, run)


def plain(found: Sequence[Question]) -> str:
    """Questions and answers for a terminal."""
    lines = [line for i, q in enumerate(found, 1) for line in (f"{i}. {q.finding.question}", *q.answer, "")]
    return simple("\n".join(lines).rstrip())


def asked(description: Mapping[str, Any]) -> list[Comparison]:
    """The comparisons that a description names; what is none is left out."""
    values, found = description.get("comparisons"), []
    for value in values if isinstance(values, list) else []:
        try:
            found.append(Comparison(**value))
        except (LessenError, TypeError):
            continue
    return found


def _field(recipe: str, field: str) -> float | None:
    try:
        return catalog.number(recipe, field)
    except LessenError:  # a technique that is there no more
        return None

"""One page that holds everything: rows in, report.html out; it opens without a network and draws without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lessen import __version__
from lessen.core.trial import Trial
from lessen.report import figures, markdown, provenance, question_tables, steps, table, words
from lessen.report.captions import reading
from lessen.report.families import WORDS, parts, short
from lessen.report.layers import layers
from lessen.report.lottery import trainings
from lessen.report.offline import asset, finite, plotly, policy
from lessen.report.questions import Question, questions
from lessen.report.summary import Line, Summary, summarize
from lessen.store import Store


def write(run_folder: Path | str, out: Path | str | None = None, *, found: Sequence[Question] | None = None) -> Path:
    """Draw `report.html` from the rows of a run folder's study.db; returns where it is.

    A name that ends in .md gets the study's questions as Markdown, with pictures beside it. `found` are the questions
    where they are answered already. Errors: BadStudy when there is no study. The file is whole or not there.

    >>> write("runs/demo")  # doctest: +SKIP
    PosixPath('runs/demo/report.html')
    """
    run = Path(run_folder)
    with Store(run / "study.db") as store:
        trials, text = store.trials(), store.describe()
    answered = found if found is not None else questions(provenance.read(text), trials, run)
    target = Path(out) if out is not None else run / "report.html"
    if target.suffix == ".md":
        return markdown.write(answered, trials, provenance.read(text), target)
    extra = provenance.from_manifest(run, trials)
    page = render(trials, text, folder=run.name, extra=extra, found=answered)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(page.encode("utf-8", "backslashreplace"))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def render(
    trials: Iterable[Trial],
    study: str | Mapping[str, Any] | None = None,
    *,
    folder: str = "",
    extra: Mapping[str, Any] | None = None,
    found: Sequence[Question] | None = None,
) -> str:
    """The page as text. `study` is the study's description; `extra` may name `license` and `versions`.

    Without `found` its questions are answered from the rows alone, without predictions.
    """
    rows, description = list(trials), provenance.read(study)
    target = description.get("target")
    summary = summarize(rows, target if isinstance(target, dict) else None)
    answered = questions(description, rows) if found is None else found
    payload = _payload(summary, answered)
    scripts = [plotly(), asset("report.js")]
    return _page().render(
        s=summary, w=words, short=short, parts=parts, title=_title(rows, description), version=__version__,
        trials=rows, groups=table.groups(summary), roles=lambda line: table.roles(line, summary),
        questions=answered, reading=reading([q.finding for q in answered]), rows=question_tables.rows,
        lines={line.recipe: line for line in summary.lines},
        cards=_cards(summary), steps={line.number: steps.steps_of(line) for line in summary.lines},
        families=WORDS, payload=payload, below=_below(payload, summary),
        machines=provenance.machines(summary), notes=provenance.notes(summary), failures=provenance.failures(rows),
        facts=provenance.facts(summary, rows, {**description, **(extra or {})}),
        commands=provenance.commands(folder), study_text=provenance.study_text(description),
        file_commands=provenance.file_commands, css=Markup(asset("report.css")),
        scripts=[Markup(script) for script in scripts], policy=policy(scripts),
    )  # fmt: skip


def _title(trials: Sequence[Trial], description: Mapping[str, Any]) -> dict[str, str]:
    first = trials[0] if trials else None
    return {
        "study": str(description.get("name") or (first.study if first else "")),
        "model": first.model if first else "no model yet",
        "task": first.task.removesuffix("()") if first else "",
    }


def _cards(s: Summary) -> list[tuple[list[str], Line]]:
    """Chosen recipes with what each was chosen for; one that wins twice is one card."""
    found: dict[int, tuple[list[str], Line]] = {}
    for name, line in s.choice.items():
        if line is not None:
            found.setdefault(line.number, ([], line))[0].append(table.ROLES[name])
    return list(found.values())


def _payload(s: Summary, answered: Sequence[Question]) -> dict[str, Any]:
    """All figures as plain data; jinja's tojson escapes it for the inside of a script element."""
    by_size = figures.scatter(
        s, lambda x: None if x.runnable is None else x.runnable / 1000,
        lambda x: tuple(m.bytes.runnable / 1000 for m in x.measured), "runnable files, kB (log scale)",
    )  # fmt: skip
    by_time = {
        f"latency-{batch}": figures.scatter(
            s, lambda x, b=batch: v.ms.mean if (v := x.speed(b)) else None,
            lambda x, b=batch: v.ms.values if (v := x.speed(b)) else (),
            f"latency at batch {batch}, ms (log scale)",
        )
        for batch in s.batches
    }  # fmt: skip
    recipes = {
        str(line.number): {
            "waterfall": steps.waterfall(line, steps.steps_of(line)), "curves": steps.curves(line),
            "layers": layers(line), "lottery": trainings(line),
        }
        for line in s.lines if line.records
    }  # fmt: skip
    asked = {f"{i}-{k}": figure for i, q in enumerate(answered) for k, (_, figure) in enumerate(q.figures)}
    return finite({"figures": {"bytes": by_size, **by_time}, "recipes": recipes, "questions": asked})


def _below(payload: Mapping[str, Any], s: Summary) -> list[Line]:
    """Recipes that lie below the drawn range of scores."""
    numbers = {n for figure in payload["figures"].values() if figure for n in figure["below"]}
    return [line for line in s.lines if line.number in numbers]


@cache
def _page() -> Any:
    loader = Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return loader.get_template("report.html.jinja")

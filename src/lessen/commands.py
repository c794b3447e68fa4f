"""What commands do with what they found or ran: pages, tables, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen import console

if TYPE_CHECKING:
    from lessen.study import Study


def show_found(found: dict[str, Any], output: Path, json: bool) -> None:
    """Write a page for each, and say what they show."""
    from lessen import inspect as look

    pages = {name: look.write(seen, output) for name, seen in found.items()}
    if json:
        numbers = {name: seen.json() for name, seen in found.items()}
        console.print_json(numbers if len(numbers) > 1 else next(iter(numbers.values())))
    else:
        for name, page in pages.items():
            print(f"{look.text(found[name])}\n\n{page} is written, all numbers are in {page.with_suffix('.json')}")


def train(plan: Study, output: Path, json: bool) -> None:
    """Make the steps of a study, and say how they are packed and measured. Errors: those of a failed trial."""
    from lessen.study import raise_failed
    from lessen.study import run as run_study
    from lessen.study.progress import watch

    trials = run_study(plan, output, watch=watch(console.on_stderr() if json else None), train_only=True)
    raise_failed(trials, plan)
    print(f"\n{len(plan.everything) + 1} recipes are trained; pack and measure them, where this folder is, by:")
    print(f"lessen study ... --trained {output / 'steps'} -o RUN")


def run(plan: Study, output: Path, json: bool, trained: Path | None = None) -> None:
    """Run a study and answer its questions. Errors: those of a failed trial, after the rest."""
    from lessen import report as reports
    from lessen.study import failed, raise_failed
    from lessen.study import run as run_study
    from lessen.study.progress import watch

    trials = run_study(plan, output, watch=watch(console.on_stderr() if json else None), trained=trained)
    answered = reports.read(output)
    page = reports.write(output, found=answered)
    if json:
        rows = [t.model_dump(mode="json") for t in trials]
        console.print_json({"trials": rows, "questions": [q.json() for q in answered]})
    else:
        said = (reports.brief(trials, plan.target), reports.plain(answered))
        print("", *filter(None, said), sep="\n\n" if answered else "\n")
        done, lost = sum(t.status == "done" for t in trials), len(failed(trials, plan))
        print(f"\n{done} trials done, {lost} failed; report: {page}")
    raise_failed(trials, plan)

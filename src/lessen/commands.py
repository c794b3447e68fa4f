"""What commands do with what the command line asks: run it, and show it as pages, tables, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lessen import console

if TYPE_CHECKING:
    from lessen.study import Study


class Looks(NamedTuple):
    """What `lessen inspect` is asked to look at, as its options name it."""

    sensitivity: str
    goals: Sequence[str]
    layers: Sequence[str]
    quick: bool
    beside: Sequence[str]
    at: str
    errors: bool
    close: bool
    distributions: bool
    images: int | None
    seed: int


def inspect(what: str, asked: Looks, output: Path, json: bool) -> None:
    """Look into models, or over a run's seeds, and show what is found. Errors: also those of an option out of place."""
    from lessen import inspect as look

    found = _over_seeds(what, asked, output) if look.is_run(what, asked.close) else _of_models(what, asked, output)
    show_found(found, output, json)


def _over_seeds(run: str, asked: Looks, output: Path) -> dict[str, Any]:
    from lessen import inspect as look
    from lessen.study import once

    options = {
        "--sensitivity": asked.sensitivity, "--goal": asked.goals, "--layer": asked.layers, "--quick": asked.quick,
        "--errors": asked.errors, "--distributions": asked.distributions,
    }  # fmt: skip
    look.asked_of_run(run, asked.beside, asked.images, asked.close, options)
    once.refuse_unusable(output)
    with console.progress(run) as progress:
        over = look.seeds(run, asked.beside, at=asked.at, images=asked.images, seed=asked.seed, progress=progress)
    return {"seeds": over}


def _of_models(what: str, asked: Looks, output: Path) -> dict[str, Any]:
    """By page: of one model, and of those beside it."""
    from lessen import inspect as look
    from lessen.study import once

    kinds = look.asked(
        asked.sensitivity, asked.goals, asked.layers, asked.quick, asked.beside, asked.at, asked.images, asked.errors,
        asked.distributions, asked.close,
    )  # fmt: skip
    found: dict[str, Any] = {}
    with console.progress(what) as progress:
        base, task = once.start(what, output, seed=asked.seed, progress=progress)
        models = [look.Shown.of(base, "original")]
        for i, other in enumerate(asked.beside, 1):
            folder = output.with_name(f"{output.name}-beside{i}")
            made, _ = once.start(other, folder, seed=asked.seed, progress=progress)
            models.append(look.Shown.of(made, other))
        on: dict[str, Any] = {"images": asked.images, "seed": asked.seed, "progress": progress}
        if kinds:
            found["sensitivity"] = look.sensitivity(
                base.model(), task, kinds, goals=asked.goals, layers=asked.layers, quick=asked.quick, progress=progress
            )
        if asked.errors or asked.distributions:
            found["inside"] = look.Inside.of(models, task, errors=asked.errors, distributions=asked.distributions, **on)
        if asked.beside:
            found["beside"] = look.beside(models, task, at=asked.at, **on)
        if asked.close:
            found["close"] = look.close(found["beside"], models, task, **on)
    return found


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

"""What of a study's run is compared: its recipes by text or by arm, the seeds that have them all, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessen import catalog
from lessen.core.errors import BadArtifact, BadField, BadStudy, LessenError, UnknownName
from lessen.core.trial import Trial
from lessen.inspect.side_by_side import distinct
from lessen.report import provenance, questions
from lessen.report.families import short
from lessen.report.words import listed
from lessen.store import Store

DB, MANIFEST = "study.db", "manifest.json"


@dataclass(frozen=True)
class Chosen:
    """Recipes of a run under their names; artifacts: by recipe and seed, '' is the baseline, the original."""

    study: str
    task: str
    fingerprint: str
    model: str
    names: tuple[str, ...]
    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    artifacts: Mapping[tuple[str, int], Path]
    notes: tuple[str, ...]


def is_run(what: str, close: bool) -> bool:
    """Whether it is a study's run folder. Errors: BadStudy for a folder that can be asked for closeness in no way."""
    folder = Path(what)
    if not what.strip() or (folder / MANIFEST).is_file() or not folder.is_dir():
        return False
    if not (folder / DB).is_file() and close:
        raise BadStudy(
            f"{what} is neither a study's run (it has no {DB}) nor an artifact (no {MANIFEST}); run `lessen study` "
            "first or name another folder"
        )
    return (folder / DB).is_file()


def choose(run: Path | str, asked: Sequence[str]) -> Chosen:
    """The recipes that are asked for, at all seeds that have them and their baseline.

    Errors: UnknownName, BadField for a recipe that is none or no other; BadStudy where no seed has all, or where the
    study held no validation images back; BadArtifact for files that are gone.
    """
    run = Path(run)
    with Store(run / DB) as store:
        trials, text = store.trials(), store.describe()
    arms = _arms(provenance.read(text))
    known = tuple(dict.fromkeys(t.recipe for t in trials if t.recipe))
    recipes = [recipe(name, arms, known) for name in asked]
    twice = next((r for r in recipes if recipes.count(r) > 1), None)
    if twice is not None:
        raise BadField(f"--beside names '{twice}' twice; leave one out")
    if any(t.final for t in trials):
        raise BadStudy(f"{run} was trained on its validation images too (final: true); ask a run without it")
    done = {t.key: t for t in trials if t.status == "done"}
    seeds = _seeds(run, done, trials, recipes)
    kept = [done[r, s] for s in seeds for r in ("", *recipes)]
    missing = sorted({t.seed for t in trials} - set(seeds))
    return Chosen(
        kept[0].study, kept[0].task, kept[0].task_fingerprint, kept[0].model,
        tuple(distinct([_name(r, arms) for r in recipes])), tuple(recipes), seeds,
        {t.key: _folder(run, t) for t in kept},
        (f"Left out, since not all of these are done there: seeds {listed(missing)}.",) if missing else (),
    )  # fmt: skip


def recipe(asked: str, arms: Mapping[str, tuple[str, ...]], known: Sequence[str]) -> str:
    """The text of a recipe as the rows have it, asked for by that, by another way to write it, or by its arm.

    Errors: UnknownName, BadField for an arm that is no single recipe or is the baseline; BadStudy for one not run.
    """
    own = arms.get(asked, ())
    if len(own) > 1:
        raise BadField(f"arm '{asked}' has {len(own)} recipes; name one of them: {', '.join(filter(None, own))}")
    if own == ("",) or not asked.strip() or asked == "baseline":
        raise BadField(f"'{asked}' is the baseline, with which the others are compared; name a recipe")
    text = own[0] if own else _written(asked)
    if text in known:
        return text
    if own:
        raise BadStudy(f"arm '{asked}' has not been run yet; go on with the study: lessen study ... -o RUN")
    single = [name for name, of in arms.items() if len(of) == 1 and of[0]]
    raise UnknownName("recipe of this run", asked, known if "(" in asked or not single else single)


def _written(text: str) -> str:
    """As the rows write it; the text itself where it is no recipe."""
    try:
        return str(catalog.recipe(text))
    except LessenError:
        return text


def _arms(description: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """All arms of a study's comparisons; one name for several things holds them all."""
    found: dict[str, tuple[str, ...]] = {}
    for comparison in questions.asked(description):
        for name, recipes in comparison.arms.items():
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *map(_written, recipes))))
    return found


def _name(recipe: str, arms: Mapping[str, tuple[str, ...]]) -> str:
    """The arm that is this recipe, or its techniques."""
    return next((name for name, own in arms.items() if own == (recipe,)), short(recipe))


def _seeds(
    run: Path, done: Mapping[tuple[str, int], Trial], trials: Sequence[Trial], recipes: Sequence[str]
) -> tuple[int, ...]:
    have = {r: sorted(s for of, s in done if of == r) for r in ("", *recipes)}
    found = tuple(s for s in dict.fromkeys(sorted(t.seed for t in trials)) if all(s in of for of in have.values()))
    if not found:
        told = "; ".join(f"{r or 'the baseline'}: {listed(of) or 'none'}" for r, of in have.items())
        raise BadStudy(
            f"no seed of {run} has the baseline and all of these done ({told}); go on with it by: "
            f"lessen study ... -o {run}"
        )
    return found


def _folder(run: Path, trial: Trial) -> Path:
    """Errors: BadArtifact where the files are gone."""
    folder = run / trial.artifact
    if not trial.artifact or not (folder / MANIFEST).is_file():
        raise BadArtifact(
            f"{folder} is gone; run the study again, into another folder, to have it: lessen study ... -o"
        )
    return folder

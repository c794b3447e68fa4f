"""One model, one recipe, one artifact: what `lessen train` and `lessen compress` do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from lessen.core.errors import BadArtifact, BadRecipe
from lessen.core.run import Run, silent
from lessen.core.text import split_pair
from lessen.study.lock import while_nothing_is_timed
from lessen.study.sources import code_hash, digest, module_hash, named_models, rooms

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.core.recipe import Recipe
    from lessen.core.task import Task

Progress = Callable[[float, str], None]


def train(
    task: Task, model: str, folder: Path, recipe: Recipe, *, seed: int = 0, progress: Progress = silent
) -> Artifact:
    """Train a fresh model by `recipe` and pack it: the baseline of later recipes.

    A training that was killed goes on where it stopped when the same call is made again.
    """
    from lessen import artifact

    refuse_unusable(folder)
    with task.seeded(seed):
        fresh = task.build(model)
    run = Run(origin=fresh, checkpoint=_unfinished(folder) / _code(recipe, model, task.text), progress=progress)
    with while_nothing_is_timed(f"training for {folder}", progress):
        trained, records = recipe.apply(fresh, task, seed=seed, run=run)
        packed = artifact.pack(trained, task, folder, seed=seed, records=records, code=_users(model, task))
    shutil.rmtree(_unfinished(folder), ignore_errors=True)
    return packed


def start(
    what: str, output: Path, *, seed: int = 0, weights: Path | None = None, trust_pickle: bool = False,
    progress: Progress = silent,
) -> tuple[Artifact, Task]:  # fmt: skip
    """The baseline that a recipe starts from, and its task.

    what: an artifact's folder, or TASK/MODEL. The latter is trained in the task's own way, or takes the user's
    `weights`, and is kept in `<output>-baseline`; a baseline that stands there already is used again.
    """
    from lessen import artifact, catalog
    from lessen.tasks import task as find

    refuse_unusable(output)
    if what.strip() and Path(what).exists():
        base = artifact.load(what)
        return base, find(base.manifest.task)
    task_text, model = _split(what)
    task, folder = find(task_text), output.with_name(f"{output.name}-baseline")
    if folder.exists():
        base = artifact.load(folder)
        if weights or not _is_baseline(base, task, model, seed):
            raise BadArtifact(
                f"{folder} was made from another task, model, seed, weights or code of yours; remove it or choose "
                "another -o"
            )
    elif weights:
        own = artifact.load_weights(task.build(model), weights, trust_pickle=trust_pickle)
        base = artifact.pack(own, task, folder, seed=seed, code=_users(model, task))
    else:
        base = train(task, model, folder, catalog.recipe(task.baseline), seed=seed, progress=progress)
    return base, task


def _is_baseline(base: Artifact, task: Task, model: str, seed: int) -> bool:
    """Whether that artifact is what this task, model and seed make when trained in the task's own way."""
    from lessen import catalog

    made = base.manifest
    trained = [record.technique for record in made.records] == [str(t) for t in catalog.recipe(task.baseline)]
    fresh = task.build(model)
    name = str(getattr(fresh, "builder", type(fresh).__name__))
    wanted = task.fingerprint, seed, name, _users(model, task)
    return trained and (made.task_fingerprint, made.seed, made.model, made.code) == wanted


def compress(
    base: Artifact, task: Task, recipe: Recipe, folder: Path, *, seed: int = 0, progress: Progress = silent
) -> Artifact:
    """Apply a recipe to an artifact's model and pack the result; the recipe goes on from the artifact's own.

    Like `train`, it goes on where it was killed when the same call is made again.
    """
    from lessen import artifact

    refuse_unusable(folder)
    earlier = tuple(part for part in base.manifest.recipe.split(" >> ") if part)
    model = base.model()
    checkpoint = _unfinished(folder) / _code(recipe, base.manifest.model, task.text)
    run = Run(origin=model, done=earlier, checkpoint=checkpoint, progress=progress)
    whole = " >> ".join([*earlier, str(recipe)])
    with while_nothing_is_timed(f"training for {folder}", progress):
        changed, records = recipe.apply(model, task, seed=seed, run=run)
        records = (*base.manifest.records, *records)
        packed = artifact.pack(
            changed, task, folder, recipe=whole, seed=seed, records=records, parent=base,
            code=_users(base.manifest.model, task),
        )  # fmt: skip
    shutil.rmtree(_unfinished(folder), ignore_errors=True)
    return packed


def _unfinished(folder: Path) -> Path:
    """Where training for that folder keeps its state, in a folder for each form of the code."""
    return folder.with_name(f".{folder.name}.partial")


def _code(recipe: Recipe, *named: str) -> str:
    """What a training that was stopped may only be gone on with by: our code, and the user's in these texts."""
    own = [part for step in recipe for part in (code_hash(type(step)), *named_models(step))]
    return digest(rooms("core", "models", "ops", "tasks"), *map(module_hash, named), *own)


def _users(model: str, task: Task) -> str:
    """Hash of the user's own modules that make the model and the task; empty where both are ours."""
    own = [module_hash(text) for text in (model, task.text)]
    return digest(*own) if any(own) else ""


def refuse_unusable(folder: Path) -> None:
    """Before hours of training, not after."""
    if folder.exists():
        raise BadArtifact(f"{folder} exists already; choose another folder with -o or remove it")
    above = next(path for path in folder.absolute().parents if path.exists())
    try:
        with TemporaryFile(dir=above):
            pass
    except OSError as e:
        raise BadArtifact(
            f"{folder} cannot be written ({e.strerror or e}: {above}); choose another folder with -o"
        ) from None


def _split(what: str) -> tuple[str, str]:
    """TASK and MODEL. Errors: BadRecipe, also for the path of an artifact that is not there."""
    if "/" not in what or what.startswith((".", "/", "~")):
        raise BadRecipe(f"'{what}' is neither an artifact's folder nor TASK/MODEL; write for example digits/cnn")
    return split_pair(what)

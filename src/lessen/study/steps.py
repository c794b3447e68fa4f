"""Steps are cached by content, so recipes that share a beginning share its cost and a killed study goes on.

A step's folder is named by a hash of all that decides its outcome: what came before, the technique with all its
fields, the seed, the data, the code, and the arithmetic of this machine. It is written under another name and
renamed: it is whole or not there, and being there means done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lessen.core.errors import BadArtifact, BadStudy, Diverged, LessenError, Refused
from lessen.core.record import Record
from lessen.core.run import Run, silent
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.core.text import format_call
from lessen.study.lock import turn
from lessen.study.sources import code_hash, digest, module_hash, named_models, rooms

RECORD = "record.json"
MACHINE = "machine.json"
VERDICT = "verdict.json"
VERDICTS: dict[str, type[LessenError]] = {"Refused": Refused, "Diverged": Diverged}  # the same every time: kept, too


@dataclass(eq=False)
class Place:
    """A model on its way through a recipe; it is built or loaded when first asked for."""

    key: str
    seed: int
    make: Callable[[], Any]
    origin: Place | None = None  # the baseline of this seed, and until it stands the fresh model, where this is not it
    done: tuple[str, ...] = ()  # texts since then
    records: tuple[Record, ...] = ()  # the baseline's first
    replaced: Place | None = None  # what the last Student since the baseline replaced

    @cached_property
    def model(self) -> Any:
        return self.make()

    @property
    def teacher(self) -> Place | None:
        """What the steps from here on see as their `run.origin`."""
        return self.replaced or self.origin

    def as_baseline(self) -> Place:
        """The same place, as what recipes start from."""
        return Place(self.key, self.seed, lambda: self.model, self, (), self.records)


class Steps:
    """The cache: a folder of steps, and the surroundings that all of its keys share."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        threads: int = 1,
        *,
        save: Callable[[Any, Path], None] | None = None,
        load: Callable[[Path], Any] | None = None,
        brought: bool = False,
    ) -> None:
        """brought: the folder holds what another machine made, and nothing is made here. Errors: BadStudy."""
        from lessen.models.state import load_model, save_model

        self.folder, self.task, self.brought = folder, task, brought
        self.save, self.load = save or save_model, load or load_model
        self.machine = read_machine(folder) if brought else arithmetic()
        self.surroundings = (task.fingerprint, threads, *self.machine)
        folder.mkdir(parents=True, exist_ok=True)

    def name_machine(self) -> None:
        """Leave beside the steps what another machine needs to find them by."""
        (self.folder / MACHINE).write_text(json.dumps(self.machine), encoding="utf-8")

    def start(self, model: str, seed: int) -> Place:
        """A fresh model of that seed, not built yet."""

        def build() -> Any:
            with self.task.seeded(seed):
                return self.task.build(model)

        sources = (rooms("core", "models", "ops", "tasks"), module_hash(model), module_hash(self.task.text))
        return Place(digest(model, seed, *sources, *self.surroundings), seed, build)

    def after(self, place: Place, technique: Technique) -> Place:
        """One step on, as it will stand in the cache; nothing is made, and its records are those of before."""
        fields = format_call(type(technique).__name__, dict(technique))
        seen = place.teacher and place.teacher.key, place.done  # where the baseline ends decides who teaches
        code = code_hash(type(technique)), *named_models(technique)
        key = digest(place.key, fields, place.seed, *seen, *code, *self.surroundings)
        return Place(
            key, place.seed, lambda: self._load(key, technique), place.origin or place, (*place.done, str(technique)),
            place.records, place if technique.replaces else place.replaced,
        )  # fmt: skip

    def has(self, place: Place) -> bool:
        return (self.folder / place.key).is_dir()

    def take(self, place: Place, technique: Technique, progress: Callable[[float, str], None] = silent) -> Place:
        """Go one step on: from the cache, or by applying the technique. Errors: those of the technique."""
        after = self.after(place, technique)
        if not self.has(after):
            with turn(self.folder / f"{after.key}.lock"):  # two studies on one cache wait for each other's steps
                if not self.has(after):
                    self._make(after.key, place, technique, progress)
        return replace(after, records=(*place.records, self._record(after.key, technique)))

    def _make(self, key: str, place: Place, technique: Technique, progress: Callable[[float, str], None]) -> None:
        if self.brought:
            raise BadStudy(
                f"{technique} of seed {place.seed} is not among the steps in {self.folder} (torch "
                f"{' on '.join(self.machine)}); train it there by --train-only, by the same code, and bring the folder"
            )
        partial = self.folder / f"{key}.partial"  # stays when this process dies, for the training loop to go on from
        partial.mkdir(exist_ok=True)
        origin = (
            None if place.teacher is None else self.task.copy(place.teacher.model)
        )  # a teacher may be changed freely
        run = Run(origin=origin, done=place.done, checkpoint=partial, progress=progress)
        try:
            model, record = technique.apply(place.model, self.task, seed=place.seed, run=run)
        except tuple(VERDICTS.values()) as e:
            verdict = {"technique": str(technique), "seed": place.seed, "kind": type(e).__name__, "message": str(e)}
            self._keep(key, lambda folder: (folder / VERDICT).write_text(json.dumps(verdict), encoding="utf-8"))
        else:
            self._keep(key, lambda folder: self._write(folder, model, record))
        shutil.rmtree(partial, ignore_errors=True)

    def _write(self, folder: Path, model: Any, record: Record) -> None:
        self.save(model, folder)
        (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")

    def _keep(self, key: str, write: Callable[[Path], object]) -> None:
        temporary = self.folder / f"{key}.new"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            write(temporary)
            temporary.rename(self.folder / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _record(self, key: str, technique: Technique) -> Record:
        folder = self.folder / key
        try:
            if (folder / VERDICT).is_file():
                verdict = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
                raise VERDICTS[verdict["kind"]](verdict["message"])
            return Record.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, KeyError) as e:  # pydantic's error is a ValueError
            raise self._damaged(key, technique, e) from None
        except OSError as e:  # too many open files, say: the step may be whole
            raise BadStudy(f"the kept step {technique} cannot be read ({e.strerror or e}: {folder})") from None

    def _load(self, key: str, technique: Technique) -> Any:
        """What later steps get is what the disk holds, so that a resumed study computes the same."""
        try:
            return self.load(self.folder / key)
        except BadArtifact as e:
            raise self._damaged(key, technique, e) from None

    def _damaged(self, key: str, technique: Technique, error: Exception) -> BadStudy:
        """What was hours of training is never deleted: another version of a user's module may read it."""
        reason = str(error).splitlines()[0]
        if self.brought:
            return BadStudy(f"the step {technique} cannot be used ({reason}); bring {self.folder / key} again")
        aside = self.folder / f"{key}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / key).rename(aside)
        return BadStudy(
            f"the kept step {technique} was damaged ({reason}) and is now {aside}; run again to make it anew"
        )


@cache
def arithmetic() -> tuple[str, str]:
    """What decides the last bits of a float on this machine: torch's version, and the GPU or the CPU's instructions."""
    import torch

    gpu = torch.cuda.is_available()
    return torch.__version__, torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability()


def read_machine(folder: Path) -> tuple[str, str]:
    """What `name_machine` left. Errors: BadStudy."""
    try:
        version, device = json.loads((folder / MACHINE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BadStudy(
            f"{folder} does not say which machine trained its steps ({e}); bring the steps of a run with --train-only"
        ) from None
    return version, device

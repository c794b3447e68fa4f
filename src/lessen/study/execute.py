"""Runs a study in this process: recipes form a prefix tree, walked depth first, and each trial ends as a row."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lessen import catalog
from lessen.core.errors import BadArtifact, BadStudy, DiskFull, LessenError
from lessen.core.recipe import Recipe
from lessen.core.record import Measurement, Record
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.core.text import with_args
from lessen.core.trial import Trial
from lessen.store import Store
from lessen.study.agree import agree
from lessen.study.lock import alone_in, while_nothing_is_timed
from lessen.study.plan import Study
from lessen.study.steps import Place, Steps
from lessen.study.watch import Now, Watch

if TYPE_CHECKING:
    from lessen.artifact import Artifact

BASELINE = Recipe()
FULL = (errno.ENOSPC, errno.EDQUOT)


def run(
    study: Study, folder: str | Path, *, watch: Watch | None = None, steps: Path | None = None,
    train_only: bool = False, trained: Path | None = None,
) -> list[Trial]:  # fmt: skip
    """Run what is not done yet and return all rows of the folder; `steps` is a step cache to share with other studies.

    train_only: make the steps, but no file and no row, as on a machine with a GPU; of those that fail, what would be
    their rows is returned. trained: the steps folder of such a run; what is packed and measured is in it, and nothing
    is trained here.
    A trial that fails is a row with its error, and the study goes on. Run again, a failed one is tried again: the
    same error adds no row. Errors: Busy, BadStudy, and those of the task. Ctrl-C leaves everything that is done.
    """
    return Executor(study, folder, watch=watch, steps=steps, train_only=train_only, trained=trained).run()


@dataclass(frozen=True)
class Chain:
    """One trial to make: its recipe, and all steps of its model, the baseline's first."""

    recipe: Recipe
    seed: int
    steps: tuple[Technique, ...]

    @property
    def name(self) -> str:
        """A file name for people, made unique by a hash of the recipe."""
        text = str(self.recipe)
        if not text:
            return f"baseline-{self.seed}"
        readable = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60]
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:6]}-{self.seed}"


def branches(chains: Sequence[Chain], depth: int) -> list[tuple[Technique, list[Chain]]]:
    """The chains that go on at this depth, by their next technique, in the order given."""
    found: dict[Technique, list[Chain]] = {}
    for chain in chains:
        if len(chain.steps) > depth:
            found.setdefault(chain.steps[depth], []).append(chain)
    return list(found.items())


def is_full(error: Exception) -> bool:
    """Whether the disk was full: nothing that follows could be written either."""
    told = isinstance(error, DiskFull) or getattr(error, "errno", None) in FULL
    return told or "No space left" in str(error)  # safetensors keeps no number


class Executor:
    """One study in one run folder. `pack` and `measure` are the rooms of those names unless given."""

    def __init__(
        self,
        study: Study,
        folder: str | Path,
        *,
        watch: Watch | None = None,
        steps: Path | None = None,
        train_only: bool = False,
        trained: Path | None = None,
        pack: Callable[..., Artifact] | None = None,
        measure: Callable[..., Measurement] | None = None,
    ) -> None:
        self.study, self.folder = study, Path(folder)
        self.watch = watch or Watch()
        self.cache, self.brought, self.train_only = trained or steps or self.folder / "steps", bool(trained), train_only
        self.pack, self.measure = pack or _pack, measure or _measure
        self.baselines: dict[int, Artifact] = {}

    @cached_property
    def task(self) -> Task:
        from lessen.tasks import task

        return task(with_args(self.study.task, final=True) if self.study.final else self.study.task)

    @cached_property
    def baseline(self) -> Recipe:
        return catalog.recipe(self.study.baseline or self.task.baseline)

    def run(self) -> list[Trial]:
        """Walk every seed's tree; the rows of the whole folder."""
        self._look_first()
        with alone_in(self.folder), Store(self.folder / "study.db") as self.store, training_threads(self.study.threads):
            self.steps = Steps(self.cache, self.task, self.study.threads, brought=self.brought)
            kept = self.store.trials() if self.store.path.is_file() else []
            self.rows = {trial.key: trial for trial in kept if trial.status == "done" or not self.train_only}
            roots = [(self.steps.start(self.study.model, seed), self._waiting(seed)) for seed in self.study.seeds]
            starts = {place.seed: self._baseline_of(place).key for place, chains in roots if chains}
            agree(self.study, self.task, str(self.baseline), starts, self.store, self.folder)
            if self.train_only:
                self.steps.name_machine()
            self.left = sum((Counter(self._ahead(place, chains)) for place, chains in roots), Counter())
            self.watch.started(self.study, kept)
            try:
                for place, chains in roots:
                    self._visit(place, chains, 0)
            finally:
                self.watch.stopped()
            return list(self.rows.values()) if self.train_only else self.store.trials()

    def _look_first(self) -> None:
        """A misspelt task or model leaves no folder behind that then belongs to it. Makes the run folder."""
        with self.task.seeded(0):
            self.task.build(self.study.model)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            reason = "it is a file" if self.folder.is_file() else f"{e.strerror}: {e.filename}"
            raise BadStudy(f"{self.folder} cannot be a run folder ({reason}); name another") from None

    def _waiting(self, seed: int) -> list[Chain]:
        recipes = [BASELINE, *map(catalog.recipe, self.study.everything)]
        chains = [Chain(recipe, seed, (*self.baseline, *recipe)) for recipe in recipes]
        done = {key for key, trial in self.rows.items() if trial.status == "done"}
        return [chain for chain in chains if (str(chain.recipe), seed) not in done]

    def _baseline_of(self, place: Place) -> Place:
        """Where the recipes of that seed start from; nothing is made."""
        for technique in self.baseline:
            place = self.steps.after(place, technique)
        return place

    def _ahead(self, place: Place, chains: Sequence[Chain], depth: int = 0) -> Iterator[str]:
        """Kinds of the work that these chains need from there on, in order."""
        place = place.as_baseline() if depth == len(self.baseline) else place
        yield from ("measure" for chain in chains if len(chain.steps) == depth and not self.train_only)
        for technique, group in branches(chains, depth):
            child = self.steps.after(place, technique)
            if not self.steps.has(child):
                yield type(technique).__name__
            yield from self._ahead(child, group, depth + 1)

    def _visit(self, place: Place, chains: Sequence[Chain], depth: int) -> None:
        """All these chains begin with what `place` has been through."""
        if depth == len(self.baseline):
            place = place.as_baseline()
        for chain in chains:
            if len(chain.steps) == depth and not self.train_only:
                self._trial(chain, place)
        for technique, group in branches(chains, depth):
            before = Counter(self._ahead(place, group, depth))
            first, step = group[0], depth + 1
            now = Now(str(first.recipe), first.seed, step, len(first.steps) + 2, str(technique), left=self.left)
            self.watch.step(now)
            try:
                child = self._take(place, technique, self._progress(now))
            except Exception as e:
                self.left -= before
                for chain in group:
                    self._fail(chain, place.records, e, self._where(chain, step))
            else:
                self.left -= before - Counter(self._ahead(child, group, step))
                self._visit(child, group, step)

    def _take(self, place: Place, technique: Technique, progress: Callable[[float, str], None]) -> Place:
        with while_nothing_is_timed(f"training for {self.folder}", progress):
            return self.steps.take(place, technique, progress)

    def _progress(self, now: Now) -> Callable[[float, str], None]:
        return lambda share, note: self.watch.step(replace(now, share=share, note=note, left=self.left))

    def _where(self, chain: Chain, step: int) -> str:
        own = step - len(self.baseline)
        return "the baseline" if own <= 0 else f"step {own} of {len(chain.recipe)}, {chain.recipe.steps[own - 1]}"

    def _trial(self, chain: Chain, place: Place) -> None:
        start, steps = time.perf_counter(), len(chain.steps)
        now = Now(str(chain.recipe), chain.seed, steps + 1, steps + 2, "pack", left=self.left)
        predictions = self.folder / "predictions" / f"{chain.name}.npz"
        predictions.parent.mkdir(exist_ok=True)
        self.watch.step(now)
        where = "packing the baseline"
        try:
            parent = self._parent(place) if len(chain.recipe) else None
            where = "packing"
            with while_nothing_is_timed(f"packing for {self.folder}", self._progress(now)):
                artifact = self._pack(chain, place, parent)
            where = "measuring"
            now = replace(now, step=steps + 2, text="measure")
            self.watch.step(now)
            seen = self.measure(
                artifact, self.task, target=self.study.target, baseline=parent or artifact, predictions=predictions,
                tell=partial(self._progress(now), 0.0),
            )  # fmt: skip
        except Exception as e:
            self._fail(chain, place.records, e, where)
        else:
            self._row(
                chain, place.records, status="done", measurement=seen, artifact=f"artifacts/{chain.name}",
                predictions=f"predictions/{predictions.name}", seconds=time.perf_counter() - start,
            )  # fmt: skip
        self.left -= Counter(["measure"])

    def _pack(self, chain: Chain, place: Place, parent: Artifact | None) -> Artifact:
        folder = self.folder / "artifacts" / chain.name
        shutil.rmtree(folder, ignore_errors=True)  # packed, but killed before its row was written: made again, the same
        return self.pack(
            place.model, self.task, folder, recipe=str(chain.recipe), seed=chain.seed, records=place.records,
            parent=parent,
        )  # fmt: skip

    def _parent(self, place: Place) -> Artifact:
        """The baseline's artifact of this seed: what every recipe is compared with. Packed again when it was lost."""
        from lessen.artifact import load

        if place.seed not in self.baselines:
            chain = Chain(BASELINE, place.seed, self.baseline.steps)
            try:
                self.baselines[place.seed] = load(self.folder / "artifacts" / chain.name)
            except BadArtifact:
                self.baselines[place.seed] = self._pack(chain, place.origin or place, None)
        return self.baselines[place.seed]

    def _fail(self, chain: Chain, records: tuple[Record, ...], error: Exception, where: str) -> None:
        line = " ".join(str(error).split())
        if is_full(error):
            raise BadStudy(
                f"a disk is full ({line}); what is done is kept; free some space, in {self.folder} or where TMPDIR "
                "points, and run again to go on"
            ) from None
        if not isinstance(error, LessenError):  # a fault of ours or of the user's code: keep what helps to find it
            (self.folder / "errors").mkdir(exist_ok=True)
            text = "".join(traceback.format_exception(error))
            (self.folder / "errors" / f"{chain.name}.txt").write_text(text, encoding="utf-8")
        self._row(chain, records, status="failed", error=f"{type(error).__name__}: {line} (in {where})")

    def _row(self, chain: Chain, records: tuple[Record, ...], *, seconds: float = 0.0, **fields) -> None:
        trial = Trial(
            study=self.study.name, recipe=str(chain.recipe), seed=chain.seed, task=self.task.text,
            task_fingerprint=self.task.fingerprint, model=self.study.model, final=self.study.final, records=records,
            seconds=seconds + sum(r.seconds for r in records), threads=self.study.threads,
            finished=datetime.now(UTC).isoformat(timespec="seconds"), **fields,
        )  # fmt: skip
        last = self.rows.get(trial.key)
        if last is None or (last.status, last.error) != (trial.status, trial.error):
            if not self.train_only:
                self.store.add(trial)
            self.rows[trial.key] = trial
        self.watch.trial(trial)


def _pack(*args, **kwargs) -> Artifact:
    from lessen.artifact import pack  # here, since a machine that only trains may lack the runtimes

    return pack(*args, **kwargs)


def _measure(*args, **kwargs) -> Measurement:
    from lessen.measure import measure

    return measure(*args, **kwargs)


@contextmanager
def training_threads(number: int) -> Iterator[None]:
    """Torch computes with that many threads within, and with as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Measure what is shipped: an artifact's files, loaded from disk by their runtime, in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from lessen.artifact import Artifact, Manifest, load
from lessen.artifact.runtimes import require
from lessen.core import errors, processor
from lessen.core.errors import BadArtifact, BadData, LessenError
from lessen.core.record import TOP1, Measurement, Row, Score
from lessen.core.target import Target
from lessen.core.task import SplitName, Task
from lessen.measure import machine, scoring, sizes
from lessen.measure.quiet import quiet_machine, say
from lessen.measure.worker import Answers, AnswersJob, Latencies, LatencyJob, SplitFiles

HERE = Target()
ENOUGH_RUNS = 30  # fewer timed runs give no claim
CHUNK = 1000  # samples normalized at a time
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Result = TypeVar("Result", bound=Row)


def measure(
    artifact: Artifact | Path | str,
    task: Task | None = None,
    *,
    target: Target = HERE,
    baseline: Artifact | Path | str | None = None,
    predictions: Path | None = None,
    latency: bool = True,
    tell: Callable[[str], None] = say,
) -> Measurement:
    """Score, bytes, cost, latency, memory and operators of an artifact, and the machine they were taken on.

    >>> measure("runs/small", baseline="runs/baseline").latency[0].ratio  # doctest: +SKIP
    0.41

    task: the one that the manifest names, when None. predictions: an npz of `classes` (n,), `probabilities`
    (n, classes) float16 and `targets` (n,) of the test split, written whole. tell: shows who holds the machine.
    Scores are the task's own where it has one (`scoring.own` says how sure they are).
    Latency is taken under the machine's lock. Without a baseline it has no ratio; an artifact measured against
    itself is timed like any other pair, so that its ratio shows the machine's noise around 1.
    Peak memory is the rise in the fresh process's resident memory, above what it was with the runtime imported,
    while the file is loaded and run at the target's first batch size.
    Errors: BadArtifact, BadData, LessenError.
    """
    require(target.runtime)
    artifact = _opened(artifact)
    reference = None if baseline is None else _opened(baseline)
    if task is None:
        from lessen.tasks import task as named

        task = named(artifact.manifest.task)
    notes = _fit(artifact, task)
    with tempfile.TemporaryDirectory(prefix="lessen-measure-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        splits = _stored(task, folder)
        if "test" not in splits:
            raise BadData(f"task '{task.text}' has no test samples to measure on; give it a test split")
        found = _answer(artifact, target, splits, predictions, folder, task.scored_by != TOP1)
        scores = {name: _score(found, name, task, folder) for name in splits}
        timed = _time(artifact, reference, target, splits["test"].x, folder, tell) if latency else None
    manifest = artifact.manifest
    claims = sizes.contradictions(artifact.runnable, manifest.cost)
    doubts = (*notes, *claims, *_doubts(found, timed, target, manifest))
    return Measurement(
        validation=scores.get("validation"), test=scores["test"],
        bytes=sizes.count(artifact.folder, artifact.runnable), cost=manifest.cost,
        latency=timed.rows if timed else (), peak_memory_mib=round(found.peak_memory_mib, 2),
        machine=machine.describe(target.threads, found.runtime), operators=found.operators,
        notes=(*manifest.notes, *doubts),
    )  # fmt: skip


def _opened(artifact: Artifact | Path | str) -> Artifact:
    return load(artifact) if isinstance(artifact, str | os.PathLike) else artifact


def _fit(artifact: Artifact, task: Task) -> tuple[str, ...]:
    """A note where the data are not those it was made with. Errors: BadArtifact where it cannot take them."""
    manifest = artifact.manifest
    if (tuple(manifest.shape), len(manifest.classes)) != (tuple(task.shape), len(task.classes)):
        raise BadArtifact(
            f"{artifact.folder} takes {tuple(manifest.shape)} and knows {len(manifest.classes)} classes, but task "
            f"'{task.text}' gives {tuple(task.shape)} and {len(task.classes)}; measure it on '{manifest.task}'"
        )
    if manifest.task_fingerprint != task.fingerprint:
        return (
            f"measured on '{task.text}', whose data or splits differ from those that it was made with; "
            "images that are scored may be among those that it was trained on",
        )
    return ()


def _stored(task: Task, folder: Path) -> dict[SplitName, SplitFiles]:
    """Files of the splits that are measured, but for empty ones."""
    names: tuple[SplitName, ...] = ("validation", "test")
    return {name: files for name in names if (files := _store(task, name, folder))}


def _store(task: Task, name: SplitName, folder: Path) -> SplitFiles | None:
    """Write a split as the model takes it, a chunk at a time; None when it is empty."""
    split = task.split(name)
    if not len(split.y):
        return None
    files = SplitFiles(x=folder / f"{name}-x.npy", y=folder / f"{name}-y.npy")
    try:
        np.save(files.y, np.asarray(split.y))
        with files.x.open("wb") as stream:  # no memory map: on a full disk that ends the process
            for start in range(0, len(split.y), CHUNK):
                part = np.ascontiguousarray(task.inputs(split.x[start : start + CHUNK]), np.dtype("<f4"))
                if start == 0:
                    shape = (len(split.y), *part.shape[1:])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(part.data)
    except OSError as e:
        raise LessenError(
            f"the {name} samples cannot be written to {folder} ({e.strerror or e}); free space there or set TMPDIR"
        ) from None
    return files


def _answer(
    artifact: Artifact,
    target: Target,
    splits: dict[SplitName, SplitFiles],
    predictions: Path | None,
    folder: Path,
    keep: bool,
) -> Answers:
    """Run the splits; where asked to `keep` them, their outputs stay in the folder."""
    if predictions:
        predictions = Path(predictions).absolute()
        predictions.parent.mkdir(parents=True, exist_ok=True)
    job = AnswersJob(
        files=_absolute(artifact), runtime=target.runtime, threads=target.threads, splits=splits,
        memory_batch=target.batches[0] if target.batches else 1, predictions=predictions,
        outputs=folder if keep else None,
    )  # fmt: skip
    return _work(job, Answers, folder, artifact.folder)


def _time(
    artifact: Artifact, reference: Artifact | None, target: Target, x: Path, folder: Path, tell: Callable[[str], None]
) -> Latencies:
    job = LatencyJob(
        files=_absolute(artifact), baseline=_absolute(reference) if reference else (), runtime=target.runtime,
        threads=target.threads, x=x, batches=target.batches, runs=target.runs,
    )  # fmt: skip
    with quiet_machine(f"timing {artifact.folder}", tell=tell) as lock:
        return _work(job, Latencies, folder, artifact.folder, lock)


def _absolute(artifact: Artifact) -> tuple[Path, ...]:
    return tuple(file.absolute() for file in artifact.runnable)


def _work(job: Row, kind: type[Result], folder: Path, of: Path, lock: int | None = None) -> Result:
    """Run the job in a fresh process, which holds the lock too, so that it outlives this process no unlocked."""
    (folder / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    threads = str(job.model_dump()["threads"])
    home = str(Path(errors.__file__).parents[2])  # where this package lies, wherever the process starts
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lessen.measure.worker", str(folder / "job.json")],
        env={**os.environ, **dict.fromkeys(THREAD_SETTINGS, threads), "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        pass_fds=() if lock is None else (lock,), check=False,
    )  # fmt: skip
    if done.returncode:
        raise _death(done.returncode, done.stderr.decode(errors="replace"), of)
    return kind.model_validate_json((folder / "result.json").read_bytes())


def _death(code: int, stderr: str, of: Path) -> LessenError:
    """What the worker's last line says; one of our own errors comes back as itself."""
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
    name, _, text = last.partition(": ")
    kind = getattr(errors, name.removeprefix("lessen.core.errors."), None)
    if kind in (LessenError, BadArtifact):
        return kind(text)
    if code < 0:
        number = -code
        known = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        mend = "; the machine may be out of memory" if number == signal.SIGKILL else ""
        last = f"killed by {known}{mend}" + (f" ({last})" if last else "")
    return LessenError(f"measuring {of} failed: {last or f'exit code {code}'}")


def _score(found: Answers, split: SplitName, task: Task, folder: Path) -> Score:
    """By the task's own score where it has one."""
    if task.scored_by == TOP1:
        return scoring.top1(found.right[split], found.n[split])
    return scoring.own(task, split, np.load(folder / f"{split}-outputs.npy"))


def _doubts(found: Answers, timed: Latencies | None, target: Target, manifest: Manifest) -> tuple[str, ...]:
    """What a reader must know before trusting the numbers."""
    notes, available = [], len(machine.cpus())
    if found.infinite:
        notes.append(f"{found.infinite} samples got outputs that are not finite; they count as wrong")
    if timed and target.runs < ENOUGH_RUNS:
        notes.append(f"latency from {target.runs} runs, too few for a claim; {ENOUGH_RUNS} are the rule")
    if timed and target.threads > available:
        notes.append(f"{target.threads} threads shared {available} CPUs")
    if manifest.sparse and "CumSum" in found.operators:
        notes.append("this runtime unpacks the sparse weights at every call; pack it with sparse=False for speed")
    integers = any(name.startswith(("Convolution ", "FullyConnected ", "MatMul ")) for name in found.operators)
    if found.runtime.startswith("openvino") and integers and processor.overflows():
        notes.append(
            "this CPU has no VNNI: OpenVINO adds products of 8-bit integers in 16 bits here, and what overflows is "
            "lost; ONNX Runtime is exact"
        )
    return tuple(notes)

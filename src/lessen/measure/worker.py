"""The fresh process that runs an artifact: `python -m lessen.measure.worker JOB.json`. It never imports torch.

A job is a file of JSON; its result is written beside it as `result.json`. A job that fails ends the process
with a traceback, whose last line the parent shows.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from lessen.artifact.runtimes import Session, open_session
from lessen.core.record import Latency, Row
from lessen.core.task import SplitName
from lessen.measure.machine import PeakMemory, pin
from lessen.measure.timing import alternate, latency

SCORE_BATCH = 64  # always the same, so that scores do not depend on the target's batch sizes


class SplitFiles(Row):
    """A split as two .npy files: x (n, *shape) float32, normalized; y (n,) integers."""

    x: Path
    y: Path


class AnswersJob(Row):
    """Run every sample of the splits; `memory_batch` samples a call while the peak of memory is watched."""

    files: tuple[Path, ...]
    runtime: str
    threads: int
    splits: dict[SplitName, SplitFiles]
    memory_batch: int
    predictions: Path | None = None  # npz for the answers to the split "test"
    outputs: Path | None = None  # folder for SPLIT-outputs.npy (n, classes) float32, where the parent scores them


class Answers(Row):
    """Right answers and sample counts by split, and what running it took."""

    right: dict[str, int]
    n: dict[str, int]
    infinite: int  # samples whose outputs are not finite; none of them counts as right
    peak_memory_mib: float
    runtime: str
    operators: dict[str, int]


class LatencyJob(Row):
    """Time the files at every batch size, by turns with the baseline's (when there are any)."""

    files: tuple[Path, ...]
    baseline: tuple[Path, ...]
    runtime: str
    threads: int
    x: Path
    batches: tuple[int, ...]
    runs: int


class Latencies(Row):
    """The times, and the CPUs that the process was bound to (none where that is not allowed)."""

    rows: tuple[Latency, ...]
    pinned: tuple[int, ...]


def answers(job: AnswersJob) -> Answers:
    """Memory first, while the process is fresh; then one pass gives scores and predictions."""
    batch = _batch(job.splits["test"].x, job.memory_batch)
    import_module(job.runtime)
    memory = PeakMemory()
    session = open_session(job.files, job.runtime, job.threads)
    for _ in range(3):
        session.run(batch)
    peak, right, n, infinite = memory.growth_mib(), {}, {}, 0
    for name, split in job.splits.items():
        targets = np.load(split.y)
        outputs = _outputs(session, np.load(split.x, mmap_mode="r"))
        finite, classes = np.isfinite(outputs).all(1), outputs.argmax(1)
        right[name], n[name] = int(((classes == targets) & finite).sum()), len(targets)
        infinite += int((~finite).sum())
        if job.outputs:
            np.save(job.outputs / f"{name}-outputs.npy", outputs.astype("f4", copy=False))
        if name == "test" and job.predictions:
            _write(job.predictions, classes=classes, probabilities=softmax(outputs), targets=targets)
    return Answers(
        right=right, n=n, infinite=infinite, peak_memory_mib=peak, runtime=session.name, operators=session.operators()
    )


def latencies(job: LatencyJob) -> Latencies:
    """Bind the process first: a session's threads inherit its CPUs."""
    pinned = pin(job.threads)
    groups = [files for files in (job.files, job.baseline) if files]
    sessions = [open_session(files, job.runtime, job.threads) for files in groups]
    rows = []
    for size in job.batches:
        x = _batch(job.x, size)
        calls = [lambda session=session, x=x: session.run(x) for session in sessions]
        rows.append(latency(size, alternate(calls, job.runs)))
    return Latencies(rows=tuple(rows), pinned=pinned)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, classes) logits -> float16 probabilities, half the bytes and finer than any test set can resolve."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        return (powers / powers.sum(1, keepdims=True)).astype(np.float16)


def _outputs(session: Session, x: np.ndarray) -> np.ndarray:
    parts = range(0, len(x), SCORE_BATCH)
    return np.concatenate([session.run(np.ascontiguousarray(x[i : i + SCORE_BATCH])) for i in parts])


def _batch(file: Path, size: int) -> np.ndarray:
    """The first `size` samples in memory of their own, from the start again where there are too few."""
    x = np.load(file, mmap_mode="r")
    return np.ascontiguousarray(x[np.arange(size) % len(x)])


def _write(file: Path, **arrays: np.ndarray) -> None:
    """Whole or not there: written under another name, then renamed."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def main(file: Path) -> None:
    """Do the job in `file` and write its result beside it."""
    parent = os.getppid()
    try:
        job = TypeAdapter[AnswersJob | LatencyJob](AnswersJob | LatencyJob).validate_json(file.read_bytes())
        result = answers(job) if isinstance(job, AnswersJob) else latencies(job)
        file.with_name("result.json").write_text(result.model_dump_json(), encoding="utf-8")
    finally:
        if os.getppid() != parent:  # it was killed, and nobody else will clear up
            shutil.rmtree(file.parent, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

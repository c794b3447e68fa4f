"""The worker as a process: what it imports, how it pins itself, and what it measures of its own memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lessen.measure import machine
from lessen.measure.worker import Answers, AnswersJob, Latencies, LatencyJob, SplitFiles, softmax


def python(script: str, *args: object) -> str:
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def files(make_artifact, tmp_path: Path):
    """An artifact's files and its inputs on disk."""
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, np.random.default_rng(0).normal(size=(5, 1, 3, 3)).astype("f4"))
    np.save(y, np.zeros(5, "i8"))
    return make_artifact().runnable, SplitFiles(x=x, y=y)


def test_a_whole_job_imports_no_torch(files, tmp_path: Path) -> None:
    runnable, split = files
    job = tmp_path / "job.json"
    script = (
        "import sys; from pathlib import Path; from lessen.measure.worker import main; main(Path(sys.argv[1])); "
        "print(sorted({'torch', 'onnx', 'scipy', 'sklearn', 'lightning_fabric'} & set(sys.modules)))"
    )
    answers = AnswersJob(files=runnable, runtime="onnxruntime", threads=1, splits={"test": split}, memory_batch=1)
    job.write_text(answers.model_dump_json())
    assert python(script, job) == "[]\n"
    found = Answers.model_validate_json((tmp_path / "result.json").read_bytes())
    assert found.n == {"test": 5}
    assert found.operators["MatMul"] == 1
    timing = LatencyJob(
        files=runnable, baseline=runnable, runtime="onnxruntime", threads=1, x=split.x, batches=(1, 12), runs=2
    )  # 12 samples from 5: the file's samples come again
    job.write_text(timing.model_dump_json())
    assert python(script, job) == "[]\n"
    rows = Latencies.model_validate_json((tmp_path / "result.json").read_bytes())
    assert [(row.batch, row.n) for row in rows.rows] == [(1, 2), (12, 2)]
    assert len(rows.pinned) == (1 if len(machine.cpus()) > 1 else 0)


def test_an_orphan_clears_up(files, tmp_path: Path) -> None:
    """When the parent was killed, the job's folder goes with the worker."""
    runnable, split = files
    folder = tmp_path / "job"
    folder.mkdir()
    job = AnswersJob(files=runnable, runtime="onnxruntime", threads=1, splits={"test": split}, memory_batch=1)
    (folder / "job.json").write_text(job.model_dump_json())
    python(
        "import os, sys; from pathlib import Path; from lessen.measure import worker\n"
        "parents = iter([1, 2]); worker.os.getppid = lambda: next(parents)\n"
        "worker.main(Path(sys.argv[1]))",
        folder / "job.json",
    )
    assert not folder.exists()


def test_softmax() -> None:
    found = softmax(np.array([[0.0, np.log(3)], [1000.0, 0.0]], "f4"))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, [[0.25, 0.75], [1.0, 0.0]], atol=5e-4)
    assert np.isnan(softmax(np.array([[np.nan, 1.0]]))).all()


def test_pinning_binds_the_process() -> None:
    script = (
        "import os, json; from lessen.measure import machine; "
        "print(json.dumps([machine.pin(1), sorted(os.sched_getaffinity(0)), machine.pin(1)]))"
    )
    pinned, bound, again = json.loads(python(script))
    allowed = sorted(os.sched_getaffinity(0))
    assert pinned == ([] if len(allowed) == 1 else bound)
    assert len(bound) == 1
    assert bound[0] in allowed
    assert again == []  # nothing is left to choose


def test_cores_come_before_their_second_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[list[int]] = []
    monkeypatch.setattr(machine, "cpus", lambda: set(range(8)))  # 0 and 4 share a core, 1 and 5, ...
    monkeypatch.setattr(machine, "_siblings", lambda cpu: str(cpu % 4))
    monkeypatch.setattr(machine.os, "sched_setaffinity", lambda pid, cpus: chosen.append(list(cpus)))
    assert machine.pin(2) == (7, 6)
    assert machine.pin(5) == (7, 6, 5, 4, 3)
    assert machine.pin(8) == ()
    assert chosen == [[7, 6], [7, 6, 5, 4, 3]]


def test_where_pinning_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, cpus: list[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(machine, "cpus", lambda: {0, 1})
    monkeypatch.setattr(machine.os, "sched_setaffinity", forbidden)
    assert machine.pin(1) == ()


def test_peak_memory_is_the_rise_and_not_the_parents() -> None:
    """The process had 300 MB before, and its parent more; only the 80 MB between count, freed or not."""
    ballast = b"1" * 400_000_000
    script = (
        "from lessen.measure.machine import PeakMemory\n"
        "old = b'1' * 300_000_000; del old\n"
        "memory = PeakMemory()\n"
        "new = b'1' * 80_000_000; del new\n"
        "print(memory.growth_mib())"
    )
    found = float(python(script))
    del ballast
    assert 70 < found < 90


def test_the_machines_description() -> None:
    found = machine.describe(2, "onnxruntime 1")
    assert found.cpu
    assert (found.cores, found.threads, found.runtime) == (len(os.sched_getaffinity(0)), 2, "onnxruntime 1")
    assert found.memory_gib > 0.1
    assert found.python == ".".join(map(str, sys.version_info[:3]))

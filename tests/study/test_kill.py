"""Kill -9 at random moments, resumed each time: the rows are those of a study that nobody disturbed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_studies import small

from lessen.core.trial import Trial
from lessen.store import Store

# One process imports torch and forks: each fork runs the study, and is killed after its delay.
RUNNER = """
import json, os, signal, sys, tempfile, time
from lessen.study import Study, run
from lessen import artifact, measure, models, tasks
from lessen.ops import checkpoints, train
import lessen.distill.finetune, lessen.prune.magnitude_prune, lessen.quantize.int8

study, folder, delays = Study.read(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
tempfile.tempdir = sys.argv[4]  # a machine lock of our own: tests beside this one do not wait for it
checkpoints.SECONDS = 0.0  # so that short trainings leave a checkpoint, too
for delay in [*delays, None]:
    start, child = time.monotonic(), os.fork()
    if child == 0:
        code = 1
        try:
            run(study, folder)
            code = 0
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - start, flush=True)
"""


def execute(study: Path, folder: Path, delays: list[float]) -> list[tuple[int, float]]:
    """Exit code and seconds of every run: -9 for a killed one."""
    command = [sys.executable, "-c", RUNNER, str(study), str(folder), json.dumps(delays), str(folder.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(int(code), float(seconds)) for code, seconds in map(str.split, done.stdout.splitlines())]


def timeless(trial: Trial) -> dict:
    """All columns but times, latency, memory and dates."""
    row = trial.model_dump(exclude={"seconds", "finished"})
    for record in row["records"]:
        del record["seconds"]
        for epoch in record["history"]:
            del epoch["seconds"]
    del row["measurement"]["latency"], row["measurement"]["peak_memory_mib"]
    return row


def check(tmp_path: Path, recipes: tuple[str, ...], seeds: tuple[int, ...], kills: int) -> None:
    study, calm, rough = tmp_path / "study.yaml", tmp_path / "calm", tmp_path / "rough"
    plan = small(*recipes, seeds=seeds, baseline="Finetune(epochs=2, lr=0.1, batch=32)")
    target = plan.target.model_copy(update={"runs": 3, "batches": (1,)})
    study.write_text(plan.model_copy(update={"target": target}).text())

    ((code, whole),) = execute(study, calm, [])
    assert code == 0
    moments = random.Random(0)
    ended = execute(study, rough, [moments.uniform(0.0, 2 * whole / kills) for _ in range(kills)])
    assert [code for code, _ in ended][-1] == 0 and sum(code == -9 for code, _ in ended) >= min(kills, 2)

    wanted, found = (Store(folder / "study.db").trials() for folder in (calm, rough))
    assert len(wanted) == (1 + len(recipes)) * len(seeds) and all(t.status == "done" for t in wanted)
    assert [timeless(t) for t in found] == [timeless(t) for t in wanted]
    for trial in wanted:
        ours, theirs = (np.load(folder / trial.predictions) for folder in (calm, rough))
        assert set(ours) == set(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)
        for file in (calm / trial.artifact).iterdir():
            assert file.read_bytes() == (rough / trial.artifact / file.name).read_bytes(), file.name
    assert not [f.name for f in (rough / "steps").iterdir() if "." in f.name], "a step was left half done"


def test_kill_9_loses_nothing(tmp_path):
    check(tmp_path, ("MagnitudePrune() >> Finetune(epochs=1)",), (0,), kills=3)


@pytest.mark.slow
def test_kill_9_at_ten_moments_loses_nothing(tmp_path):
    recipes = ("MagnitudePrune() >> Finetune(epochs=2)", "MagnitudePrune() >> Int8()", "Int8() >> Finetune(epochs=1)")
    check(tmp_path, recipes, (0, 1), kills=10)

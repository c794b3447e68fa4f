"""A study does everything once, writes failures down and goes on, and a folder belongs to one study and one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_studies import small

from lessen.catalog import recipe
from lessen.core.errors import BadStudy, Busy, DiskFull, Diverged, LessenError, Refused
from lessen.core.technique import Technique
from lessen.core.trial import Trial
from lessen.distill.finetune import Finetune
from lessen.prune.magnitude_prune import MagnitudePrune
from lessen.store import Store
from lessen.study import Now, Study, Watch, run
from lessen.study.execute import Chain, Executor, branches

PRUNE, QUANTIZE = str(MagnitudePrune()), "Int8()"


@pytest.fixture
def execute(tmp_path, rooms):
    def go(study: Study, watch: Watch | None = None, folder: Path = tmp_path / "run") -> list[Trial]:
        return Executor(study, folder, watch=watch, pack=rooms.pack, measure=rooms.measure).run()

    return go


@pytest.fixture
def applied(monkeypatch):
    seen: list[str] = []
    original = Technique.apply
    monkeypatch.setattr(Technique, "apply", lambda self, *a, **k: (seen.append(str(self)), original(self, *a, **k))[1])
    return seen


def test_branches_keep_the_order_and_join_equal_beginnings():
    recipes = [recipe(text) for text in (f"{PRUNE} >> {QUANTIZE}", QUANTIZE, PRUNE)]
    chains = [Chain(each, 0, each.steps) for each in recipes]
    found = [(str(technique), [str(c.recipe) for c in group]) for technique, group in branches(chains, 0)]
    assert found == [(PRUNE, [f"{PRUNE} >> {QUANTIZE}", PRUNE]), (QUANTIZE, [QUANTIZE])]
    assert [str(t) for t, _ in branches(chains, 1)] == [QUANTIZE]


def test_baselines_first_then_depth_first(execute, rooms, applied):
    trials = execute(small(f"{PRUNE} >> {QUANTIZE}", QUANTIZE, PRUNE, seeds=(0, 1)))
    order = ["", PRUNE, f"{PRUNE} >> {QUANTIZE}", QUANTIZE]
    assert [t.key for t in trials] == [(text, seed) for seed in (0, 1) for text in order]
    assert all(t.status == "done" and t.measurement for t in trials)
    assert applied == ["Finetune(epochs=0)", PRUNE, QUANTIZE, QUANTIZE] * 2
    assert [r.technique for r in trials[2].records] == ["Finetune(epochs=0)", PRUNE, QUANTIZE]


def test_nothing_done_is_done_twice(execute, rooms, applied):
    first = execute(small(PRUNE))
    did = (list(applied), list(rooms.measured))
    assert execute(small(PRUNE)) == first
    assert (applied, rooms.measured) == did


def test_recipes_and_seeds_may_be_added(execute, rooms, applied):
    execute(small(PRUNE))
    trials = execute(small(PRUNE, f"{PRUNE} >> {QUANTIZE}", seeds=(0, 1)))
    assert len(trials) == 6 and {t.status for t in trials} == {"done"}
    assert applied[:3] == ["Finetune(epochs=0)", PRUNE, QUANTIZE] and len(applied) == 6


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"model": "cnn(width=0.25)"}, "its model is 'cnn(width=0.125)', here it is 'cnn(width=0.25)'"),
        ({"baseline": "Finetune(epochs=1)"}, "its baseline is 'Finetune(epochs=0)'"),
        ({"task": "digits(seed=1)"}, "its task is 'digits'"),
        ({"threads": 2}, "its threads is 1, here it is 2"),
        ({"final": True}, "its final is False"),
    ],
)
def test_a_folder_belongs_to_one_study(execute, changed, message):
    execute(small())
    with pytest.raises(BadStudy) as caught:
        execute(small(**changed))
    assert message in str(caught.value) and "name another run folder" in str(caught.value)


def test_other_data_are_another_study(tmp_path, rooms):
    first = Executor(small(), tmp_path / "run", pack=rooms.pack, measure=rooms.measure)
    first.run()
    later = Executor(small(), tmp_path / "run", pack=rooms.pack, measure=rooms.measure)
    later.task.fingerprint = "other"
    with pytest.raises(BadStudy, match="made by another study: its data differ; name"):
        later.run()


def test_nothing_is_added_beside_a_baseline_that_other_code_trained(execute, rooms, monkeypatch):
    """Done rows stay and are shown; a seed of its own may still be added."""
    first = execute(small(PRUNE))
    monkeypatch.setattr("lessen.study.steps.rooms", lambda *names: "changed code")
    assert execute(small(PRUNE)) == first
    with pytest.raises(BadStudy, match="rows of seed 0 whose baseline was trained by other code or on another machine"):
        execute(small(PRUNE, QUANTIZE))
    assert len(execute(small(PRUNE, seeds=(0, 1)))) == 4
    monkeypatch.undo()
    assert execute(small(PRUNE, QUANTIZE))[-1].recipe == QUANTIZE


def test_code_that_was_mended_may_train_a_failed_baseline_again(execute, rooms, monkeypatch):
    rooms.fail[""] = ValueError("a fault of the user's module")
    assert execute(small())[0].status == "failed"
    rooms.fail.clear()
    monkeypatch.setattr("lessen.study.steps.rooms", lambda *names: "mended code")
    assert [t.status for t in execute(small(PRUNE)) if t.status == "done"] == ["done"] * 2


def test_a_failing_step_fails_all_that_begin_with_it_and_no_other(execute, monkeypatch, tmp_path):
    def diverge(self, model, task, run):
        raise Diverged("the loss was nan\nat step 3; lower lr")

    monkeypatch.setattr(MagnitudePrune, "_apply", diverge)
    rows = {t.recipe: t for t in execute(small(PRUNE, f"{QUANTIZE} >> {PRUNE}", f"{PRUNE} >> {QUANTIZE}", QUANTIZE))}
    assert rows[PRUNE].error == f"Diverged: the loss was nan at step 3; lower lr (in step 1 of 1, {PRUNE})"
    assert rows[f"{PRUNE} >> {QUANTIZE}"].error.endswith(f"(in step 1 of 2, {PRUNE})")
    assert rows[f"{QUANTIZE} >> {PRUNE}"].error.endswith(f"(in step 2 of 2, {PRUNE})")
    assert len(rows[f"{QUANTIZE} >> {PRUNE}"].records) == 2 and rows[PRUNE].measurement is None
    assert rows[""].status == rows[QUANTIZE].status == "done"
    assert not (tmp_path / "run" / "errors").exists()


def test_a_failing_baseline_fails_its_seed(execute, monkeypatch):
    def refuse(self, model, task, run):
        raise Refused("precision 16 needs a GPU; leave it out")

    monkeypatch.setattr(Finetune, "_apply", refuse)
    trials = execute(small(PRUNE))
    assert [t.status for t in trials] == ["failed", "failed"]
    assert all(t.error.endswith("(in the baseline)") for t in trials)


def test_an_unexpected_error_is_a_row_and_keeps_its_traceback(execute, monkeypatch, tmp_path):
    monkeypatch.setattr(MagnitudePrune, "_apply", lambda *a: 1 / 0)
    trials = execute(small(PRUNE, QUANTIZE))
    assert [t.status for t in trials] == ["done", "failed", "done"]
    assert trials[1].error == f"ZeroDivisionError: division by zero (in step 1 of 1, {PRUNE})"
    (file,) = (tmp_path / "run" / "errors").iterdir()
    assert "Traceback" in file.read_text()


def test_a_failed_trial_is_tried_again_and_the_same_error_adds_no_row(execute, rooms, tmp_path):
    def attempts():
        import sqlite3

        with sqlite3.connect(tmp_path / "run" / "study.db") as db:
            return db.execute("SELECT attempt, status FROM trials WHERE recipe <> '' ORDER BY id").fetchall()

    rooms.fail = {PRUNE: LessenError("no luck")}
    execute(small(PRUNE))
    execute(small(PRUNE))
    assert attempts() == [(1, "failed")]
    rooms.fail = {}
    assert [t.status for t in execute(small(PRUNE))] == ["done", "done"]
    assert attempts() == [(1, "failed"), (2, "done")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), DiskFull("the disk is full: x")])
def test_a_full_disk_stops_the_study_and_keeps_what_is_done(execute, rooms, error):
    rooms.fail = {PRUNE: error}
    with pytest.raises(BadStudy, match=r"a disk is full .*; what is done is kept; free some space"):
        execute(small(QUANTIZE, PRUNE))
    rooms.fail = {}
    assert [t.status for t in execute(small(QUANTIZE, PRUNE))] == ["done"] * 3
    assert len(rooms.measured) == 3


def test_ctrl_c_stops_at_once_and_keeps_what_is_done(execute, rooms, monkeypatch):
    class Interrupts(Watch):
        ended = 0

        def trial(self, trial: Trial) -> None:
            if trial.recipe == PRUNE:
                raise KeyboardInterrupt

        def stopped(self) -> None:
            self.ended += 1

    watch = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        execute(small(PRUNE, QUANTIZE), watch)
    assert watch.ended == 1 and len(rooms.measured) == 2
    assert len(execute(small(PRUNE, QUANTIZE))) == 3 and len(rooms.measured) == 3


def test_an_artifact_without_its_row_is_packed_again(execute, rooms, tmp_path):
    execute(small())
    stale = tmp_path / "run" / "artifacts" / Chain(recipe(PRUNE), 0, ()).name
    (stale / "left over").mkdir(parents=True)
    assert execute(small(PRUNE))[1].artifact == f"artifacts/{stale.name}"
    assert not (stale / "left over").exists()


def test_the_second_process_learns_who_holds_the_folder(execute, tmp_path):
    (tmp_path / "run").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib; from lessen.study.lock import alone_in\n"
         "with alone_in(pathlib.Path(sys.argv[1])): print('held', flush=True); input()", str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(Busy, match=rf"is in use by process {holder.pid} on \S+ since 2\d\d\d-.* UTC; wait for it"):
            execute(small())
    finally:
        holder.kill()
        holder.communicate()
    assert len(execute(small())) == 1  # a killed holder holds nothing


def test_threads_are_the_studys_and_go_back(execute, monkeypatch):
    import torch

    seen = []
    monkeypatch.setattr(MagnitudePrune, "_apply", lambda s, m, t, r: (seen.append(torch.get_num_threads()), m)[1])
    before = torch.get_num_threads()
    execute(small(PRUNE, threads=2))
    assert seen == [2] and torch.get_num_threads() == before


def test_origin_is_the_baseline_and_done_begins_after_it(execute, monkeypatch):
    import torch

    seen = []

    def look(self, model, task, run):
        seen.append((run.done, run.checkpoint.name.endswith(".partial")))
        same = zip(model.parameters(), run.origin.parameters(), strict=True)
        assert len(seen) > 1 or all(torch.equal(a, b) for a, b in same)
        return model

    monkeypatch.setattr(MagnitudePrune, "_apply", look)
    trials = execute(small(f"{PRUNE} >> MagnitudePrune(sparsity=0.25)"))
    assert [t.status for t in trials] == ["done", "done"]
    assert seen == [((), True), ((PRUNE,), True)]


def test_the_watch_sees_every_step_and_the_work_left(execute):
    class Notes(Watch):
        def __init__(self) -> None:
            self.seen: list[tuple] = []

        def step(self, now: Now) -> None:
            if not now.note:
                self.seen.append((now.recipe, f"{now.step}/{now.steps}", now.text, dict(now.left)))

    watch = Notes()
    execute(small(PRUNE), watch)
    work = {"Finetune": 1, "MagnitudePrune": 1, "measure": 2}
    assert watch.seen == [
        ("", "1/3", "Finetune(epochs=0)", work),
        ("", "2/3", "pack", {"MagnitudePrune": 1, "measure": 2}),
        ("", "3/3", "measure", {"MagnitudePrune": 1, "measure": 2}),
        (PRUNE, "2/4", PRUNE, {"MagnitudePrune": 1, "measure": 1}),
        (PRUNE, "3/4", "pack", {"measure": 1}),
        (PRUNE, "4/4", "measure", {"measure": 1}),
    ]


def test_final_trains_on_all_but_test(execute):
    (trial,) = execute(small(final=True))
    assert trial.final and "final=True" in trial.task


def test_the_real_rooms(tmp_path):
    """One small recipe, packed and measured for real; a lost baseline artifact is packed again, the same."""
    import shutil

    target = small().target.model_copy(update={"runs": 3, "batches": (1,)})
    (first,) = run(small(target=target), tmp_path / "run")
    assert first.status == "done", first.error
    manifest = (tmp_path / "run" / first.artifact / "manifest.json").read_bytes()
    shutil.rmtree(tmp_path / "run" / first.artifact)
    trials = run(small(QUANTIZE, target=target), tmp_path / "run")
    assert [t.status for t in trials] == ["done", "done"], trials[1].error
    seen = trials[1].measurement
    assert first.measurement and first.measurement.latency[0].ratio  # to itself: shows the machine's noise
    assert seen and seen.latency[0].ratio and seen.bytes.runnable < first.measurement.bytes.runnable
    assert (tmp_path / "run" / first.artifact / "manifest.json").read_bytes() == manifest
    assert (tmp_path / "run" / trials[1].predictions).is_file()
    assert Study.read(tmp_path / "run" / "study.yaml") == small(QUANTIZE, target=target)


def test_what_one_machine_trained_another_measures(tmp_path, rooms, applied, monkeypatch):
    study = small(f"{PRUNE} >> {QUANTIZE}", seeds=(0, 1))
    there, here = tmp_path / "there", tmp_path / "here"
    with monkeypatch.context() as gpu:
        gpu.setattr("lessen.study.steps.arithmetic", lambda: ("2.11.0", "NVIDIA H200"))
        assert Executor(study, there, train_only=True, pack=rooms.pack, measure=rooms.measure).run() == []
    assert rooms.measured == [] and len(applied) == 6
    trials = Executor(study, here, trained=there / "steps", pack=rooms.pack, measure=rooms.measure).run()
    assert [t.status for t in trials] == ["done"] * 4 and len(applied) == 6
    more = small(f"{PRUNE} >> {QUANTIZE}", "Int8(samples=8)", seeds=(0, 1))
    added = Executor(more, here, trained=there / "steps", pack=rooms.pack, measure=rooms.measure).run()[4:]
    assert [t.status for t in added] == ["failed"] * 2 and len(applied) == 6
    assert "Int8(samples=8) of seed 0 is not among the steps in" in added[0].error
    assert "(torch 2.11.0 on NVIDIA H200); train it there by --train-only" in added[0].error


def test_steps_of_a_nameless_machine_are_not_taken(tmp_path, rooms):
    with pytest.raises(BadStudy, match="does not say which machine trained its steps"):
        Executor(small(), tmp_path / "run", trained=tmp_path, pack=rooms.pack, measure=rooms.measure).run()


def test_a_failure_of_a_machine_that_only_trains_is_told_and_forgotten_when_mended(tmp_path, rooms, monkeypatch):
    study = small(PRUNE)

    def train() -> list[Trial]:
        return Executor(study, tmp_path / "run", train_only=True, pack=rooms.pack, measure=rooms.measure).run()

    with monkeypatch.context() as broken:
        broken.setattr(MagnitudePrune, "_apply", lambda *_: 1 / 0)
        (failed,) = train()
    assert (failed.recipe, failed.status) == (PRUNE, "failed") and "ZeroDivisionError" in failed.error
    assert train() == []
    with Store(tmp_path / "run" / "study.db") as store:
        assert store.trials() == []

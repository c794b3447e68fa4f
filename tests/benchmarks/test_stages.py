"""The stages of CIFAR-100: every file can be run, and stage.py runs it in pieces and says how far it is."""

from __future__ import annotations

import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import stage

from lessen import catalog
from lessen.core.recipe import Recipe
from lessen.core.run import Run
from lessen.core.text import with_args
from lessen.study import Study
from lessen.study.lock import alone_in
from lessen.tasks import task

ROOT = Path(__file__).parents[2]
STAGES = sorted(file.stem for file in (ROOT / "benchmarks/cifar100").glob("*.yaml"))
DISTINCT = (
    "model", "width", "ratio", "bits", "activations", "ramp", "criterion", "of", "by", "soft", "ranges", "count",
)  # fmt: skip


def briefly(recipe: Recipe) -> tuple[Recipe, tuple]:
    """The recipe with as little training as it takes, and what decides whether it is refused."""
    steps = []
    for step in recipe:
        least = 0 if type(step).neutral and getattr(step, "ramp", "one-shot") == "one-shot" else 1
        less = {name: least for name in stage.EPOCHS if getattr(step, name, 0)}
        steps.append(type(step)(**{**dict(step), **less}))
    seen = tuple((type(s).__name__, *(str(getattr(s, name, "")) for name in DISTINCT)) for s in steps)
    return Recipe(steps=tuple(steps)), seen


@pytest.mark.parametrize("name", STAGES)
def test_no_recipe_of_a_stage_is_refused(name: str, cifar_folder: Path) -> None:
    found = task(f"cifar100(data={str(cifar_folder)!r}, verify=False)")
    study = stage.shrunk(stage.read(name))
    narrow = re.sub(r"width=0.25\)$", "width=0.125)", study.model)
    with found.seeded(0):
        model = found.build(narrow)
    tried = set()
    for text in study.everything:
        recipe, kind = briefly(catalog.recipe(text.replace("width=0.25)'", "width=0.125)'")))
        if kind not in tried:
            tried.add(kind)
            _, records = recipe.apply(model, found, run=Run(origin=model))
            assert len(records) == len(recipe)
    assert bool(tried) == bool(study.everything)


@pytest.mark.parametrize("name", STAGES)
def test_a_rehearsal_is_the_same_study_made_small(name: str) -> None:
    study = stage.read(name)
    small = stage.shrunk(study)
    kinds = [[type(s).__name__ for s in catalog.recipe(r)] for r in study.everything]
    assert [[type(s).__name__ for s in catalog.recipe(r)] for r in small.everything] == kinds
    assert [len(c.arms) for c in small.comparisons] == [len(c.arms) for c in study.comparisons]
    trained = [getattr(s, "epochs", 0) for r in (small.baseline, *small.everything) for s in catalog.recipe(r)]
    assert max(trained) <= 5
    assert (small.seeds, stage.shrunk(study, all_seeds=True).seeds) == (study.seeds[:1], study.seeds)
    assert (small.final, small.model) == (study.final, with_args(study.model, width=0.25))


def test_stages_that_share_a_run_folder_start_from_the_same_nets() -> None:
    for name, other in stage.SHARED.items():
        a, b = stage.read(name), stage.read(other)
        assert (a.task, a.model, a.baseline, a.final, a.seeds) == (b.task, b.model, b.baseline, b.final, b.seeds)
        assert stage.folder(name, a, False) == stage.folder(other, b, False) == Path("runs/cifar100") / other
        assert stage.shrunk(a).baseline == stage.shrunk(b).baseline


def test_the_front_has_eight_recipes_and_more_from_the_baselines_nets() -> None:
    front, baseline = stage.read("front"), stage.read("baseline")
    assert len(front.recipes) >= 8 and front.final and baseline.final and len(baseline.seeds) >= 3
    shorter, whole = (re.sub(r"(epochs|unblended)=\d+", "", stage.read(n).baseline) for n in ("recipes", "baseline"))
    assert shorter == whole


def tiny(*recipes: str) -> Study:
    return Study(
        name="tiny", task="digits(limit=100)", model="cnn(width=0.25)", baseline="Finetune(epochs=1)", recipes=recipes,
        target={"runs": 3},
    )  # fmt: skip


def given(**more: object) -> Namespace:
    return Namespace(**{"stage": "tiny", "minutes": 0.0, "train_only": False, "trained": None, **more})


def test_a_stage_goes_on_where_its_time_was_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study, run = tiny("Finetune(epochs=10000)", "Int8()"), tmp_path / "run"
    assert stage.work(study, run, given(minutes=0.25, train_only=True)) == stage.MORE
    done, wanted = stage.trained(study, run)
    assert 0 <= done < wanted == 3
    stage.tell(study, run, given(train_only=True), whole=False)
    assert f"{done} of 3 steps trained; {3 - done} left: run the same command again" in capfd.readouterr().out


def test_steps_that_were_trained_alone_are_packed_and_measured(tmp_path: Path, capfd) -> None:
    study, there, here = tiny("Int8()"), tmp_path / "there", tmp_path / "here"
    assert stage.work(study, there, given(train_only=True)) == 0
    assert (stage.trained(study, there), stage.measured(study, there)) == ((2, 2), (0, 2))
    stage.tell(study, there, given(train_only=True), whole=True)
    assert f"2 of 2 steps trained; bring {there / 'steps'}" in capfd.readouterr().out
    shutil.rmtree(there / "artifacts", ignore_errors=True)
    assert stage.work(study, here, given(trained=there / "steps")) == 0
    assert stage.measured(study, here) == (2, 2)


def test_a_stage_that_is_started_twice_is_told_who_runs_it(tmp_path: Path, capfd) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with alone_in(run):
        assert stage.work(tiny("Int8()"), run, given()) == 1
    err = capfd.readouterr().err
    assert re.search(rf"lessen: {run} is in use by process \d+ on .*; wait for it, stop it, or name another", err)


def test_a_run_folder_of_another_study_or_version_is_refused(tmp_path: Path, capfd) -> None:
    import sqlite3

    run = tmp_path / "run"
    assert stage.work(tiny(), run, given(train_only=True)) == 0
    other = tiny().model_copy(update={"model": "cnn(width=0.5)"})
    assert stage.work(other, run, given()) == 1
    assert "was made by another study: its model is 'cnn(width=0.25)'" in capfd.readouterr().err
    with sqlite3.connect(run / "study.db") as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    assert stage.work(tiny(), run, given()) == 1
    assert "has study format 7, this version reads 1; name another run folder" in capfd.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr("sys.argv", ["stage.py", *map(str, args)])
    return stage.main()


def test_a_missing_or_altered_data_file_is_named_with_its_checksum(
    cifar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LESSEN_DATA", "")  # put back afterwards
    assert run(monkeypatch, "baseline", "--data", cifar_folder) == 1
    err = capfd.readouterr().err
    assert "expected 16019d7e3df5f24257cddd939b257f8d; fetch it again" in err and err.count("\n") == 1
    lacking = Path(shutil.copytree(cifar_folder, tmp_path / "lacking"))
    (lacking / "cifar-100-python/test").unlink()
    assert run(monkeypatch, "baseline", "--data", lacking) == 1
    err = capfd.readouterr().err
    assert "lacks test (MD5 f0ef6b0ae62326f3e7ffdfab6717acfc); data= names the folder" in err
    assert run(monkeypatch, "front", "--data", tmp_path / "nowhere") == 1
    assert "lacks train (MD5 16019d7e" in capfd.readouterr().err
    assert run(monkeypatch, "frnt", "--data", cifar_folder) == 1
    assert "unknown stage 'frnt'; did you mean 'front'?" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()

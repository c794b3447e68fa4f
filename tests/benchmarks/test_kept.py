"""Kept weights go into a run's steps and come out of them as they were, and nothing is trained again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import headline
import kept
import pytest
import stage
import torch
from safetensors.torch import load_file

from lessen.core.errors import BadStudy
from lessen.study import Study

STUDY = Study(
    name="tiny", task="digits(limit=100)", model="cnn(width=0.25)", final=True,
    baseline="Finetune(epochs=1) >> Finetune(epochs=2, lr=0.01)", recipes=("Int8()",), target={"runs": 3},
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of STUDY, and its weights as they are kept. Do not edit them."""
    run, folder = (tmp_path_factory.mktemp("kept") / name for name in ("run", "folder"))
    given = stage.argparse.Namespace(stage="tiny", minutes=0.0, train_only=True, trained=None)
    assert stage.work(STUDY, run, given) == 0
    assert kept.keep(STUDY, 0, run, folder, "c0ffee") == f"seed 0: kept as {folder / '0.safetensors'}"
    return run, folder


def test_what_is_kept_is_taken_again(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, folder = trained
    said = json.loads((folder / "0.json").read_text())
    assert (said["model"], said["task"], said["seed"]) == (STUDY.model, "digits(limit=100, final=True)", 0)
    assert (said["commit"], [r["technique"] for r in said["records"]]) == ("c0ffee", STUDY.baseline.split(" >> "))
    assert [len(r["history"]) for r in said["records"]] == [1, 2] and "torch" in said["machine"]
    other = tmp_path / "other"
    assert kept.take(STUDY, 0, other, folder).startswith("seed 0: 2 steps, trained at c0ffee on")
    assert kept.take(STUDY, 0, other, folder) == "seed 0: is there already"
    baseline = STUDY.model_copy(update={"recipes": ()})
    assert stage.trained(baseline, other) == (2, 2)
    last = stage.baseline_places(STUDY, stage.steps_of(STUDY, run), 0)[-1]
    again = stage.baseline_places(STUDY, stage.steps_of(STUDY, other), 0)[-1]
    assert last.key == again.key
    a, b = last.model.state_dict(), again.model.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_a_study_goes_on_from_them_and_trains_nothing_again(trained: tuple[Path, Path], tmp_path: Path) -> None:
    kept.take(STUDY, 0, tmp_path, trained[1])
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    given = stage.argparse.Namespace(stage="tiny", minutes=0.0, train_only=False, trained=None)
    assert len(before) == 1 and stage.work(STUDY, tmp_path, given) == 0
    assert stage.measured(STUDY, tmp_path) == (2, 2)
    assert all(f.stat().st_mtime_ns == time for f, time in before.items())
    rows, _ = headline.read(tmp_path)  # the baseline first
    packed = headline.load(tmp_path / rows[0].artifact).model()
    wanted = load_file(trained[1] / "0.safetensors")
    assert all(torch.equal(v, wanted[k]) for k, v in packed.state_dict().items())


def test_other_recipes_models_and_files_that_are_not_there_are_refused(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, folder = trained
    for update, says in (
        ({"baseline": "Finetune(epochs=1)"}, "the baseline is cnn.* by Finetune.epochs=1.; train it by stage.py"),
        ({"model": "cnn(width=0.5)"}, "0.json is of cnn.width=0.25. by"),
    ):
        with pytest.raises(BadStudy, match=says):
            kept.take(STUDY.model_copy(update=update), 0, tmp_path, folder)
    with pytest.raises(BadStudy, match=r"cannot read .*1.json .*; train that seed by stage.py"):
        kept.take(STUDY, 1, tmp_path, folder)
    with pytest.raises(BadStudy, match="has not every step of the baseline of seed 1 by this code"):
        kept.keep(STUDY, 1, run, tmp_path, "c0ffee")
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "0.json").write_text("{")
    with pytest.raises(BadStudy, match="cannot read"):
        kept.take(STUDY, 0, tmp_path, broken)
    assert not list(tmp_path.rglob("record.json"))


def test_the_repositorys_own_are_of_the_baseline() -> None:
    """Every kept file fits today's recipe, so that `take` takes it."""
    study = stage.read("baseline")
    for file in sorted(kept.FOLDER.glob("*.json")):
        said = json.loads(file.read_text())
        assert (said["model"], said["seed"]) == (study.model, int(file.stem))
        assert " >> ".join(r["technique"] for r in said["records"]) == study.baseline
        assert file.with_suffix(".safetensors").is_file()

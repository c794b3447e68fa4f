"""headline.py on a run of made-up images: its numbers are those that the rows and predictions give by hand."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from xml.etree import ElementTree

import headline
import numpy as np
import page
import pytest
import yaml

from lessen.artifact import load
from lessen.core.errors import BadStudy
from lessen.core.trial import Trial
from lessen.measure import measure
from lessen.store import Store
from lessen.study import Study, run

ROOT = Path(__file__).parents[2]
INT8 = "Int8()"
NARROW = "Student(width=0.4) >> Finetune(epochs=1) >> Int8()"
README = f"# Here\n\nabove\n\n{page.BEGIN}\nnothing yet\n{page.END}\n\nbelow\n"


@pytest.fixture(scope="module")
def finished(cifar_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A final run with a baseline and two recipes, two seeds. Do not edit it."""
    folder = tmp_path_factory.mktemp("runs") / "final"
    study = Study(
        name="tiny", task="cifar100(verify=False)", model="cnn(width=0.25)", baseline="Finetune(epochs=1)",
        recipes=(INT8, NARROW), seeds=(0, 1), final=True, target={"runs": 3},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LESSEN_DATA", str(cifar_folder))
        run(study, folder)
    return folder


@pytest.fixture
def rows(finished: Path) -> dict[tuple[str, int], Trial]:
    with Store(finished / "study.db") as store:
        return {t.key: t for t in store.trials()}


def told(monkeypatch: pytest.MonkeyPatch, out: Path, *args: object) -> int:
    """Run the script into `out`, beside a README of its own."""
    readme = out.parent / "README.md"
    readme.parent.mkdir(exist_ok=True)
    if not readme.exists():
        readme.write_text(README)
    rest = ["--commit", "c0ffee", "-o", out, "--readme", readme]
    monkeypatch.setattr("sys.argv", ["headline.py", *map(str, [*args, *rest])])
    return headline.main()


def test_its_numbers_are_those_of_the_rows(finished, rows, tmp_path, monkeypatch, capsys) -> None:
    assert told(monkeypatch, tmp_path / "out", finished, "--recipe", NARROW) == 0
    found = json.loads((tmp_path / "out/headline.json").read_text())
    for name, recipe in (("baseline", ""), ("compressed", NARROW)):
        seen = [rows[recipe, seed].measurement for seed in (0, 1)]
        scores = [m.test.value for m in seen]
        assert found[name]["n"] == 2 and found[name]["test_top1"] == scores
        assert found[name]["test_top1_mean"] == pytest.approx(sum(scores) / 2)
        assert found[name]["test_top1_sd"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
        assert found[name]["runnable_bytes"] == round(sum(m.bytes.runnable for m in seen) / 2)
        assert found[name]["transport_bytes"] == round(sum(m.bytes.transport for m in seen) / 2)
        ratio = statistics.geometric_mean(m.latency[0].ratio for m in seen)
        assert found[name]["latency_to_baseline"]["1"] == pytest.approx(1.0 if not recipe else ratio)
    base, small = found["baseline"], found["compressed"]
    assert found["times_smaller"] == pytest.approx(base["runnable_bytes"] / small["runnable_bytes"], rel=1e-3)
    right = [[answers(finished / rows[r, s].predictions) for s in (0, 1)] for r in ("", NARROW)]
    difference = found["difference"]
    assert difference["value"] == pytest.approx(np.mean(right[1]) - np.mean(right[0]))
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert (difference["seeds"], difference["images"]) == (2, 100)
    assert (found["commit"], found["seeds"], found["chosen_by"]) == ("c0ffee", [0, 1], "named beforehand")
    assert (base["model"], small["model"]) == ("cnn(width=0.25)", "cnn(width=0.1)")
    assert (base["recipe"], small["recipe"]) == ("Finetune(epochs=1)", NARROW)
    assert found["versions"]["torch"] and found["machine"]["cpu"] and found["trained_on"]["device"]
    assert [r["recipe"] for r in found["front"]] == [INT8, NARROW]  # the larger file first
    assert "times smaller" in capsys.readouterr().out


def answers(file: Path) -> np.ndarray:
    with np.load(file) as found:
        return found["classes"] == found["targets"]


def test_the_artifact_beside_it_measures_the_same_again(finished, cifar_folder, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    told(monkeypatch, out, finished, "--recipe", NARROW)
    found = json.loads((out / "headline.json").read_text())
    monkeypatch.setenv("LESSEN_DATA", str(cifar_folder))
    for name in ("compressed", "baseline"):
        assert found[name]["artifact"]["folder"] == name
        again = measure(load(out / name))
        assert again.test.value == found[name]["artifact"]["test_top1"] == found[name]["test_top1"][0]
    assert load(out / "compressed").manifest.recipe == NARROW
    monkeypatch.setattr(headline, "MOST", 1)  # no baseline is that small
    told(monkeypatch, out, finished, "--recipe", INT8)
    assert not (out / "baseline").exists() and load(out / "compressed").manifest.recipe == INT8
    assert json.loads((out / "headline.json").read_text())["baseline"]["artifact"]["folder"] is None


def test_run_again_it_writes_the_same_bytes(finished, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    told(monkeypatch, out, finished, "--recipe", NARROW)
    first = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert {f.name for f in first} >= {"headline.json", "rows.json", "front.md", "front.svg", "model.onnx", "README.md"}
    told(monkeypatch, out, finished, "--recipe", NARROW)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == first


def test_seeds_of_several_runs_tell_the_same(finished, tmp_path, monkeypatch, capsys) -> None:
    told(monkeypatch, tmp_path / "a/out", finished, "--recipe", NARROW)
    apart = [part(finished, tmp_path / f"run{seed}", seed) for seed in (0, 1)]
    assert told(monkeypatch, tmp_path / "b/out", *apart, "--recipe", NARROW) == 0
    one, other = (
        {f.relative_to(tmp_path / name): f.read_bytes() for f in (tmp_path / name).rglob("*") if f.is_file()}
        for name in ("a", "b")
    )
    assert one == other and not any(f.is_symlink() for f in tmp_path.rglob("*"))
    capsys.readouterr()
    assert told(monkeypatch, tmp_path / "c/out", *apart, apart[0], "--recipe", NARROW) == 1
    assert f"{apart[0]} has '' of seed 0, as another run has; name one" in capsys.readouterr().err
    with Store(apart[1] / "study.db") as store:
        store.set_description(json.dumps({**json.loads(store.describe() or "{}"), "model": "cnn(width=0.5)"}))
    assert told(monkeypatch, tmp_path / "c/out", *apart, "--recipe", NARROW) == 1
    assert "run1 is of another study than" in capsys.readouterr().err


def part(run: Path, folder: Path, seed: int) -> Path:
    """The rows of one seed, as a run of its own."""
    folder.mkdir()
    with Store(run / "study.db") as old, Store(folder / "study.db") as new:
        new.set_description(old.describe() or "")
        for trial in old.trials():
            if trial.seed == seed:
                new.add(trial)
    for name in ("artifacts", "predictions"):
        shutil.copytree(run / name, folder / name)
    return folder


def test_readme_gets_its_section_and_keeps_the_rest(finished, tmp_path, monkeypatch, capsys) -> None:
    out, readme = tmp_path / "out", tmp_path / "README.md"
    told(monkeypatch, out, finished, "--recipe", NARROW)
    found, text = json.loads((out / "headline.json").read_text()), readme.read_text()
    assert text.startswith("# Here\n\nabove\n\n") and text.endswith("\n\nbelow\n") and "nothing yet" not in text
    assert text.split(page.BEGIN)[1].split(page.END)[0].strip() == page.section(found, "out")
    assert "`cnn(width=0.1)`" in text and NARROW in text and "n = 2 seeds." in text
    readme.write_text("no markers")
    assert told(monkeypatch, out, finished, "--recipe", NARROW) == 1
    assert f"lacks its markers {page.BEGIN} and {page.END}" in capsys.readouterr().err


def test_the_table_and_the_picture_show_every_recipe(finished, tmp_path, monkeypatch) -> None:
    told(monkeypatch, tmp_path / "out", finished, "--recipe", NARROW)
    table = [line for line in (tmp_path / "out/front.md").read_text().splitlines() if line.startswith("| ")]
    assert [f"`{recipe}`" in line for recipe, line in zip((INT8, NARROW), table[1:], strict=True)] == [True, True]
    assert ElementTree.parse(tmp_path / "out/front.svg").getroot().tag.endswith("svg")


def test_validation_chooses_where_there_is_one_and_the_test_score_never_does(finished, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert told(monkeypatch, out, finished) == 1
    assert "is final and has no validation to choose by; name what was decided" in capsys.readouterr().err
    validated = scored(finished, tmp_path / "validated", {"": 0.75, INT8: 0.745, NARROW: 0.70})
    for within, recipe in ((1.0, INT8), (6.0, NARROW)):
        assert told(monkeypatch, out, finished, "--choice", validated, "--within", within) == 0
        found = json.loads((out / "headline.json").read_text())
        assert found["compressed"]["recipe"] == recipe
        assert found["chosen_by"] == f"validation: the smallest file that loses at most {within:g} points there"
    assert told(monkeypatch, out, finished, "--choice", validated, "--within", 0.1) == 1
    assert "no recipe of" in capsys.readouterr().err


def scored(run: Path, folder: Path, scores: dict[str, float]) -> Path:
    """The same rows with validation scores."""
    folder.mkdir()
    with Store(run / "study.db") as old, Store(folder / "study.db") as new:
        new.set_description(old.describe() or "")
        for trial in old.trials():
            seen = trial.measurement
            assert seen
            score = seen.test.model_copy(update={"value": scores[trial.recipe]})
            new.add(trial.model_copy(update={"measurement": seen.model_copy(update={"validation": score})}))
    return folder


def test_what_is_not_there_or_not_whole_is_told_in_one_line(finished, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    for args, says in (
        ((tmp_path / "none",), "there is no study at"),
        ((finished, "--recipe", "Int4()"), f"has no finished row of 'Int4()'; it has '{INT8}', '{NARROW}'"),
        ((finished, "--recipe", "Int9()"), "unknown technique 'Int9'; did you mean 'Int8'?"),
        ((finished, "--recipe", INT8, "--trained", tmp_path), "does not say which machine trained its steps"),
    ):
        assert told(monkeypatch, out, *args) == 1
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1
    with Store(finished / "study.db") as old, Store(tmp_path / "study.db") as new:
        for trial in old.trials():
            if trial.key != (INT8, 1):
                new.add(trial)
    assert told(monkeypatch, out, tmp_path, "--recipe", INT8) == 1
    assert "is done for seeds [0], the baseline for [0, 1]; finish it" in capsys.readouterr().err
    other = Path(shutil.copytree(finished, tmp_path / "named"))
    (other / "study.db").unlink()
    with Store(finished / "study.db") as old, Store(other / "study.db") as new:
        for trial in old.trials():
            new.add(trial.model_copy(update={"task": "cifar100(data='/home/me', final=True)"}))
    assert told(monkeypatch, out, other, "--recipe", INT8) == 1
    assert "name a folder of this machine" in capsys.readouterr().err
    assert not out.exists()


def test_numbers_that_would_lie_on_each_other_are_told_together() -> None:
    places = [(4.0, 75.0), (12.7, 75.2), (12.7, 75.1), (13.0, 74.9), (13.0, 60.0), (100.0, 60.0)]
    assert page.labels(places) == [
        ("1", (4.0, 75.0)), ("2, 3, 4", (12.7, 75.2)), ("5", (13.0, 60.0)), ("6", (100.0, 60.0)),
    ]  # fmt: skip
    assert page.labels(places[:1]) == [("1", (4.0, 75.0))]


def test_a_cpu_is_told_from_a_gpu() -> None:
    assert page.device("AVX512") == "a CPU with AVX512"
    assert page.device("NVIDIA H200") == "NVIDIA H200"


def test_a_page_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(BadStudy, match=r"cannot read .*README.md \(No such file.*; name the page for the figures"):
        page.into(tmp_path / "README.md", "text")


def test_a_baseline_that_failed_does_not_say_what_trained(finished) -> None:
    rows = headline.read(finished)[0]
    lost = rows[0].model_copy(update={"seed": -1, "status": "failed", "measurement": None, "artifact": ""})
    given = headline.argparse.Namespace(run=finished, trained=None)
    assert headline.trained_on(given, [lost, *rows]) == headline.trained_on(given, rows)


def test_readmes_section_is_what_the_committed_headline_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(page.BEGIN)[1].split(page.END)[0].strip()
    file = ROOT / "results/cifar100/headline.json"
    if file.is_file():
        assert shown == page.section(json.loads(file.read_text(encoding="utf-8")))
    else:
        assert "not measured yet" in shown and "%" not in shown


def test_the_page_names_the_stages_that_there_are() -> None:
    folder = ROOT / "benchmarks/cifar100"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for file in folder.glob("*.yaml"):
        assert f"[{file.stem}]({file.name})" in text
        assert yaml.safe_load(file.read_text(encoding="utf-8"))["task"].startswith("cifar100")

"""Every verb of the command line, as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from command_line import BRIEFLY, TINY, Shell, process, write_study
from typer.testing import CliRunner

from lessen import artifact, catalog, listing
from lessen.cli import app
from lessen.study import Study


@pytest.fixture
def shell(monkeypatch, capsys) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An artifact made by `lessen train`, and what that printed."""
    folder = tmp_path_factory.mktemp("trained") / "base"
    ran = CliRunner().invoke(app, ["train", TINY, "-o", str(folder), "--recipe", BRIEFLY, "--seed", "3"])
    assert (ran.exit_code, ran.stderr) == (0, ""), ran
    return folder, ran.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that ran once, its file, and what that printed."""
    folder = tmp_path_factory.mktemp("study")
    file = write_study(folder / "tiny.yaml", "Int8()")
    ran = CliRunner().invoke(app, ["study", str(file), "-o", str(folder / "run")])
    assert ran.exit_code == 0, ran
    return folder / "run", file, ran.stdout


def test_without_a_verb_it_shows_them_all(shell):
    help_ = shell.done()
    listed = help_.partition("Commands:")[2]
    verbs = re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE)
    assert verbs == ["demo", "list", "train", "compress", "measure", "inspect", "study", "report", "schema"]
    assert "..." not in listed  # no line is cut
    assert shell.done("--help") == help_


def test_demos_study_can_be_read():
    study = Study.read("demo")
    assert len(study.recipes) >= 12 and len(study.seeds) == 2


def test_list_shows_every_field_with_its_range_and_paper(shell):
    shown = shell.done("list")
    for name in catalog.techniques():
        kind = catalog.technique(name)
        assert f"{name}  ({catalog.family(name)}; {kind.paper})" in shown
        assert set(kind.model_fields) <= set(shown.split())
    assert re.search(r"sparsity +0\.5 +0 to 0\.99 +share of weights", shown)


def test_list_of_one_technique_shows_that_one(shell):
    shown = shell.done("list", "Int8")
    assert shown.startswith("Int8  (quantize; ") and "Prune" not in shown


@pytest.mark.parametrize("what", ["models", "tasks"])
def test_list_of_models_and_tasks_is_a_line_each_and_one_shows_its_fields(shell, what):
    names = listing.known()[what]
    lines = shell.done("list", what).splitlines()
    assert [line.split()[0] for line in lines] == list(names) and all(len(line.split()) > 3 for line in lines)
    assert set(json.loads(shell.done("list", what, "--json"))) == set(names)
    for name in names:
        shown = shell.done("list", name)
        assert shown.startswith(f"{name}  ({what[:-1]})\n")
        assert {row.split()[0] for row in shown.splitlines()[2:] if row} == set(json_fields(shell, name))


def json_fields(shell, name):
    (one,) = json.loads(shell.done("list", name, "--json")).values()
    return one["schema"]["properties"]


def test_list_names_what_a_field_needs_and_what_a_name_fixes(shell):
    assert re.search(r"path +needed +str +the folder", shell.done("list", "folder"))
    assert "depth" in json_fields(shell, "resnet") and "depth" not in json_fields(shell, "resnet20")


def test_list_as_json_and_as_markdown(shell):
    assert set(json.loads(shell.done("list", "--json"))) == set(catalog.techniques())
    (one,) = json.loads(shell.done("list", "Int8", "--json")).values()
    assert one["family"] == "quantize" and one["schema"]["properties"]["coverage"]["maximum"] == 1.0
    assert "\n## Int8 (quantize)\n" in shell.done("list", "--markdown")


def test_train_writes_a_whole_artifact_and_says_how_to_go_on(base):
    folder, out = base
    assert out == f"{folder} is written; measure it by: lessen measure {folder}\n"
    made = artifact.load(folder)
    assert (made.manifest.seed, made.manifest.recipe, made.manifest.final) == (3, "", False)
    assert [r.technique for r in made.manifest.records] == [BRIEFLY]
    assert [file.name for file in folder.parent.iterdir()] == ["base"]


@pytest.mark.slow
def test_final_trains_on_validation_too_and_says_so(shell, tmp_path):
    shell.done("train", TINY, "-o", tmp_path / "out", "--recipe", BRIEFLY, "--final")
    manifest = artifact.load(tmp_path / "out").manifest
    assert manifest.final and manifest.task == "digits(limit=100, final=True)"


def test_compress_goes_on_from_an_artifact(shell, base, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "new" / "out"
    shown = shell.done("compress", base[0], "MagnitudePrune(sparsity=0.5) >> Int8()", "-o", out)
    made = artifact.load(out)
    assert made.manifest.recipe == "MagnitudePrune(sparsity=0.5) >> Int8()"
    assert made.manifest.lineage == (artifact.load(base[0]).manifest.id,)
    assert f"before: {base[0]}\nafter:  {out}, MagnitudePrune(sparsity=0.5) >> Int8()\n" in shown
    table = shown.partition("\n\n")[2].splitlines()
    assert max(map(len, table)) <= 80
    rows = {line[:20].strip(): line for line in table}
    assert re.search(r"\d\.\d\dx smaller", rows["runnable bytes"])
    assert re.search(r"\[\d.*\[\d.*[+-]\d\.\d\d points", rows["test, n = 898"])
    assert {"validation, n = 179", "transport (zstd -19)", "folder", "ms, batch 1, n = 30"} <= set(rows)
    assert "onnxruntime" in shown and "95 % intervals" in shown and "against itself took" in shown
    assert [file.name for file in out.parent.iterdir()] == ["out"]


@pytest.mark.slow
def test_compress_from_a_name_takes_weights_and_keeps_the_baseline(shell, base, tmp_path):
    out, weights = tmp_path / "out", base[0] / "weights.safetensors"
    shell.done("compress", TINY, "Int8()", "-o", out, "--weights", weights, "--json")
    assert (tmp_path / "out-baseline" / "weights.safetensors").read_bytes() == weights.read_bytes()
    assert artifact.load(out).manifest.lineage == (artifact.load(tmp_path / "out-baseline").manifest.id,)


def test_compress_from_names_in_the_current_folder_trains_the_tasks_own_way_once(shell, tmp_path, monkeypatch):
    (tmp_path / "own_things.py").write_text(
        "from torch import nn\n"
        "from lessen.tasks import task\n"
        "def flat(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
        "def quick():\n"
        "    made = task('digits(limit=100)')\n"
        f"    made.baseline = '{BRIEFLY}'\n"
        "    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    found = json.loads(shell.done("compress", "own_things:quick/own_things:flat", "Int8()", "-o", "out", "--json"))
    assert list(found) == ["before", "after"]
    assert found["after"]["bytes"]["runnable"] < found["before"]["bytes"]["runnable"]
    assert found["after"]["test"]["n"] == 898 and found["after"]["machine"]["cpu"]
    baseline = artifact.load("out-baseline")
    assert [r.technique for r in baseline.manifest.records] == [BRIEFLY]
    assert baseline.manifest.task == "own_things:quick()"
    written = (baseline.folder / "manifest.json").stat().st_mtime_ns
    again = shell("compress", "own_things:quick/own_things:flat", "Int8()", "-o", "out")
    assert again.code == 1 and "out exists already" in again.err
    assert (baseline.folder / "manifest.json").stat().st_mtime_ns == written


def test_measure_beside_a_baseline_in_openvino(shell, base):
    args = ("measure", base[0], "--baseline", base[0], "--runs", 3, "--runtime", "openvino", "--json")
    found = json.loads(shell.done(*args))
    assert list(found) == ["baseline", "artifact"]
    assert all(row["n"] == 3 and row["ratio"] > 0 for row in found["artifact"]["latency"])
    assert found["artifact"]["machine"]["runtime"].startswith("openvino ")
    assert any("too few for a claim" in note for note in found["artifact"]["notes"])


def test_measure_alone_compares_with_nothing(shell, base):
    shown = shell.done("measure", base[0], "--runs", 3)
    assert shown.startswith(f"artifact: {base[0]}\n") and "onnxruntime " in shown and "too few for a claim" in shown
    assert "change" not in shown and "points" not in shown and "itself" not in shown


def test_a_study_runs_and_reports(finished):
    run, _, out = finished
    assert "2 trials done, 0 failed; report: " in out and "n = 1 seed" in out
    assert (run / "report.html").is_file() and (run / "study.db").is_file()


def test_a_second_run_of_a_study_does_nothing(shell, finished):
    run, file, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.onnx")}
    found = json.loads(shell.done("study", file, "-o", run, "--json"))
    assert found["questions"] == []
    rows = found["trials"]
    assert [(row["recipe"], row["status"]) for row in rows] == [("", "done"), ("Int8()", "done")]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.onnx")} == before and len(before) == 2
    assert "2 done already" in shell.done("study", file, "-o", run)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A study that asks a question, and what running it elsewhere printed."""
    folder = tmp_path_factory.mktemp("asked")
    file = write_study(folder / "asked.yaml", "Int8()")
    text = file.read_text().replace(
        "recipes:", "comparisons:\n  - question: Is it the same?\n    arms: {dense: '', small: Int8()}\nrecipes:"
    )
    file.write_text(text)
    args = ["study", str(file), "--task", "digits(limit=80)", "--seeds", "3,4", "-o", str(folder / "run")]
    ran = CliRunner().invoke(app, args)
    assert ran.exit_code == 0, ran
    return folder, ran.stdout


def test_a_study_answers_its_questions_elsewhere(shell, asked):
    folder, out = asked
    assert "digits(limit=80)" in out and "4 trials done, 0 failed" in out
    assert "1. Is it the same?\n" in out and "dense" in out.partition("Is it the same?")[2]
    same = ("study", folder / "asked.yaml", "--task", "digits(limit=80)", "--seeds", "3,4", "-o", folder / "run")
    found = json.loads(shell.done(*same, "--json"))
    (question,) = found["questions"]
    assert question["question"] == "Is it the same?" and question["answer"]
    assert [point["seeds"] for point in question["points"]] == [[3, 4], [3, 4]]
    assert question["contrasts"][0]["images"] == 898
    assert "Is it the same?" in (folder / "run" / "report.html").read_text(encoding="utf-8")


def test_questions_become_markdown_with_pictures_beside_it(shell, asked, tmp_path):
    page = tmp_path / "docs" / "asked.md"
    assert shell.done("report", asked[0] / "run", "-o", page).strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert "## Is it the same?" in text and "![Is it the same?](asked-1.svg)" in text
    assert (tmp_path / "docs" / "asked-1.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_show_prints_the_file_with_its_comments(shell):
    shown = shell.done("study", "pruning", "--show")
    assert shown.startswith("# What pruning costs") and "comparisons:" in shown


def test_report_is_drawn_again_elsewhere(shell, finished, tmp_path):
    page = tmp_path / "page.html"
    assert shell.done("report", finished[0], "-o", page).strip() == str(page)
    assert "Int8()" in page.read_text(encoding="utf-8")


def test_schemas_say_what_may_stand_in_a_recipe_and_in_a_study(shell):
    recipe = json.loads(shell.done("schema", "recipe"))
    assert recipe["type"] == "string" and set(recipe["$defs"]) == set(catalog.techniques())
    for text in (*recipe["examples"], *Study.read("demo").recipes):
        assert re.search(recipe["pattern"], text)
    assert not re.search(recipe["pattern"], "Int9()")
    study = json.loads(shell.done("schema"))
    assert set(study["required"]) == {"name", "task", "model"} and study["additionalProperties"] is False
    assert json.loads(shell.done("schema", "study")) == study


def test_what_needs_no_torch_does_not_load_it(finished, tmp_path):
    verbs = [["list"], ["list", "--json"], ["schema", "recipe"], ["schema"], ["--help"], ["lst"], ["report"]]
    verbs[-1] += [str(finished[0]), "-o", str(tmp_path / "page.html")]
    code = (
        "import json, sys\nfrom lessen.cli import main\n"
        "for verb in json.loads(sys.argv.pop()):\n"
        "    sys.argv[1:] = verb\n"
        "    try: main()\n"
        "    except SystemExit as e: assert (e.code == 0) == (verb != ['lst']), verb\n"
        "    assert 'torch' not in sys.modules, verb\n"
    )
    job = process(json.dumps(verbs), code=code)
    assert "Traceback" not in job.communicate()[1] and job.returncode == 0
    assert (tmp_path / "page.html").is_file()


def test_a_reader_that_leaves_early_sees_no_traceback():
    script = f"'{sys.executable}' -m lessen list | head -1"
    done = subprocess.run(script, shell=True, capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.count("\n") == 1 and done.stderr == ""

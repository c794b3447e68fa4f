"""A study is read whole and checked before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lessen.core.errors import BadField, BadRecipe, BadStudy, LessenError, UnknownName
from lessen.core.target import Target
from lessen.study import Study, names

TEXT = """
name: small
task: digits
model: cnn(width=0.25)
recipes:
  - Int8( )
  - MagnitudePrune(sparsity=0.25) >> Int8()
seeds: [0, 1]
target: {max_bytes: 50000, batches: [1]}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def test_a_file_is_a_study(file):
    study = Study.read(file)
    assert study == Study(
        name="small", task="digits", model="cnn(width=0.25)", seeds=(0, 1),
        recipes=("Int8()", "MagnitudePrune(sparsity=0.25) >> Int8()"), target=Target(max_bytes=50_000, batches=(1,)),
    )  # fmt: skip
    assert (study.baseline, study.final, study.threads) == ("", False, 1)


def test_its_text_is_read_back(file, tmp_path):
    study = Study.read(file)
    (tmp_path / "again.yaml").write_text(study.text())
    assert Study.read(tmp_path / "again.yaml") == study


@pytest.mark.parametrize("name", names())
def test_ready_studies_are_readable(name):
    assert Study.read(name).everything


@pytest.mark.parametrize(
    "old, new, kind, message",
    [
        (
            "recipes:",
            "recipies:",
            UnknownName,
            "small.yaml: unknown field of Study 'recipies'; did you mean 'recipes'?",
        ),
        ("Int8( )", "Int9()", BadRecipe, "small.yaml: recipe 1 of 2, 'Int9()': unknown technique 'Int9'; did you mean"),
        ("sparsity=0.25", "sparsity=7", BadRecipe, "recipe 2 of 2, 'MagnitudePrune(sparsity=7) >> Int8()': MagnitudeP"),
        (">>", ">", BadRecipe, "joins techniques by '>'"),
        ("Int8( )", "''", BadRecipe, "recipe 1 of 2 is empty"),
        (
            "Int8( )",
            "MagnitudePrune(sparsity=0.25) >> Int8()",
            BadRecipe,
            "recipe 2 of 2, 'MagnitudePrune(sparsity=0.25) >> Int8()', is recipe",
        ),
        ("seeds: [0, 1]", "seeds: [0, x]", BadField, "small.yaml: Study.seeds.1 = 'x' is wrong"),
        ("seeds: [0, 1]", "seeds: [0, '1']", BadField, "small.yaml: Study.seeds.1 = '1' is wrong"),
        ("seeds: [0, 1]", "seeds: [1, 1]", BadField, "names a seed twice"),
        ("seeds: [0, 1]", "seeds: []", BadField, "small.yaml: Study.seeds"),
        ("name: small", "threads: 1", BadField, "small.yaml: Study lacks its field 'name'"),
        ("batches:", "batch:", UnknownName, "field of Study.target 'batch'; did you mean 'batches'"),
        ("task: digits", "task: 'digits('", BadRecipe, "small.yaml: cannot read 'digits('"),
        ("name: small", "name: [small", BadStudy, "small.yaml is no YAML"),
    ],
)
def test_a_bad_file_is_one_line(file, old, new, kind, message):
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(LessenError) as caught:
        Study.read(file)
    assert type(caught.value) is kind and message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_names(tmp_path):
    with pytest.raises(UnknownName, match="unknown study 'dmo'; did you mean 'demo'"):
        Study.read("dmo")
    with pytest.raises(BadStudy, match="there is no study file"):
        Study.read(tmp_path / "none.yaml")
    with pytest.raises(BadStudy, match="cannot read"):
        (tmp_path / "a.yaml").mkdir()
        Study.read(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("- 1")
    with pytest.raises(BadStudy, match=r"b\.yaml is no study"):
        Study.read(tmp_path / "b.yaml")


def test_a_python_study_is_checked_too():
    with pytest.raises(BadRecipe, match="recipe 1 of 1"):
        Study(name="s", task="digits", model="cnn", recipes=("Nothing()",))
    with pytest.raises(UnknownName, match="field of Study 'seed'; did you mean 'seeds'"):
        Study(name="s", task="digits", model="cnn", seed=3)
    with pytest.raises(BadRecipe, match="the baseline, 'Fintune"):
        Study(name="s", task="digits", model="cnn", baseline="Fintune()")


def test_reading_a_study_and_its_schema_imports_no_torch():
    code = (
        "import sys, json; from lessen.study import Study; Study.read('demo');"
        "print(json.dumps(Study.model_json_schema())); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "each is applied to the baseline" in json.loads(done.stdout)["properties"]["recipes"]["description"]

"""What the documents show runs, and is what the code says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lessen import catalog, listing
from lessen.study import Study
from lessen.tasks import task

ROOT = Path(__file__).parent.parent


def blocks(file: str, language: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def test_readmes_example_is_the_example_file_and_is_short():
    source = (ROOT / "examples/compress_digits.py").read_text(encoding="utf-8")
    body = source.split('"""', 2)[2].strip()
    assert blocks("README.md", "python")[0].strip() == body
    assert len([line for line in body.splitlines() if line.strip() and "import" not in line]) <= 15


def test_the_example_runs(tmp_path):
    command = [sys.executable, str(ROOT / "examples/compress_digits.py"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, re.findall(r"([\d,]+)", run.stdout.replace(",", ""))[:2])
    assert after < before / 10


def test_the_guide_shows_the_example_files():
    shown = blocks("docs/guide.md", "python") + blocks("docs/guide.md", "yaml")
    files = [(ROOT / "examples" / name).read_text(encoding="utf-8") for name in ("run_the_file.py", "my_project.py")]
    study = (ROOT / "examples/my_study.yaml").read_text(encoding="utf-8").strip()
    assert [text.strip() for text in shown] == [*(file.split('"""', 2)[2].strip() for file in files), study]


def test_the_shipped_file_runs_in_a_program_without_torch(baseline):
    program = "import runpy, sys; sys.modules.update(torch=None, lessen=None); runpy.run_path(sys.argv.pop(1))"
    command = [sys.executable, "-c", program, str(ROOT / "examples/run_the_file.py"), str(baseline.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\['\d', '\d', '\d'\]", run.stdout.strip())


def test_the_guides_own_task_and_model_are_compressed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    found = task("my_project:task(n=200)")
    model, _ = catalog.recipe(found.baseline).apply(found.build("my_project:net(hidden=16)"), found)
    small, record = catalog.recipe("Int8()").apply(model, found)
    assert found.scored_by == "Task.score" and found.evaluate(small, "test") > 0.9
    assert record[0].after.weight_bits < record[0].before.weight_bits / 2


def test_the_guides_study_can_be_run():
    study = Study.read(ROOT / "examples/my_study.yaml")
    assert len(study.everything) == 6 and [len(c.arms) for c in study.comparisons] == [2, 2]


@pytest.mark.parametrize("what", ["techniques", "models", "tasks"])
def test_a_reference_page_is_what_the_code_says(what):
    page = (ROOT / f"docs/{what}.md").read_text(encoding="utf-8")
    assert page == listing.page(what, listing.entries(what)) + "\n", "run `make docs`"


def test_contributings_technique_works(digits, trained, tmp_path, monkeypatch):
    (tmp_path / "threshold_prune.py").write_text(blocks("CONTRIBUTING.md", "python")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("threshold_prune").ThresholdPrune
    technique = kind(threshold=0.05)
    assert str(technique) == "ThresholdPrune(threshold=0.05)"
    _, record = technique.apply(trained, digits)
    assert record.after.nonzeros < record.before.nonzeros
    assert all(0 <= share < 1 for share in record.details["sparsity"].values())
    neutral, _ = kind(**technique.neutral).apply(trained, digits)
    x = digits.inputs(digits.split("test").x[:8])
    assert torch.equal(neutral.eval()(x), trained(x))


@pytest.mark.parametrize("file", ["README.md", "CHANGELOG.md", "docs/architecture.md", "docs/techniques.md"])
def test_every_technique_is_named(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert [name for name in catalog.techniques() if name not in text] == []


def test_recipes_in_the_documents_can_be_read():
    known = "|".join(catalog.techniques())
    found = []
    for file in ("README.md", "CHANGELOG.md", "LOG.md"):
        text = (ROOT / file).read_text(encoding="utf-8")
        found += re.findall(rf"[`']((?:(?:{known})\([^`'()]*\)(?: >> )?)+)[`']", text)
    assert len(found) >= 4
    for text in found:
        assert len(catalog.recipe(text))

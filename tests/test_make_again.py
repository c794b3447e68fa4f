"""What a report says to type makes the same files again."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY

from lessen.core.target import Target
from lessen.core.text import split_pair
from lessen.report import write
from lessen.store import Store
from lessen.study import Study, run

RECIPE = "MagnitudePrune(sparsity=0.5) >> Finetune(epochs=1) >> Int8()"
TASK, MODEL = split_pair(TINY)
STUDY = Study(  # of seed 3, its baseline not trained in the task's own way
    name="small", task=TASK, model=MODEL, baseline="Finetune(epochs=2, lr=0.02)", recipes=(RECIPE,), seeds=(3,),
    comparisons=({"question": "Which?", "arms": {"dense": "", "small": RECIPE}},),  # type: ignore[arg-type]
    target=Target(runs=3, max_drop=1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "run"
    run(STUDY, folder)
    write(folder)
    return folder


def shown(page: Path, summary: str) -> str:
    """The text below a summary that can be unfolded."""
    found = re.search(rf"<summary>{summary}</summary><pre>(.*?)</pre>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found, summary
    return html.unescape(found.group(1))


def test_the_study_file_on_the_page_is_the_study(finished, tmp_path):
    again = tmp_path / "study.yaml"
    again.write_text(shown(finished / "report.html", "study.yaml"), encoding="utf-8")
    assert Study.read(again) == STUDY
    before = len(Store(finished / "study.db").trials())
    assert len(run(Study.read(again), finished)) == before  # its run folder takes it, and nothing is left to do


@pytest.mark.slow
def test_the_commands_on_the_page_make_the_same_file(finished, tmp_path):
    commands = shown(finished / "report.html", "Make this file")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # which the lines set
    ran = subprocess.run(
        ["sh", "-ec", commands], cwd=tmp_path, env={**others, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    (made,) = (f for f in (finished / "artifacts").iterdir() if not f.name.startswith("baseline"))
    for ours, theirs in (("small", made), ("small-baseline", finished / "artifacts" / "baseline-3")):
        assert (tmp_path / ours / "model.onnx").read_bytes() == (theirs / "model.onnx").read_bytes()

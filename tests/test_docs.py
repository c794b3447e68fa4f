"""What the documents show runs, and is what the code says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lessen import catalog

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

"""A student that inherits int8 is shipped in int8."""

from __future__ import annotations

import re

from lessen import catalog
from lessen.artifact import pack


def test_an_inheriting_student_packs_to_integers(digits, trained, baseline, tmp_path) -> None:
    recipe = catalog.recipe("Int8() >> Student(inherit=True) >> LogitDistill(epochs=8, batch=32)")
    student, records = recipe.apply(trained, digits)
    artifact = pack(student, digits, tmp_path / "student")
    said = re.fullmatch(
        r"int8 weights and uint8 activations in (\d+) of \1 weighted operators, .*", artifact.manifest.computes
    )
    assert said, artifact.manifest.computes
    assert records[-1].score is not None and records[-1].score > 0.5

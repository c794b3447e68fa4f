"""Budgets by hand: validation chooses among what fits, test is compared, and each pair is one test."""

from __future__ import annotations

import numpy as np
from made_rows import answers, trial

from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import find

SEEDS = (0, 1, 2)
UNIFORM = {"Int8()": (8000, 0.95), "Int4()": (4000, 0.90), "Int2()": (2000, 0.50)}
MIXED = {
    "MixedBits(budget=6.0)": (6000, 0.97),
    "MixedBits(budget=4.0)": (4050, 0.91),
    "MixedBits(budget=3.0)": (3000, 0.80),
}


def rows() -> list:
    return [trial(r, s, score, size=size) for r, (size, score) in {**UNIFORM, **MIXED}.items() for s in SEEDS]


def images() -> dict:
    right = {r: score for r, (_, score) in {**UNIFORM, **MIXED}.items()}
    return {(r, s): np.arange(100) < round(100 * share) for r, share in right.items() for s in SEEDS}


def asked(**more) -> Comparison:
    arms = {"uniform": list(UNIFORM), "mixed": list(MIXED)}
    return Comparison(question="?", arms=arms, x="bytes", by="budget", **more)


def test_every_arm_has_its_best_within_each_size():
    found = find(asked(), rows(), answers=answers(images()))
    assert [b.at for b in found.budgets] == [3000, 4050, 6000, 8000]  # 4,000 and 4,050 are one; 2,000 has one arm
    chosen = [(b.of("uniform"), b.of("mixed")) for b in found.budgets]
    assert chosen == [
        ("Int2()", "MixedBits(budget=3.0)"),
        ("Int4()", "MixedBits(budget=4.0)"),
        ("Int4()", "MixedBits(budget=6.0)"),
        ("Int8()", "MixedBits(budget=6.0)"),
    ]
    assert found.alone == ()


def test_a_recipe_may_meet_several_of_the_first_arm():
    found = find(asked(), rows(), answers=answers(images()))
    against = {(c.recipe, c.against): round(c.value, 3) for c in found.contrasts}
    assert against == {
        ("MixedBits(budget=3.0)", "Int2()"): 0.3,
        ("MixedBits(budget=4.0)", "Int4()"): 0.01,
        ("MixedBits(budget=6.0)", "Int4()"): 0.07,
        ("MixedBits(budget=6.0)", "Int8()"): 0.02,
    }
    assert found.contrast("MixedBits(budget=6.0)", "mixed", "Int8()").value < 0.03
    assert found.model_validate_json(found.model_dump_json()) == found


def test_a_larger_file_that_validation_does_not_like_is_not_taken():
    worse = [t for t in rows() if t.recipe != "MixedBits(budget=6.0)"]
    worse += [trial("MixedBits(budget=6.0)", s, 0.6, size=6000) for s in SEEDS]
    found = find(asked(), worse)
    assert found.budgets[-1].of("mixed") == "MixedBits(budget=4.0)"


def test_nothing_finished_keeps_no_budget():
    assert find(asked(), []).budgets == ()

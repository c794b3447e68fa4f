from __future__ import annotations

from fake_study import trials
from test_summary import study

from lessen.core.target import Target
from lessen.report import brief


def test_chosen_recipes_stand_beside_the_baseline():
    rows = study([("Int8()", 0.0, 0.0, 0.5, 250), ("LowRank(keep=0.5)", 0.2, 0.2, 0.9, 100)])
    lines = brief(rows).splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["baseline", "smallest", "fastest", "most accurate"]
    assert all(line.endswith("Int8()") for line in lines[2:5])
    assert "4.0x" in lines[2] and "2.0x faster" in lines[2]
    assert "lose at most 1.0 point;" in lines[5] and "n = 2 seeds" in lines[5]


def test_the_targets_drop_decides():
    rows = study([("Int8()", 0.0, 0.0, 0.5, 250), ("LowRank(keep=0.5)", 0.2, 0.2, 0.9, 100)])
    assert brief(rows, Target(max_drop=0.25)).splitlines()[2].endswith("LowRank(keep=0.5)")


def test_without_recipes_nothing_is_recommended():
    assert brief(trials(recipes=("",))) == ""
    assert brief([]) == ""

from __future__ import annotations

from fake_study import trials
from test_summary import study

from lessen.core.target import Target
from lessen.report import brief, render


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


def test_where_none_qualifies_that_is_said_with_what_loses_least():
    rows = study(
        [("Int2()", 0.3, 0.3, 0.5, 100), ("Int4()", 0.028, 0.028, 0.5, 250), ("Finetune()", 0.0, 0.0, 1, 1000)]
    )
    lines = brief(rows).splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["baseline", "loses least"] and len(lines) == 4
    assert lines[2].endswith("Int4()") and "4.0x" in lines[2] and "94.2" in lines[2]
    assert lines[3].startswith(
        "No recipe qualifies: none is smaller or faster than the baseline and loses at most 1.0 point of validation; n"
    )
    assert "keeps to the target's limits and" in brief(rows, Target(max_drop=0.05, max_bytes=10)).splitlines()[-1]
    same = brief(rows[:2] + rows[-2:]).splitlines()
    assert len(same) == 3 and same[2].startswith("No recipe qualifies")
    page = " ".join(render(rows).split())
    assert "No recipe is recommended: none is smaller or faster than the baseline and loses at most 1.0" in page


def test_without_recipes_nothing_is_recommended():
    assert brief(trials(recipes=("",))) == ""
    assert brief([]) == ""

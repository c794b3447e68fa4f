"""Closeness in the report: sentences by rule, tables, pictures, JSON, and a study that has none."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from fake_study import DESCRIPTION, RECIPES, trials

from lessen.analyze.closeness import Apart
from lessen.report import closeness, plain, words, write
from lessen.report.questions import questions, read
from lessen.store import Store

ALONE, TAUGHT = RECIPES[8], RECIPES[11]
ASKED = [
    {"question": "Closer?", "arms": {"alone": [ALONE], "taught": [TAUGHT]}, "x": ""},
    {"question": "Over size?", "arms": {"alone": [ALONE, RECIPES[5]], "taught": [TAUGHT, RECIPES[4]]}, "x": "bytes",
     "close": True},
    {"question": "Which?", "arms": {"int8": ["Int8()"], "sparse": [RECIPES[2]]}, "x": ""},
]  # fmt: skip
STUDY = {**DESCRIPTION, "comparisons": ASKED}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose taught arm has nearly the baseline's shares, and whose other arms have not."""
    folder = tmp_path_factory.mktemp("run")
    random, kept = np.random.default_rng(0), []
    for row in trials():
        if row.measurement is None:
            kept.append(row)
            continue
        n = row.measurement.test.n
        base = np.random.default_rng(row.seed).normal(0, 3, (n, 10))
        logits = base + random.normal(0, {"": 0, TAUGHT: 0.2}.get(row.recipe, 1.5), (n, 10))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        name = f"{len(kept)}.npz"
        np.savez(folder / name, probabilities=p.astype(np.float16), classes=p.argmax(1), targets=base.argmax(1))
        kept.append(row.model_copy(update={"predictions": name}))
    with Store(folder / "study.db") as store:
        store.set_description(json.dumps(STUDY))
        for row in kept:
            store.add(row)
    return folder


@pytest.fixture(scope="module")
def answered(run):
    return read(run)


def test_the_answer_says_who_is_closer_by_how_much_and_on_what_scale(answered):
    said = " ".join(answered[0].answer)
    assert "Clearly closer to the baseline than alone: taught (same answer +" in said and "KL -" in said
    assert "The baseline's answer on test images is given by alone on" in said
    assert "For scale: baselines of two seeds give the same answer on" in said


def test_what_is_not_clear_is_named_without_numbers_that_the_table_has():
    def apart(arm: str, measure: str) -> Apart:
        return Apart(
            arm=arm, recipe=arm, against="alone", measure=measure, value=0.1, low=-0.1, high=0.3, smallest=0.4,
            p=0.2, p_holm=0.4, clear=False, seeds=5, images=100,
        )  # fmt: skip

    tests = [apart("a", "kl"), apart("a", "js"), apart("b", "kl"), apart("b", "js")]
    assert closeness._named(tests[:3], tests) == "a and b (KL)"


def test_rows_of_a_curve_say_where_they_stand_in_every_table(answered):
    q = answered[1]
    titles = {t.title: t.columns[0].title for t in q.tables}
    assert titles == {"Scores": "bytes", "Closeness to the baseline": "bytes", "Costs": "training"}  # costs have bytes


def test_a_comparison_without_a_student_has_none(answered):
    assert answered[2].closeness is None and "baseline's answer" not in " ".join(answered[2].answer)
    assert [t.title for t in answered[2].tables] == ["Scores", "Costs"] and "closeness" not in answered[2].json()


def test_tables_have_levels_and_differences(answered):
    _, levels, against, _ = answered[0].tables
    assert (levels.title, against.title) == ("Closeness to the baseline", "Closeness against alone")
    alone, taught = answered[0].finding.points
    same = {c.title: c.cell(taught) for c in levels.columns}["same answer"]
    near = answered[0].closeness.near("taught", TAUGHT)
    assert same.text.startswith(f"{100 * near.amounts['agreement'].value:.1f}") and same.below.startswith("[")
    assert "by chance" in {c.title: c.cell(taught) for c in levels.columns}["calibration error"].below
    kl = {c.title: c for c in against.columns}["KL"]
    assert (
        "nats" in kl.cell(taught).text and kl.cell(taught).below.endswith("clear") and kl.cell(alone).text == words.DASH
    )


def test_pictures_are_valid_and_hold_every_arm(answered):
    for q in answered[:2]:
        drawn = dict(q.figures)
        for title in ("Same answer as the baseline", "Distance of its shares from the baseline's"):
            figure = go.Figure(drawn[title])
            assert len(figure.data) >= 3
    rows = dict(answered[0].figures)["Same answer as the baseline"]
    assert list(rows["layout"]["yaxis"]["ticktext"]) == ["alone", "taught"]
    lines = dict(answered[1].figures)["Distance of its shares from the baseline's"]
    assert {t["name"] for t in lines["data"] if t.get("showlegend", True)} == {
        "alone", "taught", "baselines of two seeds"
    }  # fmt: skip


def test_page_markdown_terminal_and_json_carry_it(run, answered, tmp_path):
    page = write(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Closeness against alone" in page and "Calibration error has 10 bins" in page
    text = write(run, tmp_path / "a.md").read_text(encoding="utf-8")
    assert "![Closeness to the baseline: Closer?](a-1-close.svg)" in text and (tmp_path / "a-2-close.svg").is_file()
    assert not (tmp_path / "a-3-close.svg").exists()
    first = (tmp_path / "a-1-close.svg").read_bytes()
    write(run, tmp_path / "a.md")
    assert (tmp_path / "a-1-close.svg").read_bytes() == first
    assert "Clearly closer" in plain(answered)
    assert json.loads(json.dumps(answered[0].json()))["closeness"]["pairs"] == 2


def test_rows_alone_say_nothing_of_it():
    assert all(q.closeness is None for q in questions(STUDY, trials()))

"""Questions on the page, in Markdown and in the terminal: one analysis, sentences that say no more than it carries."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import plotly.graph_objects as go
import pytest
from fake_study import DESCRIPTION, RECIPES, trials

from lessen.analyze.findings import Contrast, Finding
from lessen.analyze.points import Point, Recovery, Size, Time, spread
from lessen.analyze.training import Band, Effort
from lessen.core.errors import BadStudy
from lessen.report import plain, question_figures, render, scores, write
from lessen.report.answers import answer
from lessen.report.axes import look
from lessen.report.lottery import trainings
from lessen.report.question_tables import tables
from lessen.report.questions import asked, questions
from lessen.report.summary import summarize
from lessen.store import Store

ARMS = {"int8": "Int8()", "sparse": RECIPES[2], "healed": RECIPES[3], "dense": ""}
CURVES = {"channels": [RECIPES[4], RECIPES[5]], "rank": [RECIPES[6], RECIPES[7]]}
COMPARISONS = [
    {"question": "Which one?", "arms": {k: [v] for k, v in ARMS.items()}, "x": ""},
    {"question": "How small?", "arms": CURVES, "x": "bytes"},
]
STUDY = {**DESCRIPTION, "comparisons": COMPARISONS}
EVIL = "<img src=x onerror=alert(1)>|*_`[a](b)\n# {{ 7*7 }}"


def point(arm: str, mean: float, **more) -> Point:
    empty = {
        "x": None,
        "xs": (),
        "validation": None,
        "unsteadiness": None,
        "recovery": (),
        "effort": None,
        "size": None,
    }
    fields = {"recipe": arm, "seeds": (0, 1), "failed": 0, "interval": (0.8, 0.95), "course": (), **empty, **more}
    return Point(arm=arm, test=spread([mean, mean]), **fields)


def contrast(arm: str, value: float, clear: bool, **more) -> Contrast:
    fields = {"smallest": 0.02, "p": 0.01, "p_holm": 0.02, "seeds": 2, "images": 100, "recipe": arm, **more}
    return Contrast(arm=arm, against="a", value=value, low=value - 0.01, high=value + 0.01, clear=clear, **fields)


def finding(points, contrasts, *, x="", curves=False, losses=(), alone=()) -> Finding:
    return Finding(
        question="?", x=x, curves=curves, arms=tuple(dict.fromkeys(p.arm for p in points)), points=tuple(points),
        contrasts=tuple(contrasts), losses=tuple(losses), baseline=point("", 0.95), alone=alone,
    )  # fmt: skip


def test_clear_and_unclear_differences_are_told_apart():
    told = answer(finding([point("a", 0.9), point("b", 0.87), point("c", 0.895)],
                          [contrast("b", -0.03, True), contrast("c", -0.005, False)]))  # fmt: skip
    assert len(told) == 2
    assert "b scores 3.0\u00a0points lower (95 % -4.0 to -2.0): clear." in told[0] and " c " not in told[0]
    assert told[1].startswith("Not clearly different from a: c (0.5\u00a0points lower")
    assert told[1].endswith("a true difference below 2.0\u00a0points would usually not have been seen.")


def test_a_large_difference_that_correction_takes_is_not_called_level():
    told = answer(finding([point("a", 0.9), point("b", 0.63), point("c", 0.895)],
                          [contrast("b", -0.27, False), contrast("c", -0.005, False)]))  # fmt: skip
    assert told[0].startswith("Different by the interval alone, not clear after correction over 2 tests: b (27.0")
    assert told[1].startswith("Not clearly different from a: c") and " b " not in told[1]


def test_nothing_finished_says_nothing():
    assert answer(finding([point("a", 0.9)], [])) == (
        "Nothing can be said yet: no two arms have finished on the same seed.",
    )


def test_a_difference_whose_spread_is_not_known_has_no_interval():
    same = contrast("b", -0.01, False, p=1.0, p_holm=1.0, smallest=None, images=0)
    same = same.model_copy(update={"low": -1.0, "high": 1.0})
    f = finding([point("a", 0.9), point("b", 0.89)], [same])
    assert "not clearly different from a: b (1.0\u00a0point lower, 95 % unknown)." in answer(f)[0].lower()
    score, _ = tables(f)
    cells = {c.title: c.cell(f.points[1]) for c in score.columns}
    assert cells["to a"].below == "same at every seed" and cells["p (Holm)"] == ("1.00", "not clear")
    one = f.model_copy(update={"contrasts": (same.model_copy(update={"seeds": 1}),)})
    assert {c.title: c.cell(f.points[1]) for c in tables(one)[0].columns}["to a"].below == "one seed"


def test_one_seed_is_said_to_be_one():
    assert (
        "One seed cannot tell"
        in answer(finding([point("a", 0.9), point("b", 0.8)], [contrast("b", -0.1, False, seeds=1)]))[-1]
    )


def test_recovery_and_effort_are_sentences_where_they_are_known():
    course = tuple(Band(epoch=e, mean=0.9, low=0.9, high=0.9) for e in (1, 2, 3))

    def effort(epochs: float) -> Effort:
        return Effort(epochs=epochs, share=epochs / 4, seconds=1.0)

    def reached(*epochs: int | None) -> tuple[Recovery, ...]:
        return (Recovery(share=0.99, epochs=epochs),)

    told = " ".join(answer(finding(
        [point("a", 0.9, course=course, recovery=reached(2, 3), effort=effort(3)),
         point("b", 0.9, course=course, recovery=reached(None, None), effort=effort(3)),
         point("c", 0.9, course=course, recovery=reached(1, 1), effort=effort(9))],
        [contrast("b", 0.0, False), contrast("c", 0.0, False)],
    )))  # fmt: skip
    assert "a after 2 epochs (2 of 2 seeds)" in told and "; never: b." in told
    assert "c after 1 epoch of its last training, with 6 before (2 of 2 seeds)" in told
    assert "against those of a: c 3.0\u00d7." in told


def test_curves_say_where_they_differ_and_how_equal_x_is():
    points = [
        *(point("a", mean, recipe=f"a{i}", x=x) for i, mean, x in ((1, 0.94, 0.5), (2, 0.9, 0.9))),
        *(point("b", mean, recipe=f"b{i}", x=x) for i, mean, x in ((1, 0.94, 0.5), (2, 0.7, 0.9), (3, 0.5, 0.99))),
    ]
    met = [contrast("b", 0.0, False, recipe="b1", apart=0.021).model_copy(update={"against": "a1"}),
           contrast("b", -0.2, True, recipe="b2", apart=0.0).model_copy(update={"against": "a2"})]  # fmt: skip
    losses = [contrast(p.arm, p.test.mean - 0.95, False, recipe=p.recipe) for p in points if p.test]
    told = answer(finding(points, met, x="sparsity", curves=True, losses=losses, alone=("b3",)))
    assert told[0].startswith(
        "At equal sparsity (within 2.1 %), b against a: clearly lower at 90\u202f% (by 20.0\u00a0points)"
    )
    assert "not clearly different at 50\u202f%" in told[0]
    assert "a up to 50\u202f% and b up to 50\u202f%" in told[1]
    assert told[2] == "1 point lies more than 3 % from every point of a and could not be compared."


def test_latency_is_a_sentence_where_arms_differ_plainly():
    def timed(ratio: float) -> Size:
        times = (Time(batch=1, ms=1.0, ratio=1.0), Time(batch=64, ms=9.0, ratio=ratio))
        return Size(runnable=1, transport=1, zeros=0, parameters=1, macs=1, nonzero_macs=1, times=times)

    def told(*ratios: float) -> str:
        points = [point("a", 0.9, recipe="a", x=1.0, size=timed(1.01)),
                  *(point("b", 0.9, recipe=f"b{r}", x=2.0, size=timed(r)) for r in ratios)]  # fmt: skip
        return " ".join(answer(finding(points, [], x="bytes", curves=True)))

    assert "Latency at batch 64, as a share of the baseline's: a 1.01 and b 0.28 to 0.69." in told(0.69, 0.28)
    assert "Latency" not in told(0.98, 0.91)


def test_curves_that_never_meet_say_so():
    told = answer(finding([point("a", 0.9, x=10.0), point("b", 0.9, x=20.0)], [], x="bytes", curves=True))
    assert told[0] == "b and a never have bytes within 3 %: no difference can be told."


@pytest.fixture(scope="module")
def page() -> str:
    return render(trials(), STUDY)


def test_the_page_answers_above_the_table(page):
    at = [page.index(text) for text in ('id="questions"', "Which one?", "How small?", 'id="table"')]
    assert at == sorted(at)
    payload = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert set(payload["questions"]) == {"0-0", "0-1", "1-0"}
    for figure in payload["questions"].values():
        assert go.Figure(figure).data
    for name in payload["questions"]:
        assert f'data-question="{name}"' in page
    for q in questions(STUDY, trials()):
        assert all(sentence.split(" (")[0] in page.replace("&#39;", "'") for sentence in q.answer)


def test_a_study_without_questions_has_no_section():
    assert 'id="questions"' not in render(trials(recipes=RECIPES[:2]), DESCRIPTION)


def test_without_predictions_the_caption_says_what_the_intervals_lack(page):
    assert "the predictions are gone" in page


def test_what_is_no_comparison_is_left_out():
    assert asked(
        {"comparisons": [3, {"question": "?"}, {"question": "?", "arms": {"a": "", "b": 3}}, *COMPARISONS[:1]]}
    )[0].arms
    assert asked({"comparisons": EVIL}) == asked({}) == []


def run_folder(path, study=STUDY):
    with Store(path / "study.db") as store:
        for trial in trials():
            store.add(trial)
        store.set_description(json.dumps(study))
    return path


def test_markdown_has_the_same_numbers_and_its_pictures(tmp_path):
    out = write(run_folder(tmp_path), tmp_path / "docs" / "small.md")
    text = out.read_text(encoding="utf-8")
    assert sorted(p.name for p in out.parent.iterdir()) == ["small-1.svg", "small-2.svg", "small.md"]
    for q in questions(STUDY, trials(), tmp_path):
        for table in q.tables:
            for column in table.columns:
                assert f"| {column.title} |" in text.replace("\\", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 * (1 + 4) + 2 * (1 + 4)
    assert len({line.count(" | ") for line in rows}) <= 4  # two tables a question, every row of one width


@pytest.mark.parametrize("name", ["my study (1)", "b]ch äé", "50 % (a)", "plain"])
def test_the_links_to_pictures_hold_for_any_name(tmp_path, name):
    out = write(run_folder(tmp_path), tmp_path / "docs" / f"{name}.md")
    links = re.findall(r"^!\[[^\]]*\]\((.*)\)$", out.read_text(encoding="utf-8"), re.MULTILINE)
    assert [unquote(link) for link in links] == [f"{name}-1.svg", f"{name}-2.svg"]
    assert all((out.parent / unquote(link)).is_file() and not re.search(r"[\s()<>]", link) for link in links)


def test_pictures_are_the_same_every_time(tmp_path):
    run = run_folder(tmp_path)
    one, two = (write(run, tmp_path / name / "a.md") for name in ("x", "y"))
    for name in ("a-1.svg", "a-2.svg"):
        assert (one.parent / name).read_bytes() == (two.parent / name).read_bytes()


def test_markdown_of_a_study_that_asks_nothing_is_refused(tmp_path):
    with pytest.raises(BadStudy, match="asks no questions"):
        write(run_folder(tmp_path, DESCRIPTION), tmp_path / "a.md")
    assert not (tmp_path / "a.md").exists()


def test_texts_from_users_stay_text(tmp_path):
    evil = [{"question": EVIL, "arms": {EVIL: ["Int8()"], f"{EVIL}2": [RECIPES[2]]}, "x": ""}]
    study = {**DESCRIPTION, "name": EVIL, "comparisons": evil}
    page = render(trials(), study)
    assert "<img" not in page.replace("\\u003cimg", "") and "{{ 7*7 }}" in page
    text = write(run_folder(tmp_path, study), tmp_path / "a.md").read_text(encoding="utf-8")
    assert "<img" not in text and "\n# {" not in text and "](b)" not in text.replace("\\]", "")
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| ")}) <= 2
    assert "<img" in plain(questions(study, trials()))  # a terminal knows no tags


def test_the_scale_of_scores_tells_99_from_98_as_90_from_80():
    assert scores.wrong(0.98, 100) == pytest.approx(2.0) and scores.wrong(1.0, 100) == 0.5
    low, high = scores.span([1.0, 50.0])
    marks, labels = scores.ticks(low, high)
    assert labels == ["99", "98", "95", "90", "80", "50"] and marks == [1, 2, 5, 10, 20, 50]
    for low, high in ((2.0, 2.4), (0.5, 1.4), (30.0, 45.0)):
        marks, labels = scores.ticks(low, high)
        assert 2 <= len(marks) <= 8 and all(low <= mark <= high for mark in marks)


def test_the_trainings_behind_a_ticket_are_drawn():
    curves = [{"arm": arm, "repeat": 0, "first_epoch": 1, "scores": [0.5, 0.5 + step]}
              for arm, step in (("dense", 0.4), ("round 1", 0.3), ("re-initialized", 0.2))]  # fmt: skip
    rows = trials(recipes=RECIPES[:3])
    last = rows[-1].records[-1].model_copy(update={"details": {"curves": curves}})
    rows[-1] = rows[-1].model_copy(update={"records": (*rows[-1].records[:-1], last)})
    lines = {line.recipe: line for line in summarize(rows).lines}
    figure = trainings(lines[RECIPES[2]])
    assert figure is not None and [t["name"] for t in go.Figure(figure).data] == ["dense", "round 1", "re-initialized"]
    assert figure["data"][0]["y"] == pytest.approx([50.0, 10.0])
    assert trainings(lines["Int8()"]) is None


def test_thirty_six_arms_look_different():
    assert len({look(i) for i in range(36)}) == 36
    assert len({tuple(question_figures.style(i).values()) for i in range(36)}) == 36

"""Laws, budgets and classes on the page, in Markdown and in words."""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go
import pytest
from fake_study import DESCRIPTION, RECIPES, trials

from lessen.analyze.best import Best, Value
from lessen.analyze.budgets import Budget, Choice
from lessen.analyze.classes import Classes, Recall, Uneven
from lessen.analyze.findings import Contrast, Finding
from lessen.analyze.points import Point, spread
from lessen.analyze.scaling import SURE, Fit, Held, Law, Price
from lessen.report import html, law_figures, markdown, words
from lessen.report.answers import answer
from lessen.report.axes import axis
from lessen.report.captions import caption
from lessen.report.questions import Question, questions

COMPARISONS = [
    {"question": "Law?", "x": "bits", "by": "law",
     "arms": {"channels": [RECIPES[2], RECIPES[4], RECIPES[5]], "rank": [RECIPES[6], RECIPES[7], RECIPES[10]]}},
    {"question": "Budget?", "x": "bytes", "by": "budget",
     "arms": {"channels": [RECIPES[4], RECIPES[5]], "rank": [RECIPES[6], RECIPES[7]]}},
    {"question": "Class?", "by": "class", "arms": {"dense": "", "int8": RECIPES[1]}},
]  # fmt: skip


def point(arm: str, x: float, mean: float, recipe: str) -> Point:
    return Point(
        arm=arm, recipe=recipe, seeds=(0, 1), failed=0, x=x, xs=(x, x), validation=spread([mean, mean]),
        test=spread([mean, mean]), interval=(mean - 0.01, mean + 0.01), unsteadiness=None, recovery=(), effort=None,
        size=None, course=(),
    )  # fmt: skip


def finding(points, **more) -> Finding:
    fields = {"x": "", "curves": bool(more.get("x")), "contrasts": (), "losses": (), "baseline": None, "alone": ()}
    return Finding(question="?", arms=tuple(dict.fromkeys(p.arm for p in points)), points=tuple(points),
                   **{**fields, **more})  # fmt: skip


def held(budget: float, arm: str, share: float, rivals: tuple[str, ...] = ()) -> Held:
    errors = {"4 bits": 0.1, "8 bits": 0.2, "2 bits": 0.3}
    return Held(budget=budget, arm=arm, share=share, sure=share >= SURE, errors=errors, rivals=rivals)


def a_law() -> Finding:
    fits = (
        Fit(arm="4 bits", sizes=5, why="", a=900, b=1, c=0.01, low=0.8, high=1.3, miss=0.08, explains=0.98, floor=True),
        Fit(arm="8 bits", sizes=3, why="", a=900, b=2, c=0, low=1.6, high=2.4, miss=0.02, explains=0.98),
        Fit(arm="2 bits", sizes=2, why="a curve needs 3 sizes or more, and 2 finished"),
    )
    prices = (Price(arm="4 bits", bits=2e4, low=1.8e4, high=2.2e4), Price(arm="8 bits", bits=3e4, low=2e4, high=None))
    front = (held(1e4, "4 bits", 0.97), held(2e4, "4 bits", 0.6, ("8 bits",)), held(4e4, "8 bits", 1.0))
    points = [point(arm, x, 0.9, f"{arm}{x}") for arm in ("4 bits", "8 bits", "2 bits") for x in (1e4, 4e4)]
    return finding(
        points, x="bits", by="law", law=Law(fits=fits, front=front, seeds=5, images=100, level=0.07, prices=prices)
    )


def test_a_law_is_told_with_what_is_not_sure():
    told = " ".join(answer(a_law())).replace(words.THIN, " ")
    assert "the least error is that of 4 bits up to 20.0 kbit and 8 bits beyond. This is sure at 2 of 3 budgets" in told
    assert "To come down to 7.0 % wrong answers takes 20.0 kbit with 4 bits (95 % 18.0 to 22.0 kbit) and" in told
    assert "30.0 kbit with 8 bits (95 % not reached in some resamples)." in told
    assert "The resamples allow 2 bits nowhere and 8 bits only from 20.0 kbit on." in told
    assert "b = 1.00 (95 % 0.80 to 1.30) with 4 bits and 2.00 (95 % 1.60 to 2.40) with 8 bits" in told
    assert "errors lie 2 to 8 % off these curves. Some of these exponents differ plainly." in told
    assert "No law can be told for 2 bits (a curve needs 3 sizes or more, and 2 finished)." in told


def test_arms_that_take_turns_are_counted():
    f = a_law()
    turns = tuple(held(1e4 * 2**i, arm, 0.5) for i, arm in enumerate(("4 bits", "8 bits", "4 bits")))
    told = answer(f.model_copy(update={"law": f.law.model_copy(update={"front": turns})}))[0]
    assert "is that of 4 bits at 2 of 3 budgets and 8 bits at 1. This is sure at none of 3 budgets" in told


def test_a_law_of_one_seed_claims_nothing_sure():
    f = a_law()
    one = f.law.model_copy(
        update={"seeds": 1, "front": tuple(h.model_copy(update={"sure": False}) for h in f.law.front)}
    )
    told = " ".join(answer(f.model_copy(update={"law": one}))).replace(words.THIN, " ")
    assert "is that of 4 bits up to 20.0 kbit and 8 bits beyond, by this one seed." in told
    assert "This is sure" not in told and "The resamples allow" not in told
    assert told.endswith("so nothing here is sure.")


def test_a_law_of_nothing_says_so():
    assert answer(finding([point("a", 1.0, 0.9, "a")], x="bits", by="law"))[0].startswith("Nothing can be said yet")


def test_the_laws_tables_and_its_picture_have_the_same_numbers():
    q = Question(a_law(), (), 100, 100)
    curves, front = q.grids
    cells = {name: [c.text for c in cells] for name, cells in curves.rows}
    assert cells["4 bits"] == [
        "5",
        "1.00",
        f"x{words.THIN}0.50",
        f"1.0{words.THIN}%",
        f"8{words.THIN}%",
        f"98{words.THIN}%",
    ]
    assert cells["8 bits"][3] == words.DASH and cells["2 bits"][1] == "no law"  # three sizes tell no floor
    assert [row[1][0].text for row in front.rows] == ["4 bits", "4 bits", "8 bits"]
    assert front.rows[1][1][0].below == "or 8 bits" and front.rows[0][1][1].below == "sure"
    assert {c.title for t in q.tables for c in t.columns}.isdisjoint({"p (Holm)", "to 4 bits"})
    ((_, figure),) = q.figures
    drawn = [t for t in go.Figure(figure).data if t.mode == "lines" and t.name == "4 bits"]
    assert len(drawn[0].x) == law_figures.STEPS and drawn[0].y[0] == pytest.approx(100 * (900 / 1e4 + 0.01))
    assert [s["opacity"] for s in figure["layout"]["shapes"]] == [1, law_figures.FAINT, 1]


def test_the_strip_reaches_half_way_to_the_next_budget():
    f = a_law()
    scale = axis(f)
    ends = [(low, high) for low, high, _ in law_figures.spans(f.law.front, scale)]
    assert ends[0] == pytest.approx((1e4, 2e8**0.5)) and ends[-1][1] == pytest.approx(scale.high)


def test_budgets_are_told_in_words_and_a_table():
    points = [point("uniform", 2000, 0.5, "Int2()"), point("uniform", 4000, 0.9, "Int4()"),
              point("mixed", 2000, 0.8, "M2"), point("mixed", 4000, 0.91, "M4")]  # fmt: skip
    common = {"arm": "mixed", "low": 0.0, "high": 0.4, "smallest": 0.02, "p": 0.01, "p_holm": 0.02, "seeds": 2,
              "images": 100}  # fmt: skip
    contrasts = (Contrast(recipe="M2", against="Int2()", value=0.3, clear=True, **common),
                 Contrast(recipe="M4", against="Int4()", value=0.01, clear=False, **common))  # fmt: skip
    budgets = tuple(
        Budget(at=at, choices=(Choice(arm="uniform", recipe=a), Choice(arm="mixed", recipe=b)))
        for at, a, b in ((2000, "Int2()", "M2"), (3000, "Int2()", "M2"), (4000, "Int4()", "M4"))
    )
    f = finding(points, x="bytes", by="budget", contrasts=contrasts, budgets=budgets)
    told = answer(f)[0].replace(words.THIN, " ").replace(words.HARD, " ")
    assert told.startswith(
        "Within the same bytes (3 budgets), mixed against uniform: clearly higher at 2.00 kB to 3.00 kB"
    )
    assert "(by 30.0 points); not clearly different at 4.00 kB (a true difference below 2.0 points" in told
    (grid,) = Question(f, (), 100, 100).grids
    assert [c.text.replace(words.THIN, " ") for c in grid.rows[0][1]] == [
        "mixed", "50.0 ± 0.0 %", "80.0 ± 0.0 %"
    ]  # fmt: skip
    assert grid.rows[1][1][2].below == "+30.0, 0.0 to +40.0, clear"


def of_classes(clear: bool, most: float = -0.3) -> Finding:
    def recall(arm: str, label: int, value: float, known: bool) -> Recall:
        return Recall(label=label, arm=arm, recall=0.9 + value, value=value, low=value - 0.1, high=value + 0.1,
                      p_holm=0.5, clear=known)  # fmt: skip

    found = Classes(
        images={0: 40, 1: 60}, names=("cat", "dog"), seeds=5,
        uneven=(Uneven(arm="b", p=0.01 if clear else 0.4, clear=clear),),
        recalls=(recall("a", 0, 0.0, False), recall("a", 1, 0.0, False), recall("b", 0, -0.02, False),
                 recall("b", 1, most, clear)),
    )  # fmt: skip
    contrast = Contrast(arm="b", recipe="b", against="a", value=-0.1, low=-0.2, high=-0.05, smallest=0.02, p=0.01,
                        p_holm=0.01, clear=True, seeds=5, images=100)  # fmt: skip
    points = [point("a", 0, 0.9, "a"), point("b", 0, 0.8, "b")]
    return finding(points, by="class", classes=found, contrasts=(contrast,))


def test_classes_that_lose_are_named():
    told = " ".join(answer(of_classes(True)))
    assert (
        "b changes the recall of class dog by -30.0 points (95 % -40.0 to -20.0): clear after correction over 2 tests."
        in told
    )
    assert "Some classes lose more than others with b (p = 0.01)." in told and "cat" not in told
    assert "lessen inspect MODEL --sensitivity bits" in told


def test_where_classes_do_not_differ_it_is_said():
    told = " ".join(answer(of_classes(False, -0.05)))
    assert "No class plainly falls or rises, against a, with b (at most class dog by -5.0 points" in told
    assert "Whether some lose more than others is not clear with b (p = 0.4)." in told


def test_a_class_that_correction_takes_is_not_called_level():
    told = " ".join(answer(of_classes(False)))
    assert "class dog by -30.0 points (95 % -40.0 to -20.0): by the interval alone, not clear after correction" in told
    assert "plainly" not in told


def test_classes_are_a_table_and_a_picture():
    q = Question(of_classes(True), (), 100, 100)
    (grid,) = q.grids
    assert [name for name, _ in grid.rows] == ["cat (40 images)", "dog (60 images)"]
    assert grid.rows[1][1][1].below == "-30.0, -40.0 to -20.0, clear"
    (title, figure), _ = q.figures
    (trace,) = go.Figure(figure).data
    assert title == "Recall by class" and list(trace.y) == pytest.approx([-2, -30])
    assert "by class" in " ".join(answer(finding(q.finding.points, by="class", contrasts=q.finding.contrasts))).lower()


@pytest.mark.parametrize("images, test", [({0: 40, 1: 60}, "a paired t-test"), ({0: 40, 1: 60, 2: 9}, "Friedman's")])
def test_the_caption_names_the_test_of_the_classes(images, test):
    f = of_classes(True)
    found = f.classes.model_copy(update={"images": images})
    assert f"asked of other seeds ({test}" in " ".join(caption(f.model_copy(update={"classes": found})))


def test_all_of_it_stands_on_the_page_and_in_markdown(tmp_path):
    study = {**DESCRIPTION, "comparisons": COMPARISONS}
    found = questions(study, trials())
    assert [q.finding.by for q in found] == ["law", "budget", "class"]
    page = html.render(trials(), study, found=found)
    payload = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert all(go.Figure(figure).data for figure in payload["questions"].values())
    found = (*found[:2], Question(of_classes(True), ("said",), 100, 100))
    out = markdown.write(found, trials(), study, tmp_path / "a.md")
    text = out.read_text(encoding="utf-8")
    assert "| Law | sizes |" in text and "| Bytes at most | best |" in text and "| Class | a | b |" in text
    assert "<svg" in (tmp_path / "a-3.svg").read_text()
    assert '<th scope="col" class="name">Bytes at most</th>' in page


def test_the_best_value_is_told_with_those_it_cannot_be_told_from():
    values = tuple(
        Value(recipe=f"r{x}", x=x, share=share, entropy=x / 10) for x, share in ((1, 0.0), (2, 0.6), (4, 0.4))
    )
    best = Best(arm="plain", values=values, x=2, recipe="r2", low=2, high=4, seeds=3)
    points = [point("plain", v.x, 0.9, v.recipe) for v in values]
    f = finding(points, x="LogitDistill.temperature", by="best", bests=(best,))
    told = " ".join(answer(f)).replace(words.THIN, " ")
    assert "For plain, validation chooses temperature 2 (90.0" in told
    assert "95 % of resamples of 3 seeds choose from 2 to 4)" in told
    (grid,) = Question(f, (), 100, 100).grids
    assert [title for title, _ in grid.heads] == ["chosen", "validation", "test", "entropy"]
    assert [(name, cells[0].text.replace(words.THIN, " "), cells[-1].text) for name, cells in grid.rows] == [
        ("1", "0 %", "0.10"), ("2", "60 %", "0.20"), ("4", "40 %", "0.40"),
    ]  # fmt: skip
    assert grid.rows[1][1][0].below == "best"
    nothing = finding(points, x="LogitDistill.temperature", by="best")
    assert "cannot be told yet" in " ".join(answer(nothing))

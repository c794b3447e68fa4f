from __future__ import annotations

import pytest
from fake_study import trials
from scipy.stats import nct

from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import find
from lessen.analyze.statistics import wilson
from lessen.core.record import Score
from lessen.core.trial import Trial
from lessen.report import brief, render, table, words
from lessen.report.summary import summarize


def scored(
    trial: Trial, validation: float | None, test: float, ratio: float = 1.0, runnable: int | None = None
) -> Trial:
    seen = trial.measurement
    assert seen is not None
    score = None if validation is None else Score(value=validation, low=0.0, high=1.0, n=225)
    size = seen.bytes if runnable is None else seen.bytes.model_copy(update={"runnable": runnable})
    latency = tuple(x.model_copy(update={"ratio": ratio}) for x in seen.latency)
    changed = seen.model_copy(
        update={"validation": score, "test": Score(value=test, low=0, high=1, n=898), "bytes": size, "latency": latency}
    )
    return trial.model_copy(update={"measurement": changed})


def study(rows: list[tuple[str, float, float, float, int]]) -> list[Trial]:
    """(recipe, validation drop of seed 0 and of seed 1, latency ratio, runnable bytes)."""
    base = trials(recipes=("",))
    found = [scored(base[0], 0.98, 0.97, 1.0, 1000), scored(base[1], 0.96, 0.95, 1.0, 1000)]
    for recipe, first, second, ratio, runnable in rows:
        for trial, drop, top in ((base[0], first, 0.98), (base[1], second, 0.96)):
            row = trial.model_copy(update={"recipe": recipe})
            found.append(scored(row, top - drop, top - drop - 0.01, ratio, runnable))
    return found


ROWS = [("A()", 0.004, 0.008, 0.5, 400), ("B()", 0.02, 0.03, 0.2, 100), ("C()", -0.002, 0.0, 0.9, 900)]


def test_numbers_by_hand():
    s = summarize(study(ROWS))
    a = s.lines[1]
    assert (a.number, a.recipe, a.runnable) == (1, "A()", 400)
    assert a.validation and a.validation.mean == pytest.approx((0.976 + 0.952) / 2)
    assert a.drop and a.drop.mean == pytest.approx(0.006)
    assert a.drop.sd == pytest.approx(0.004 / 2**0.5)
    assert a.interval == wilson(round(898 * a.test.mean), 898)  # type: ignore[union-attr]
    # pairs differ by 0.004, 0.01 and 0.002 within recipes: sum of squares / 2 over 3 degrees of freedom
    assert s.freedom == 3
    assert s.spread == pytest.approx(((0.004**2 + 0.01**2 + 0.002**2) / 2 / 3) ** 0.5)
    assert nct.sf(3.1824, 3, s.visible / s.spread * 2**0.5) == pytest.approx(0.8, abs=1e-4)  # t at 97.5 % of 3


def own(rows: list[Trial]) -> list[Trial]:
    """The same rows by a task's own score, their intervals 0.02 to each side."""

    def changed(score: Score) -> Score:
        return Score(value=score.value, low=score.value - 0.02, high=score.value + 0.02, n=score.n, by="F1.score")

    found = []
    for row in rows:
        seen = row.measurement
        update = {"validation": changed(seen.validation), "test": changed(seen.test)} if seen else {}
        found.append(row.model_copy(update={"measurement": seen and seen.model_copy(update=update)}))
    return found


def test_a_tasks_own_score_is_named_and_has_its_own_interval():
    s = summarize(own(study(ROWS)))
    a = s.lines[1]
    assert a.test and a.interval == pytest.approx((a.test.mean - 0.02, a.test.mean + 0.02))
    assert s.own_score == "F1.score" and summarize(study(ROWS)).own_score == ""
    scores = next(g for g in table.groups(s) if "mean ± sd" in g.title)
    assert scores.title == "F1.score, mean ± sd" and "95 % bootstrap interval" in scores.columns[1].hint
    assert words.luck(s)[-1] == "The test split has 898 samples; validation has 225."
    assert "; scores are F1.score; n = 2 seeds" in brief(own(study(ROWS)))


def test_the_page_and_captions_say_so():
    arms = {"a": ["A()"], "b": ["B()"]}
    asked = {"comparisons": [{"question": "Which?", "arms": arms}]}
    for rows, here in ((study(ROWS), False), (own(study(ROWS)), True)):
        page = render(rows, asked)
        assert ("Scores are the task&rsquo;s own, F1.score, not shares of right answers" in page) == here
        assert ("Scores are shares of right answers" in page) != here
        assert ("from the seeds&#39; scores alone, because F1.score is no share of right answers" in page) == here
        assert ("Scores are the task&#39;s own, F1.score, no shares of right answers" in page) == here
        assert ("Wilson" in page) != here


def test_validation_chooses():
    s = summarize(study(ROWS))
    assert {k: v and v.recipe for k, v in s.choice.items()} == {
        "smallest": "A()", "fastest": "A()", "most_accurate": "C()",
    }  # fmt: skip
    assert s.on_front == {1, 2, 3}
    assert summarize(study(ROWS), {"max_drop": 0.05}).choice["smallest"].recipe == "B()"  # type: ignore[union-attr]
    assert summarize(study(ROWS), {"max_bytes": 50}).choice["most_accurate"] is None


def timed(trial: Trial, first: float, second: float) -> Trial:
    """Milliseconds and ratio at batch 64, which is measured first, and at batch 1."""
    seen = trial.measurement
    assert seen is not None
    one = seen.latency[0]
    latency = tuple(
        one.model_copy(update={"batch": b, "median_ms": v, "ratio": v}) for b, v in ((64, first), (1, second))
    )
    return trial.model_copy(update={"measurement": seen.model_copy(update={"latency": latency})})


def test_the_first_batch_size_decides_even_if_it_is_not_the_smallest():
    rows = study([("A()", 0.0, 0.0, 1.0, 500), ("B()", 0.0, 0.0, 1.0, 600)])
    times = {"": (1.0, 1.0), "A()": (1.5, 0.2), "B()": (0.5, 0.9)}
    rows = [timed(t, *times[t.recipe]) for t in rows]
    s = summarize(rows)
    assert s.batches == [64, 1] and [x.batch for x in s.lines[1].speeds] == [64, 1]
    assert s.choice["fastest"].recipe == "B()" and s.choice["smallest"].recipe == "A()"  # type: ignore[union-attr]
    assert summarize(rows, {"max_latency_ms": 1.0}).choice["smallest"].recipe == "B()"  # type: ignore[union-attr]
    told = brief(rows)
    assert "latency at batch 64" in told and "B()" in next(x for x in told.splitlines() if x.startswith("fastest"))
    asked = Comparison(question="?", arms={"a": "A()", "b": "B()"})
    assert [t.batch for t in find(asked, rows).points[0].size.times] == [64, 1]  # type: ignore[union-attr]


def test_test_scores_change_no_choice():
    rows, turned = study(ROWS), []
    for trial in rows:
        seen = trial.measurement
        assert seen is not None
        test = seen.test.model_copy(update={"value": 0.99 if trial.recipe == "B()" else 0.1})
        turned.append(trial.model_copy(update={"measurement": seen.model_copy(update={"test": test})}))
    before, after = summarize(rows), summarize(turned)
    assert after.on_front == before.on_front
    assert [x and x.recipe for x in after.choice.values()] == [x and x.recipe for x in before.choice.values()]


def test_a_recipe_with_a_failed_seed_is_not_recommended():
    rows = study(ROWS)
    rows[3] = rows[3].model_copy(update={"status": "failed", "error": "no", "measurement": None, "records": ()})
    s = summarize(rows)
    assert len(s.lines[1].done) == len(s.lines[1].failed) == 1
    assert s.choice["smallest"].recipe == "C()"  # type: ignore[union-attr]
    assert s.seeds == 1


def test_drops_pair_each_seed_with_its_own_baseline():
    rows = [t for t in study(ROWS) if t.key != ("A()", 0)]
    a = next(line for line in summarize(rows).lines if line.recipe == "A()")
    assert a.drop and a.drop.values == pytest.approx((0.008,))  # not against the mean of both baselines


def test_a_final_study_chooses_nothing():
    rows = [scored(t, None, 0.9) for t in study(ROWS)]
    s = summarize(rows)
    assert s.scored_by == "test"
    assert set(s.choice.values()) == {None}


def test_no_baseline_no_choice():
    s = summarize([t for t in study(ROWS) if t.recipe])
    assert s.baseline is None
    assert set(s.choice.values()) == {None}
    assert summarize([]).lines == ()
